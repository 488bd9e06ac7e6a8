r"""Schedulers of diffusers as arrays: the levels of noise that a network knows, and the grid of a run.

A scheduler defines the noise at its network's time :math:`t`: for a diffusion by `alphas_cumprod` (DDPM, DDIM, PNDM
and, as :math:`\sigma / \alpha`, Euler, DPM-Solver, UniPC), for a flow by :math:`\alpha = 1 - t / N, \sigma = t / N`
(Mochi: the other way around), for Stable Audio by :math:`\sigma / \alpha = \tan(\pi t / 2)`.
The grid of a number of steps is that of `set_timesteps`: leading, trailing or linspace, Karras sigmas, shifts. The
scheduler's solver is not used: steps are those of :class:`guided.core.gaussian.Gaussian`, which need no history and
branch freely.
"""

__all__ = ["Angles", "Levels", "grid", "grid_of"]

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guided.core.gaussian import Grid
from guided.errors import GuidedError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """The pair alpha, sigma of a network's time; between whole times sigma / alpha is interpolated as in diffusers.

    Args:
        ratios: sigma / alpha at the times `0..N-1` of a diffusion, infinite where no data is left; None for a
            flow of `steps` times.
        steps: The number of times `N` that the network was trained with.
        logarithmic: Whether the logarithm is interpolated, as for Karras sigmas.
        reversed: Whether the times of a flow run from noise to data, and its network predicts data less noise.
    """

    ratios: Tensor | None
    steps: int
    logarithmic: bool = False
    reversed: bool = False
    _copies: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, scheduler: Any) -> "Levels":
        """The levels of a scheduler.

        Raises:
            GuidedError: Its levels are not supported.
        """
        config, name = scheduler.config, type(scheduler).__name__
        steps = int(config.get("num_train_timesteps", 1000))
        if config.get("timestep_type", "discrete") == "continuous":
            raise GuidedError(f"{name} has no usable grid: its network takes noise levels, not times (continuous)")
        if name.startswith("FlowMatch") or config.get("use_flow_sigmas", False):
            return cls(None, steps, reversed=bool(config.get("invert_sigmas", False)))
        if name == "CosineDPMSolverMultistepScheduler":
            return Angles.of(scheduler)
        kept = getattr(scheduler, "alphas_cumprod", None)
        if kept is None or name.startswith("EDM"):
            raise GuidedError(f"{name} has no usable grid: it has neither alphas_cumprod nor the sigmas of a flow")
        kept = kept.double().cpu()
        spread = any(
            config.get(f"use_{spacing}_sigmas", False) for spacing in ("karras", "exponential", "beta", "lu_lambdas")
        )
        return cls(((1 - kept) / kept).sqrt(), steps, spread)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, with shape `(n,)` each, at times `(n,)`."""
        if self.ratios is None:
            share = t / self.steps
            return (share, 1 - share) if self.reversed else (1 - share, share)
        ratio = self.between(t)
        alpha = (1 + ratio**2).rsqrt()
        sigma = torch.where(ratio.isinf(), 1.0, ratio * alpha)
        return alpha.float(), sigma.float()

    def between(self, t: Tensor) -> Tensor:
        """Sigma / alpha of a diffusion, with shape `(n,)`, at times `(n,)`."""
        ratios = self._on(t.device)
        t = t.to(ratios.dtype).clamp(0, len(ratios) - 1)
        low = t.floor().long()
        high, share = (low + 1).clamp(max=len(ratios) - 1), t - low
        a, b = ratios[low], ratios[high]
        mixed = (a.log() * (1 - share) + b.log() * share).exp() if self.logarithmic else a + share * (b - a)
        return torch.where(share > 0, mixed, a)

    def _on(self, device: torch.device) -> Tensor:
        """The known levels on a device; they are copied once, as the host waits for a copy."""
        assert self.ratios is not None
        if device not in self._copies:
            self._copies[device] = self.ratios.to(device, torch.float32 if device.type == "mps" else self.ratios.dtype)
        return self._copies[device]

    def trained(self, T: int) -> Grid:
        """`T` levels evenly over the times of a diffusion's network, the noisiest first, and the data."""
        times = torch.linspace(self.steps - 1, 0, T, dtype=torch.float64, device="cpu")
        alphas, sigmas = self(times)
        return [*alphas.tolist(), 1.0], [*sigmas.tolist(), 0.0], [*times.tolist(), 0.0]

    def times(self, ratios: Array) -> Array:
        """The times at which sigma / alpha, of a diffusion, or sigma, of a flow, is as given."""
        if self.ratios is None:
            return (1 - ratios if self.reversed else ratios) * self.steps
        known = self.ratios.numpy()
        f = np.log if self.logarithmic else np.asarray
        return np.interp(f(ratios), f(known), np.arange(len(known)))


@dataclass(frozen=True)
class Angles(Levels):
    r"""Levels whose time is an angle, :math:`\sigma / \alpha = \tan(\pi t / 2)` at times from 0 to 1.

    References:
        | Stable Audio Open (Evans et al., 2024)
        | https://arxiv.org/abs/2407.14358
    """

    @classmethod
    def of(cls, scheduler: Any) -> "Angles":
        for key, value in (("sigma_data", 1), ("prediction_type", "v_prediction")):
            if scheduler.config[key] != value:
                name, given = type(scheduler).__name__, scheduler.config[key]
                raise GuidedError(f"{name} has no usable grid: its {key} is {given!r}; it must be {value!r}")
        return cls(torch.tensor([0.0, torch.inf], dtype=torch.float64, device="cpu"), 1)

    def between(self, t: Tensor) -> Tensor:
        exact = t if t.device.type == "mps" else t.double()
        return (exact.clamp(0, 1) * (math.pi / 2)).tan()

    def times(self, ratios: Array) -> Array:
        return np.arctan(ratios) * (2 / math.pi)


def grid(scheduler: Any, levels: Levels, timing: Callable[[int], Mapping[str, Any]]) -> Callable[[int], Grid]:
    """Maps a number of steps to the scheduler's alphas, sigmas and times.

    Args:
        scheduler: Of diffusers; it is not changed.
        levels: Its levels.
        timing: The other arguments of `set_timesteps`, such as the shift of a resolution.
    """

    def of(K: int) -> Grid:
        own = copy.deepcopy(scheduler)
        with _usable(scheduler, K):
            own.set_timesteps(K, **timing(K))
        return grid_of(own, levels, K)

    return of


def grid_of(scheduler: Any, levels: Levels, K: int) -> Grid:
    """The alphas, sigmas and times of a scheduler whose `K` timesteps are set.

    Raises:
        GuidedError: They cannot be stepped over.
    """
    with _usable(scheduler, K):
        make = _flow if levels.ratios is None else _ratios if hasattr(scheduler, "sigmas") else _kept
        alphas, sigmas, times = make(scheduler, levels)
    _check(type(scheduler).__name__, alphas, sigmas, times, K)
    return alphas.tolist(), sigmas.tolist(), times.tolist()


@contextmanager
def _usable(scheduler: Any, K: int) -> Iterator[None]:
    """Turns errors of a scheduler into one line."""
    try:
        yield
    except GuidedError:
        raise
    except (ValueError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise GuidedError(f"{type(scheduler).__name__} has no usable grid of {K} steps: {error}") from error


def _check(name: str, alphas: Array, sigmas: Array, times: Array, K: int) -> None:
    falling = sigmas[:-1] * alphas[1:] > sigmas[1:] * alphas[:-1]  # in sigma / alpha, where alpha may be 0
    if sigmas[0] < alphas[0]:
        raise GuidedError(
            f"{name} has no usable grid of {K} steps: it starts at time {times[0]:g}, where there is less noise "
            "than data; take more steps, or timestep_spacing 'trailing'"
        )
    if len(times) != K + 1 or not falling.all():
        raise GuidedError(
            f"{name} has no usable grid of {K} steps: its noise levels must fall at each of them; "
            "take fewer steps, or another scheduler (DDIMScheduler, EulerDiscreteScheduler)"
        )


def _kept(scheduler: Any, levels: Levels) -> tuple[Array, Array, Array]:
    """The grid of schedulers with `alphas_cumprod` only; some repeat a time for their solver."""
    times = np.array(list(dict.fromkeys(scheduler.timesteps.tolist())), dtype=np.float64)
    kept = scheduler.alphas_cumprod.double().cpu().numpy()[times.astype(int)]
    last = getattr(scheduler, "final_alpha_cumprod", None)
    last = 1.0 if last is None or float(last) <= kept[-1] else float(last)  # a step that changes nothing is left out
    kept = np.append(kept, last)
    return np.sqrt(kept), np.sqrt(1 - kept), np.append(times, 0.0)


def _ratios(scheduler: Any, levels: Levels) -> tuple[Array, Array, Array]:
    """The grid of schedulers with sigma / alpha, at their own whole times where those are exact."""
    ratios = scheduler.sigmas.double().cpu().numpy()
    own = scheduler.timesteps.double().cpu().numpy()
    times, known = levels.times(ratios[:-1]), levels.ratios
    if known is not None and ratios[0] > 1.001 * known.max():
        name, most = type(scheduler).__name__, float(known.max())
        raise GuidedError(f"{name} starts at sigma {ratios[0]:g}, and the network was trained to {most:g}")
    if len(own) == len(times):
        exact = np.isclose(levels.between(torch.from_numpy(own)).numpy(), ratios[:-1], rtol=1e-5, atol=0)
        times = np.where(exact, own, times)
    alphas = 1 / np.sqrt(1 + ratios**2)
    return alphas, ratios * alphas, np.append(times, 0.0)


def _flow(scheduler: Any, levels: Levels) -> tuple[Array, Array, Array]:
    sigmas = scheduler.sigmas.double().cpu().numpy()
    sigmas = 1 - sigmas if levels.reversed else sigmas
    return 1 - sigmas, sigmas, levels.times(sigmas)
