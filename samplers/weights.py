r"""Log-weights of particles whose potentials telescope, in whatever order they are resampled.

A path carries the potential :math:`\lambda_k U_k(x_{0:k})`, which at the last step is :math:`r(x_K) / \alpha`, and
corrections :math:`c_k` of proposals that are not the model's own. Its log-weight is what has come since it was last
resampled, :math:`\lambda_k U_k + c_k - (\lambda_j U_j + c_j)` with the potential at step j of its ancestor. A weight
that is not resampled is kept, so the product over any path is :math:`\exp(r(x_K) / \alpha + c_K)`; and

.. math:: \hat Z = \prod_j \frac{1}{N} \sum_n w_j^{(n)}

over the resamplings and the end is an unbiased estimate of :math:`\mathbb{E}[\exp(r(x_K) / \alpha)]`, whenever it is
decided on the particles at hand whether to resample, and how far :math:`\lambda_k` rises.
"""

__all__ = ["HUGE", "POTENTIALS", "Weights"]

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from guided.core.outputs import gather
from guided.core.resampling import ess

#: :math:`U_k` of the potential before, and the value now. At the last step it is the reward, whatever came before.
POTENTIALS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "difference": lambda before, v: v,
    "max": torch.maximum,
    "sum": lambda before, v: torch.where(before == -torch.inf, v, before + v),
}
HUGE = 1e100  # stands for infinity: such weights are 0 beside others, and differences of them are numbers
HALVINGS = 40


@dataclass(frozen=True)
class Weights:
    """The weights of `N` particles for each of `B` requests, in double precision on the CPU.

    Attributes:
        U: The potentials, with shape `(B, N)`; before the first value they are -inf.
        rise: The inverse temperature of each request, with shape `(B, 1)`.
        total: What a path carries up to now, with shape `(B, N)`.
        paid: What it carried when it was last resampled, with shape `(B, N)`.
        correction: The corrections of the proposals, with shape `(B, N)`.
        log_mean: The log of the product of the mean weights at all resamplings, with shape `(B,)`.
    """

    U: Tensor
    rise: Tensor
    total: Tensor
    paid: Tensor
    correction: Tensor
    log_mean: Tensor

    @classmethod
    def equal(cls, B: int, N: int) -> "Weights":
        """Those at the start."""
        zero = torch.zeros(B, N, dtype=torch.float64, device="cpu")
        return cls(zero - torch.inf, zero[:, :1], zero, zero, zero, zero[:, 0])

    @property
    def log_w(self) -> Tensor:
        """The log-weights since the last resampling, with shape `(B, N)`."""
        return self.total - self.paid

    @property
    def log_Z(self) -> Tensor:
        """The log of the normaliser's estimate, with shape `(B,)`."""
        log_Z = self.log_mean + self.log_w.logsumexp(1) - math.log(self.log_w.shape[1])
        return torch.where(log_Z < -(HUGE**0.5), -torch.inf, log_Z)

    def corrected(self, correction: Tensor) -> "Weights":
        """The weights after proposals with log-ratios, with shape `(B, N)`, of the model's law to theirs."""
        return replace(self, correction=self.correction + correction, total=self.total + correction)

    def weighed(self, U: Tensor, cap: float, target: float = 0.0) -> "Weights":
        """The weights with new potentials.

        Args:
            U: The potentials, with shape `(B, N)`.
            cap: The inverse temperature.
            target: The effective sample size down to which the inverse temperature may rise from the one before; 0
                for any. The largest one is found by bisection.
        """
        rise = torch.full_like(self.rise, cap)
        if target > 0:
            low, high = self.rise, rise
            enough = self._ess(U, high) >= target
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                fine = self._ess(U, middle) >= target
                low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
            rise = torch.where(enough, rise, low)
        return replace(self, U=U, rise=rise, total=_weight(U, rise) + self.correction)

    def _ess(self, U: Tensor, rise: Tensor) -> Tensor:
        return ess(_weight(U, rise) + self.correction - self.paid)[:, None]

    def resampled(self, index: Tensor, low: Tensor) -> "Weights":
        """The weights of the ancestors at `index`, with shape `(B, N)`: equal in the requests that are resampled, those
        with `low`, of shape `(B,)`.
        """
        U, total, paid, correction = (gather(x, index) for x in (self.U, self.total, self.paid, self.correction))
        mean = self.log_w.logsumexp(1) - math.log(self.log_w.shape[1])
        log_mean = self.log_mean + torch.where(low, mean, 0.0)
        return Weights(U, self.rise, total, torch.where(low[:, None], total, paid), correction, log_mean)


def _weight(U: Tensor, rise: Tensor) -> Tensor:
    """What paths carry for their potentials; nothing as long as they have none."""
    return torch.where(U.isneginf(), 0.0, rise * U)
