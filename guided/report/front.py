"""The Pareto front of a run with preferences: which samples are on it, its measures, and its picture."""

__all__ = ["Front"]

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError
from guided.metrics.pareto import hypervolume, non_dominated, r2
from guided.report.canvas import FAINT, GUIDED, UNGUIDED, canvas, label_text, styled
from guided.report.rows import Row, number, sample_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Front:
    """The samples of a run by their rewards.

    Args:
        names: The rewards, `T` of them, without the constraints.
        rows: The rows of the samples that have all scores and violate no constraint.
        scores: Their transformed scores, with shape `(n, T)`.
        left_out: The number of the other samples.
    """

    names: Sequence[str]
    rows: Sequence[Row]
    scores: NDArray[np.float64]
    left_out: int = 0

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Front | None":
        """The front of the rows of a run; None if the run has no preferences.

        Raises:
            GuidedError: All samples have failed or violate a constraint.
        """
        columns = list(rows[0]) if rows else []
        names = [name for name in columns if f"{name}_weight" in columns]
        if not names:
            return None
        limits = [name for name in columns if f"{name}_raw" in columns and name not in names]
        kept: list[Row] = []
        scores = []
        for row in rows:
            own = [number(row.get(name)) for name in names]
            if np.isfinite(own).all() and all(number(row.get(name)) >= 0 for name in limits):
                kept.append(row)
                scores.append(own)
        if not kept:
            raise GuidedError(
                f"none of {len(rows)} samples has all scores and holds the constraints: there is no front"
            )
        return cls(names, kept, np.array(scores), len(rows) - len(kept))

    @cached_property
    def members(self) -> list[int]:
        """The places of the samples on the front, once each, by their first score."""
        found, seen = [], set()
        for i in np.flatnonzero(non_dominated(self.scores)).tolist():
            if sample_of(self.rows[i]) not in seen:
                seen.add(sample_of(self.rows[i]))
                found.append(i)
        return sorted(found, key=lambda i: tuple(-self.scores[i]))

    @property
    def reference(self) -> list[float]:
        """The worst scores: 0, or the lowest of the samples where it is lower."""
        return [min(0.0, float(low)) for low in self.scores.min(0)]

    @property
    def ideal(self) -> list[float]:
        """The best scores: 1, or the highest of the samples where it is higher."""
        return [max(1.0, float(high)) for high in self.scores.max(0)]

    @property
    def measures(self) -> dict[str, Any]:
        """The numbers of the front, JSON-able."""
        return {
            "rewards": list(self.names),
            "samples": len(self.rows),
            "left_out": self.left_out,
            "front": len(self.members),
            "hypervolume": hypervolume(self.scores, self.reference),
            "reference": self.reference,
            "r2": r2(self.scores, self.ideal),
            "ideal": self.ideal,
        }

    @styled
    def figure(self) -> "Figure":
        """The samples by each pair of rewards, those of the front marked."""
        T = len(self.names)
        figure = canvas(4.9, 3.1) if T == 2 else canvas(2.2 * (T - 1) + 0.6, 2.0 * (T - 1) + 0.4)
        for row in range(1, T):
            for column in range(row):
                axes = figure.add_subplot(T - 1, T - 1, (row - 1) * (T - 1) + column + 1)
                self._pair(axes, column, row)
                if row == T - 1:
                    axes.set_xlabel(label_text(self.names[column]))
                if column == 0:
                    axes.set_ylabel(label_text(self.names[row]))
        return figure

    def _pair(self, axes: "Axes", x: int, y: int) -> None:
        front = self.scores[self.members][:, [x, y]]
        axes.scatter(self.scores[:, x], self.scores[:, y], s=10, color=UNGUIDED, lw=0)
        if len(self.names) == 2:  # the border of what is reached
            axes.step(front[:, 0], front[:, 1], where="post", color=FAINT, lw=0.8)
        axes.scatter(front[:, 0], front[:, 1], s=16, color=GUIDED, lw=0)
