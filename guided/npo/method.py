"""What a training learns by: the interface that Self-NPO and flipped DPO share, and that another method would have."""

__all__ = ["Method"]

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from guided.network import Denoiser
from guided.streams import Streams


class Method(Protocol):
    """A frozen dataclass of letters.

    Attributes:
        name: As the card says it.
        pairs: Whether it learns from pairs of samples that a reward has ranked.
        w: The teacher's guidance weight.
    """

    name: ClassVar[str]
    pairs: ClassVar[bool]

    @property
    def w(self) -> float: ...

    def check(self, process: Any) -> None:
        """Says early which levels of noise there are not.

        Raises:
            ValueError: The process has no such levels.
        """

    def losses(
        self,
        process: Any,
        student: Denoiser,
        teacher: Denoiser,
        x: Tensor,
        cond: Mapping[str, Tensor],
        streams: Streams,
    ) -> Tensor:
        """The loss of each row of the batch, with shape `(n,)`.

        Arguments:
            process: The reverse chain.
            student: What is trained.
            teacher: The frozen model, guided with the weight `w`; takes the same conditions.
            x: Clean samples, with shape `(n, *event)`, or pairs, `(n, 2, *event)`, the better one first.
            cond: Their conditions, with shape `(n, *)`; those of the teacher's negative side begin with `negative_`.
            streams: A stream for each row.
        """
