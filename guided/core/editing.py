r"""Where requests start, if not from noise: clean rows, and which of their entries are kept.

Starting from a sample is noising it back to step :math:`k = K - \lfloor K s \rfloor`, for a strength :math:`s`. Keeping
a region of it is replacing the network's clean mean there by the sample itself: a step whose clean mean is the truth
leaves the marginal :math:`\mathcal{N}(\alpha_k x, \sigma_k^2)` of the noised sample as it is, for any eta,
and at eta = 1 draws from :math:`q(x_{k+1} \mid x_k, x)`. So the kept region is the noised sample at every step, as long
as candidates are not selected by it, and at the end the sample itself, up to :math:`\sigma_K`. Look-aheads see
the sample there.

References:
    | SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (Meng et al., 2021)
    | https://arxiv.org/abs/2108.01073
"""

__all__ = ["Editing", "default_strength"]

from dataclasses import dataclass, replace

import torch
from einops import repeat
from torch import Tensor

from guided.core.process import Process
from guided.core.random import Streams
from guided.errors import GuidedError


@dataclass(frozen=True)
class Editing:
    """Clean rows to start from.

    Args:
        x: The rows, with shape `(1, *event)` for all requests or `(B, *event)`.
        strength: The share of the steps that are taken, in (0, 1]; at 1 the free region starts from noise.
        free: Where rows may change, True or False, with a shape that broadcasts to that of `x`; None for everywhere.

    Raises:
        GuidedError: The strength is out of range, or 1 without a mask, or the mask leaves nothing free.
    """

    x: Tensor
    strength: float = 1.0
    free: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise GuidedError(f"strength is {self.strength}; it must be above 0 and at most 1")
        if self.strength == 1 and self.free is None:
            raise GuidedError(
                "strength is 1 and there is no mask: the run would start from noise and ignore the sample"
            )
        if self.free is not None and not self.free.any():
            raise GuidedError("the mask keeps everything: there is nothing to draw")

    def begin(self, K: int) -> int:
        """The first step, of `K`.

        Raises:
            GuidedError: No step is left.
        """
        taken = int(K * self.strength)
        if taken < 1:
            raise GuidedError(
                f"strength {self.strength} of {K} steps leaves none to take; it must be at least {1 / K:g}"
            )
        return K - taken

    def start(self, process: Process, N: int, streams: Streams) -> tuple[Tensor, int]:
        """Draws `N` particles for each request, with shape `(B, N, *event)`, at the first step.

        Returns:
            The particles and the step.
        """
        k, x = self.begin(process.steps), self.x.expand(len(streams), *self.x.shape[1:])
        known = repeat(x, "B ... -> B N ...", N=N)
        if k > 0:
            return process.noise(known, k, streams), k
        new = process.prior(N, streams)
        return self._keep(new, process.noise(known, 0, streams)), 0

    def _keep(self, new: Tensor, old: Tensor) -> Tensor:
        """`new` where it is free and `old` elsewhere; particles with shape `(B, N, *event)`."""
        return new if self.free is None else torch.where(self.free[:, None], new, old)

    def clamp(self, y: Tensor, request: Tensor) -> Tensor:
        """Clean means, with shape `(n, *event)`, of rows of these requests, `(n,)`: the sample where it is kept."""
        if self.free is None:
            return y
        x, free = (rows if len(rows) == 1 else rows[request] for rows in (self.x, self.free))
        return torch.where(free, y, x)

    def select(self, requests: list[int]) -> "Editing":
        """The editing of some of the requests."""
        x = self.x if len(self.x) == 1 else self.x[requests]
        free = self.free if self.free is None or len(self.free) == 1 else self.free[requests]
        return replace(self, x=x, free=free)


def default_strength(masked: bool) -> float:
    """The share of the steps that are taken by default."""
    return 1.0 if masked else 0.8
