r"""Reverse-time processes: how a diffusion model moves, given its denoiser's output.

A process is a Markov chain :math:`x_0, x_1, \dots, x_K` from noise (:math:`k = 0`) to data (:math:`k = K`) whose
kernels :math:`p(x_{k+1} \mid x_k, y_k)` depend on the network only through its output :math:`y_k = f_\theta(x_k, t_k)`.
Three of them, :class:`~guided.core.gaussian.Gaussian`, :class:`~guided.core.masked.Masked` and
:class:`~guided.core.graphs.Graphs`, cover the continuous models, the discrete ones, and those of graphs.
"""

__all__ = ["Process", "check_steps"]

from typing import Any, Protocol

from torch import Tensor

from guided.core.random import Streams
from guided.errors import check_number


class Process(Protocol):
    """The reverse chain, with no network inside."""

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of a row."""
        ...

    @property
    def tokens(self) -> int | None:
        """The number of tokens that a state is made of, the mask included; None where states are real numbers."""
        ...

    @property
    def fixed(self) -> Tensor | None:
        """Tokens that are pinned, with shape `(L,)`, or `(B, L)` for each request; None where there are none."""
        ...

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of the network's output for one row."""
        ...

    @property
    def predicts(self) -> str:
        """What the network's output must be, in words."""
        ...

    @property
    def distribution(self) -> dict[str, Any]:
        """All that samples depend on besides the number of steps, JSON-able."""
        ...

    @property
    def steps(self) -> int:
        """The number of steps `K`."""
        ...

    def stochastic(self, k: int) -> bool:
        """Whether two candidates of one particle can differ after the step from `k` to `k + 1`."""
        ...

    def time(self, k: int) -> float:
        """The time at step `k`, as the network wants it."""
        ...

    def prior(self, N: int, streams: Streams) -> Tensor:
        """Draws `N` of `x_0` for each request, with shape `(B, N, *event)`."""
        ...

    def propose(self, x: Tensor, y: Tensor, k: int, M: int, streams: Streams) -> Tensor:
        """Draws `M` of `x_{k+1}` for each `x_k`: `(B, N, *event)` to `(B, N * M, *event)`."""
        ...

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        """The clean sample that the network's output points to: rows `(n, *event)` to `(n, *event)`."""
        ...

    def draw(self, x: Tensor, y: Tensor, draws: int, streams: Streams) -> Tensor:
        """Clean samples from the network's one-step distribution: `(B, N, *event)` to `(B, N * draws, *event)`."""
        ...

    def noise(self, x: Tensor, k: int, streams: Streams) -> Tensor:
        """Draws `x_k` given clean samples, with shape `(B, N, *event)`."""
        ...

    def remask(self, x: Tensor, where: Tensor) -> Tensor:
        """Masks tokens of clean samples again, where they are not pinned; both with shape `(B, N, L)`.

        Raises:
            GuidedError: It has no tokens.
        """
        ...

    def distinct(self, x: Tensor, group: Tensor | None = None, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Which to keep of rows `(n, *event)`, once each where rows can be equal.

        Args:
            x: The rows.
            group: The group of each row, with shape `(n,)`; rows of different groups are different.
            among: Which of the rows count, with shape `(n,)`; None for all.

        Returns:
            The positions `first` of the rows that are kept, with shape `(u,)`, and `inverse`, with shape `(n,)`, such
            that `x == x[first][inverse]` for the rows that count.
        """
        ...

    def changed(self, x: Tensor, parents: Tensor) -> Tensor:
        """Which rows `(n, *event)` may differ from their parents, with shape `(n,)`."""
        ...

    def with_steps(self, K: int) -> "Process":
        """The same process on another grid."""
        ...

    def strided(self, k: int, steps: int, drawn: bool = True) -> "Process":
        """The rest of the chain, from step `k` to the end, in so many steps of about equal length.

        Args:
            k: The step that becomes the first.
            steps: The number of steps, at most `K - k`.
            drawn: Whether they have noise, where a step can be without.

        Raises:
            GuidedError: Its steps cannot be made longer.
        """
        ...

    def pinned(self, fixed: Tensor) -> "Process":
        """The same process with pinned tokens, `(L,)` or `(B, L)`.

        Raises:
            GuidedError: It has no tokens, or these do not fit.
        """
        ...

    def select(self, requests: list[int]) -> "Process":
        """The same process for some of the requests; it differs where requests have pinned tokens of their own."""
        ...


def check_steps(K: Any) -> int:
    """`K` itself.

    Raises:
        GuidedError: It is not a whole number, below 1, or above a million, which no run would finish.
    """
    return check_number("steps", K, int, least=1, most=10**6)
