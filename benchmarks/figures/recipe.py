"""What is measured, and how it is shown."""

__all__ = ["Measurement", "Missing", "Row", "Settings", "Table"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Settings = Mapping[str, Any]  # JSON-able
Row = Mapping[str, Any]  # JSON-able: a line of a table


class Missing(Exception):
    """A run needs something that this machine has not, as data; the message says what."""


@dataclass(frozen=True)
class Measurement:
    """Some runs, whose numbers are `docs/measured/NAME.json`.

    Args:
        name: Its name.
        weights: Folders of `guided/checkpoints` whose weights decide the numbers; where runs differ, by their label.
        runs: The settings of each run, by its label.
        measure: Maps the settings of a run to its rows: one, or several where a script measures them together. A row is
            called by the label of its run, unless it has a `label` of its own. What it writes into the folder is there
            again if it was interrupted. Raises :class:`Missing`.
        minutes: About how long a run takes, until one has been timed.
    """

    name: str
    weights: tuple[str, ...] | Mapping[str, tuple[str, ...]]
    runs: Mapping[str, Settings]
    measure: Callable[[Settings, Path], list[Row]]
    minutes: float = 1.0

    def weights_of(self, label: str) -> tuple[str, ...]:
        """Those of a run."""
        return self.weights if isinstance(self.weights, tuple) else self.weights[label]


@dataclass(frozen=True)
class Table:
    """A block of a document.

    Args:
        measurement: Whose rows it shows.
        columns: Heads and formats: `{median:.3f}` is an entry of the row; or a function of the row. A cell is empty
            where the row has no such entry; zeros before the decimal point are left out.
        entry: It shows the rows that have this entry; all if empty.
        name: That of the measurement, unless it is shown in several ways.
    """

    measurement: Measurement
    columns: Mapping[str, str | Callable[[Row], str]]
    entry: str = ""
    name: str = ""

    @property
    def block(self) -> str:
        """The name in the document."""
        return self.name or self.measurement.name
