"""What each request of a run may spend."""

__all__ = ["Budget"]

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """What a request may spend; None for no bound.

    Args:
        calls: Distinct samples that the reward is asked about.
        rows: Rows of the network.
        seconds: Seconds since the requests that are drawn together were begun.
    """

    calls: int | None = None
    rows: int | None = None
    seconds: float | None = None

    def __bool__(self) -> bool:
        return (self.calls, self.rows, self.seconds) != (None, None, None)
