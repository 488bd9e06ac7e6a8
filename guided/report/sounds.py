"""The report's section of sounds: the best to listen to, guided beside unguided, each with its envelope."""

__all__ = ["NAME", "section"]

import base64
import io
import wave
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guided.report.contents import Contents
from guided.report.rows import Row, best_rows, parts_text, prompt_text, request_text, reward_text, sample_of
from guided.report.thumbnails import digest, file_of, is_sound

NAME = "sounds"
BEST = 8
SHOWN = 24  # requests, guided and unguided
ENOUGH = 4_000_000  # bytes of sounds in the page; the others are played from their files beside it
COLUMNS = 160  # of an envelope


class _Page:
    """Sounds in a page that stays below some size.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._room = folder, ENOUGH

    def sound(self, row: Row, text: str) -> str:
        """A sound with its envelope, to be played; text where its file cannot be read."""
        name = sample_of(row)
        try:
            data = file_of(self.folder, name).read_bytes()
            picture = _envelope(data)
        except (OSError, EOFError, wave.Error, ValueError):
            return f'<span class="missing">{escape(name)} cannot be read</span>'
        place = name
        if len(data) <= self._room:
            self._room -= len(data)
            place = f"data:audio/wav;base64,{base64.b64encode(data).decode()}"
        return f'{picture}<audio controls preload="none" src="{place}" aria-label="{escape(text)}"></audio>'


def section(contents: Contents) -> str | None:
    """The best sounds, and those of each request; None if not all of these samples are sounds."""
    rows, unguided = contents.rows, contents.unguided
    if not rows or not is_sound([*rows, *unguided]):
        return None
    page = _Page(contents.folder)
    head = "<h2>Guided and unguided</h2>" if unguided else "<h2>Samples</h2>"
    return f"{best_sounds(contents, page)}{head}{beside(contents, page)}"


def best_sounds(contents: Contents, page: _Page) -> str:
    """The best distinct sounds."""
    best = best_rows(contents.rows, BEST, lambda row: digest(contents.folder, sample_of(row)))
    return f'<div class="sounds">{"".join(_figure(contents, page, [("", row)]) for row in best)}</div>'


def beside(contents: Contents, page: _Page) -> str:
    """Each request's sound beside that of the unguided model."""
    rows, others = contents.rows, {row.get("request"): row for row in contents.unguided}
    figures = []
    for row in rows[:SHOWN]:
        other = others.get(row.get("request"))
        halves = [] if other is None else [("unguided", other)]
        figures.append(_figure(contents, page, [*halves, ("guided" if halves else "", row)]))
    left = len(rows) - len(figures)
    note = f"<p>{left:,} of the {len(rows):,} samples are not shown here; all are in samples/.</p>" if left else ""
    return f'{note}<div class="sounds">{"".join(figures)}</div>'


def _figure(contents: Contents, page: _Page, halves: Sequence[tuple[str, Row]]) -> str:
    row = halves[-1][1]
    prompt = prompt_text(contents.run, row)
    cells = [
        f"<div>{page.sound(half, ' '.join(filter(None, [name, prompt])))}"
        f"<small>{name} <b>{reward_text(half)}</b></small></div>"
        for name, half in halves
    ]
    about = " · ".join(escape(text) for text in (request_text(row), parts_text(row), prompt) if text)
    return f"<figure>{''.join(cells)}<figcaption>{about}</figcaption></figure>"


def _envelope(data: bytes) -> str:
    """The smallest and the largest amplitude over time, as a picture; all channels together."""
    low, high = _extremes(data)
    above = [f"{i},{50 - 49 * y:.1f}" for i, y in enumerate(high)]
    below = [f"{i},{50 - 49 * y:.1f}" for i, y in reversed([*enumerate(low)])]
    shape = f'<polygon points="{" ".join([*above, *below])}"/>'
    return f'<svg viewBox="0 0 {COLUMNS} 100" preserveAspectRatio="none" aria-hidden="true">{shape}</svg>'


def _extremes(data: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with wave.open(io.BytesIO(data), "rb") as file:
        if file.getsampwidth() != 2:
            raise ValueError("it has not 16 bits")
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
    if not len(frames):
        raise ValueError("it is empty")
    starts = np.arange(COLUMNS) * len(frames) // COLUMNS
    numbers = frames / 32768
    return np.minimum.reduceat(numbers.min(1), starts), np.maximum.reduceat(numbers.max(1), starts)
