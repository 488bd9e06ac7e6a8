"""Blocks of a run that finish before their turn, kept on disk until it comes: `blocks/00003.json` of a run folder.

A kill loses none of them. Images are written to `samples/` at once, and the block has their paths. A block whose
samples are neither text nor files is kept in memory.
"""

__all__ = ["FOLDER", "Parked", "parked_in"]

import json
import re
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from guided.errors import GuidedError
from guided.runs.engine import Batch
from guided.runs.media import stored
from guided.storage import make_folder, write_whole, writing

FOLDER = "blocks"
IMAGES = "samples/"  # the folder of images
_NAME = re.compile(r"(\d{5,})\.json(\.part)?")
_SCHEMA = TypeAdapter(Batch)


class Parked:
    """The parked blocks of a run folder.

    Args:
        path: The run folder.
        size: The number of requests of a block.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.folder = path / FOLDER
        self._numbers: set[int] = set()
        self._kept: dict[int, Batch] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def holds(self, request: int) -> bool:
        """Whether the block of a request is parked."""
        return request // self.size in self._numbers

    def resume(self, done: int, n: int) -> None:
        """Finds the blocks that a former session parked. Removes those of the first `done` of `n` requests, and files
        that are torn or damaged, whose blocks are drawn again.

        Raises:
            GuidedError: The folder cannot be written.
        """
        with writing(self.path):
            for path, number in parked_in(self.path).items():
                due = list(range(number * self.size, min((number + 1) * self.size, n)))
                if number * self.size < done or path.suffix == ".part" or self._read(path, due) is None:
                    path.unlink()
                else:
                    self._numbers.add(number)
        self.tidy()

    def put(self, batch: Batch) -> None:
        """Parks a whole block.

        Raises:
            GuidedError: The disk is full.
        """
        number = batch.requests[0] // self.size
        with writing(self.path):
            written = stored(batch, self.path)
        if all(isinstance(sample, str | None) for sample in written.samples):
            make_folder(self.folder)
            write_whole(self.folder / f"{number:05d}.json", json.dumps(asdict(written)) + "\n")
        else:
            self._kept[number] = batch
        self._numbers.add(number)

    def take(self, number: int) -> Batch:
        """A parked block, with the paths of images as its samples; it stays parked.

        Raises:
            GuidedError: Its file was changed meanwhile.
        """
        if number in self._kept:
            return self._kept[number]
        path = self.folder / f"{number:05d}.json"
        batch = self._read(path, None)
        if batch is None:
            raise GuidedError(f"{str(path)!r} was changed while the run went on; the same command draws it again")
        return batch

    def _read(self, path: Path, due: list[int] | None) -> Batch | None:
        """A block of a file; None if it is not as it was written, or not that of the requests that are due."""
        try:
            batch = _SCHEMA.validate_python(json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError):
            return None
        columns = [batch.samples, batch.rewards, *batch.columns.values()]
        if any(len(column) != len(batch.requests) for column in columns) or due not in (None, batch.requests):
            return None
        images = [self.path / name for name in batch.samples if isinstance(name, str) and name.startswith(IMAGES)]
        return batch if all(image.is_file() for image in images) else None

    def remove(self, number: int) -> None:
        """Removes a block.

        Raises:
            GuidedError: The folder cannot be written.
        """
        self._numbers.discard(number)
        if self._kept.pop(number, None) is None:
            with writing(self.path):
                (self.folder / f"{number:05d}.json").unlink(missing_ok=True)

    def tidy(self) -> None:
        """Removes the folder of parked blocks if it is empty.

        Raises:
            GuidedError: The folder cannot be written.
        """
        with writing(self.path):
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()


def parked_in(path: Path) -> dict[Path, int]:
    """The files of parked blocks in a run folder, also partly written ones, with their numbers."""
    names = {file: _NAME.fullmatch(file.name) for file in sorted((path / FOLDER).glob("*"))}
    return {file: int(name[1]) for file, name in names.items() if name}
