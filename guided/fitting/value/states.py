"""The states that a value network is fitted on, and those that are held out."""

__all__ = ["HELD_OUT", "Data"]

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from guided.errors import GuidedError
from guided.fitting.value.regression import finite
from guided.fitting.value.rollouts import Rollouts
from guided.values.posterior_mean import soft_mean

HELD_OUT = 10  # one trajectory in ten is held out


@dataclass(frozen=True)
class Scaled:
    """A network's output as a value, :math:`shift + scale * net`, in double precision."""

    shift: float
    scale: float

    def __call__(self, net: nn.Module, x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """Maps rows, times and prompts, of equal length, to values, on the network's device.

        Raises:
            GuidedError: The output is not one number for each row.
        """
        y = net(x if x.is_floating_point() else x.long(), t, prompt)
        if y.shape != (len(x),):
            raise GuidedError(
                f"the value network returned shape {tuple(y.shape)} for {len(x)} rows; it must be ({len(x)},)"
            )
        return self.shift + self.scale * (y.double() if y.device.type != "mps" else y.float())


@dataclass(frozen=True)
class Data:
    """States, the latest first.

    Attributes:
        x: With shape `(S, *event)`.
        k: Their steps, with shape `(S,)`.
        prompt: The indices of their prompts, with shape `(S,)`.
        r: The rewards at the end of their trajectories, with shape `(S,)`, finite.
        following: Candidates of their next states, with shape `(S, M', *event)`.
        last: The rewards of the candidates at the end of their trajectories, with shape `(S, M')`, finite.
        times: The time of each step, from 1 (noise) to 0 (data), with shape `(K + 1,)`.
        device: The device of the networks.
    """

    x: Tensor
    k: Tensor
    prompt: Tensor
    r: Tensor
    following: Tensor | None
    last: Tensor
    times: Tensor
    device: torch.device

    @classmethod
    def split(
        cls, rollouts: Rollouts, times: Sequence[float], prompts: int, device: torch.device
    ) -> "tuple[Data, Data]":
        """The states to fit on, and those of the trajectories that are held out, one in ten of each prompt.

        Trajectory i has prompt i modulo `prompts`.

        Raises:
            GuidedError: There are fewer than ten trajectories of a prompt, or none with a finite reward.
        """
        if len(rollouts.r) < HELD_OUT * prompts:
            raise GuidedError(
                f"there are {len(rollouts.r)} rollouts; a fit needs at least {HELD_OUT} of each of {prompts} prompts"
            )
        last, out = finite(rollouts.last), rollouts.of // prompts % HELD_OUT == HELD_OUT - 1
        parts = []
        for keep in (~out, out):
            rows = keep.nonzero()[:, 0]
            rows = rows[rollouts.k[rows].argsort(descending=True, stable=True)]
            of = rollouts.of[rows]
            following = None if rollouts.following is None else rollouts.following[rows]
            state = (rollouts.x[rows], rollouts.k[rows], of % prompts, last[of, 0], following, last[of])
            parts.append(cls(*state, torch.tensor(times, dtype=torch.float32, device="cpu"), device))
        return parts[0], parts[1]

    def __len__(self) -> int:
        return len(self.k)

    def open(self, horizon: int) -> int:
        """The number of states at steps from the horizon on; these states come first."""
        return int((self.k >= horizon).sum())

    def value(self, scaled: Scaled, net: nn.Module, rows: Tensor) -> Tensor:
        """The values of some states, with shape `(m,)`."""
        return scaled(net, *self._inputs(self.x[rows], self.k[rows], self.prompt[rows]))

    def values(self, scaled: Scaled, net: nn.Module) -> Tensor:
        """The values of all states, with shape `(S,)`, on the CPU."""
        with torch.no_grad():
            parts = torch.arange(len(self), device="cpu").split(1024)
            return torch.cat([self.value(scaled, net, rows).cpu().double() for rows in parts])

    @torch.no_grad()
    def backup(self, scaled: Scaled, net: nn.Module, rows: Tensor, alpha: float) -> Tensor:
        """The soft mean of the values of each state's candidates, with shape `(m,)`, on the CPU.

        Raises:
            GuidedError: The rollouts have no candidates.
        """
        if self.following is None:
            raise GuidedError("these rollouts have no candidates of the next state; a bootstrapped value needs them")
        v = self.last[rows].clone()
        inner = self.k[rows] < len(self.times) - 2  # candidates at the last step have rewards, and need no network
        if inner.any():
            x, k, prompt = (part[rows[inner]] for part in (self.following, self.k + 1, self.prompt))
            k, prompt = (part.repeat_interleave(v.shape[1]) for part in (k, prompt))
            y = scaled(net, *self._inputs(x.flatten(0, 1), k, prompt))
            v[inner] = y.view(-1, v.shape[1]).cpu().double()
        return soft_mean(v, alpha)

    def _inputs(self, x: Tensor, k: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x.to(self.device), self.times[k].to(self.device), prompt.to(self.device)
