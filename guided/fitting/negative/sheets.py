"""Sheets of samples during a training: without the student above, with it as the negative side below."""

__all__ = ["write_sheet"]

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from guided.runs.prompts import Prompts
from guided.samplers import Unguided
from guided.storage import make_folder, whole, write_whole

if TYPE_CHECKING:
    from guided.fitting.negative.trainer import Trainer

SHOWN = 8


@torch.no_grad()
def write_sheet(model: Diffusion, trainer: "Trainer", prompts: list[str], stem: Path) -> None:
    """Draws the same requests without and with the student, into `stem.png` for images, otherwise `stem.txt`."""
    make_folder(stem.parent)
    chosen = [prompts[i * max(1, len(prompts) // SHOWN) % len(prompts)] for i in range(SHOWN)] if prompts else None
    rows = [_drawn(part, chosen) for part in (model, model.with_negative(trainer.denoiser))]
    if model.modality == "images":
        _grid(rows, stem.with_suffix(".png"))
    elif model.modality != "videos":
        titles = ("without the checkpoint", "with the checkpoint")
        blocks = [f"# {title}\n" + "".join(f"{s}\n" for s in row) for title, row in zip(titles, rows, strict=True)]
        write_whole(stem.with_suffix(".txt"), "\n".join(blocks))


def _drawn(model: Diffusion, prompts: list[str] | None) -> list[Any]:
    wanted = Prompts.of(model, SHOWN, prompts)
    part = wanted.block(model, list(range(SHOWN)))
    return list(model.decode(Unguided()(part, None, Streams(0, list(range(SHOWN)), model.device)).x[:, 0]))


def _grid(rows: list[list[Any]], file: Path) -> None:
    from PIL import Image

    width, height = rows[0][0].size
    page = Image.new("RGB", (width * SHOWN, height * len(rows)), "white")
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            page.paste(image, (j * width, i * height))
    with whole(file) as part:
        page.save(part, "PNG")
