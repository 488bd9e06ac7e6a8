r"""Direct preference optimization with flipped pairs: training towards samples with low rewards.

With the error :math:`e_\theta(x)` of a network on a noised sample, and the frozen network's :math:`e`, the loss of a
pair is :math:`-\log \sigma(-\frac{\beta}{2} (e_\theta(x_l) - e(x_l) - e_\theta(x_w) + e(x_w)))`, where the *worse*
sample :math:`x_l` takes the place that the better one has in the original.

References:
    | Diffusion-NPO: Negative Preference Optimization for Better Preference Aligned Generation of Diffusion Models
    | (Wang et al., 2025) https://arxiv.org/abs/2505.11245
    | Diffusion Model Alignment Using Direct Preference Optimization (Wallace et al., 2023)
    | https://arxiv.org/abs/2311.12908
"""

__all__ = ["FlippedDPO", "pairs_of"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from guided.core.denoiser import Denoiser
from guided.core.gaussian import Gaussian
from guided.core.guidance import Conditions
from guided.core.masked import SCHEDULES, Masked
from guided.core.random import Streams
from guided.errors import GuidedError, check_number
from guided.fitting.negative.levels import check_kind, training_levels
from guided.fitting.negative.self_npo import dropped

BETA = {"continuous": 2000.0, "masked": 5.0}


@dataclass(frozen=True)
class FlippedDPO:
    """The hyperparameters of the method.

    Args:
        beta: How strongly the student is tied to the teacher. It multiplies the mean square error of the noise, or for
            masked models the mean cross entropy of the masked tokens. None for 2,000, or 5 for masked models.
        T: The number of noise levels that the level is drawn from, for continuous models.
        p: The share of pairs for which both networks get no prompt.

    Raises:
        GuidedError: One is out of range.
    """

    beta: float | None = None
    T: int = 1000
    p: float = 0.0

    name: ClassVar[str] = "Diffusion-NPO (flipped DPO)"
    pairs: ClassVar[bool] = True
    w: ClassVar[float] = 1.0  # the teacher gets the prompt, as the student does

    def __post_init__(self) -> None:
        found: dict[str, Any] = {"T": check_number("T", self.T, int, least=2)}
        found["p"] = check_number("p", self.p, float, least=0, most=1)
        if self.beta is not None:
            found["beta"] = check_number("beta", self.beta, float, above=0)
        self.__dict__.update(found)  # as Python's own numbers, which JSON takes

    def check(self, process: Any) -> None:
        """Checks that the noise levels exist.

        Raises:
            GuidedError: The process is of another kind, or has no `T` levels.
        """
        check_kind(process)
        if isinstance(process, Gaussian):
            training_levels(process, self.T)

    def losses(
        self,
        process: Any,
        student: Denoiser,
        teacher: Denoiser,
        x: Tensor,
        cond: Conditions,
        streams: Streams,
    ) -> Tensor:
        """The loss of each pair, with shape `(n,)`.

        Args:
            process: The reverse chain.
            student: The network that is trained.
            teacher: The same network before training, frozen.
            x: Pairs of clean samples, the better one first, with shape `(n, 2, *event)`.
            cond: Their conditions, with shape `(n, *)`.
            streams: A stream for each pair.
        """
        given = dropped(cond, streams.uniform() < self.p)
        both = {name: c.repeat_interleave(2, 0) for name, c in given.items()}
        error = (_masked if isinstance(process, Masked) else _gaussian)(process, x, self.T, streams)
        with torch.no_grad():
            before = error(teacher, both)
        better, worse = (error(student, both) - before).view(-1, 2).unbind(1)
        beta = self.beta or BETA["masked" if isinstance(process, Masked) else "continuous"]
        return -F.logsigmoid(-0.5 * beta * (worse - better))


def _gaussian(process: Any, x: Tensor, T: int, streams: Streams) -> Any:
    """Maps a denoiser to the mean square error of the noise, `(2 n,)`; a pair shares its time and noise."""
    levels = training_levels(process, T)
    k = (streams.uniform() * len(levels.times)).long()
    alpha, sigma, t = levels.at(k, x)
    noisy = (alpha * x + sigma * streams.normal(1, *x.shape[2:])).flatten(0, 1)
    clean, t = x.flatten(0, 1), t.repeat_interleave(2)
    weight = (alpha / sigma).square().flatten().repeat_interleave(2)
    return lambda net, cond: weight * (net(noisy, t, **cond) - clean).square().flatten(1).mean(1)


def _masked(process: Any, x: Tensor, T: int, streams: Streams) -> Any:
    """Maps a denoiser to the mean cross entropy of the masked tokens, `(2 n,)`; a pair shares its masks."""
    t = 1 - streams.uniform()  # in (0, 1]
    rate = torch.tensor([SCHEDULES[process.schedule](float(s)) for s in t], device=x.device)
    hidden = (streams.uniform(1, x.shape[-1]) < rate.view(-1, 1, 1)).expand(x.shape).flatten(0, 1)
    clean, t = x.flatten(0, 1), t.repeat_interleave(2)
    noisy = torch.where(hidden, process.mask, clean)

    def error(net: Denoiser, cond: Mapping[str, Tensor]) -> Tensor:
        entropy = -net(noisy, t, **cond).gather(-1, clean[..., None])[..., 0]
        return torch.where(hidden, entropy, 0.0).sum(1) / hidden.sum(1).clamp(min=1)

    return error


def pairs_of(rewards: Tensor, groups: Sequence[int]) -> Tensor:
    """Pairs of samples of the same group, the better one first: the i-th of the better half with the i-th of the worse.

    Args:
        rewards: Rewards with shape `(n,)`; those that are not finite count as worst.
        groups: The group of each sample, its prompt.

    Returns:
        Positions with shape `(pairs, 2)`.

    Raises:
        GuidedError: There is no pair with two different rewards.
    """
    r = torch.where(rewards.isfinite(), rewards, -torch.inf)
    found = []
    for group in sorted(set(groups)):
        members = [i for i, other in enumerate(groups) if other == group]
        order = sorted(members, key=lambda i: (-r[i].item(), i))
        half = len(order) // 2
        worse = order[len(order) - half :]
        found += [(a, b) for a, b in zip(order[:half], worse, strict=True) if r[a] > r[b]]
    if not found:
        raise GuidedError(
            f"no two of the {len(groups)} samples have the same prompt and different rewards; draw more of them (n)"
        )
    return torch.tensor(found, device="cpu")
