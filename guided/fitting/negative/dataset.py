"""The model's own samples that a negative checkpoint is trained from, stored in blocks in a folder.

A block that is torn, of another shape, or has tokens or rewards that no sample has, is drawn again: it has the same
bytes then.
"""

__all__ = ["Dataset", "draw_dataset"]

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from guided.checkpoints.weights import header
from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.runs.prompts import Prompts
from guided.samplers import Unguided
from guided.scoring.objective import Objective
from guided.storage import make_folder, read_tensors, write_tensors


@dataclass(frozen=True)
class Dataset:
    """Clean rows, with shape `(n, *event)`, and their rewards, with shape `(n,)`; nan if there is no reward."""

    x: Tensor
    rewards: Tensor


@torch.no_grad()
def draw_dataset(
    model: Diffusion,
    wanted: Prompts,
    n: int,
    seed: int,
    batch_size: int,
    folder: Path,
    objective: Objective | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Dataset:
    """Draws the samples that the folder does not hold yet; row i depends only on the seed and on i.

    Args:
        model: The model.
        wanted: The prompts of the n requests.
        n: The number of samples.
        seed: The seed.
        batch_size: The number of samples that are drawn and written together.
        folder: The folder of the blocks.
        objective: A reward of the samples.
        progress: Called with the number of samples so far.
    """
    make_folder(folder)
    parts = []
    for start in range(0, n, batch_size):
        file, block = folder / f"{start:06d}.safetensors", list(range(start, min(n, start + batch_size)))
        found = _whole(file, len(block), model, objective is not None)
        if found is None:
            part = wanted.block(model, block)
            x = Unguided()(part, None, Streams(seed, block, model.device)).x[:, 0]
            rewards = torch.full((len(x),), torch.nan, dtype=torch.float32, device="cpu")
            if objective is not None:
                rewards = torch.as_tensor(objective(model.decode(x), part.prompts or None)).float().cpu()
            write_tensors(file, {"x": x, "rewards": rewards})
            found = read_tensors(file)
        parts.append(found)
        progress(block[-1] + 1)
    return Dataset(*(torch.cat([part[name] for part in parts]) for name in ("x", "rewards")))


def _whole(file: Path, count: int, model: Diffusion, scored: bool) -> dict[str, Tensor] | None:
    """The samples of a block; None if the file is missing, torn, or of other samples."""
    if not file.is_file():
        return None
    try:
        if header(file) != {"x": (count, *model.process.event), "rewards": (count,)}:
            return None
        found = read_tensors(file)
    except GuidedError:
        return None
    x, rewards = found["x"], found["rewards"]
    known = x.isfinite() if model.process.tokens is None else (x >= 0) & (x < model.process.tokens - 1)
    due = torch.float32 if model.process.tokens is None else torch.int64
    right = (x.dtype, rewards.dtype) == (due, torch.float32)
    usable = (rewards < torch.inf) if scored else rewards.isnan()
    return found if right and known.all() and usable.all() else None
