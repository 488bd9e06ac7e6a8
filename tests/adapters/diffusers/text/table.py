"""The table of texts in docs/pipelines.md, from tiny pipelines: `python -m tests.adapters.diffusers.text.table`."""

__all__ = ["PAGE", "rows"]

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import BlockRefinementScheduler, DiffusionGemmaPipeline

from guided.adapters.diffusers import wrap
from guided.core.random import Streams
from guided.errors import GuidedError
from tests.adapters.diffusers.text.tiny import network, pipeline

PAGE = Path(__file__).parents[4] / "docs" / "pipelines.md"
START, END = "<!-- the table of text -->", "<!-- its end too -->"
HEAD = "| pipeline | samples | M > 1 | guidance | look-aheads | negative checkpoint |"


def gemma() -> Any:
    """The pipeline without its parts: it is refused by its name."""
    return DiffusionGemmaPipeline(None, BlockRefinementScheduler(), None)


def rows() -> list[str]:
    """The rows of the table; all is tried."""
    return [_row(pipeline()), _row(gemma())]


def _row(given: Any) -> str:
    name = f"`{type(given).__name__}`"
    try:
        model = wrap(given, pipe_args={"gen_length": 8, "block_length": 4})
    except GuidedError as error:
        return f"| {name} | refused: {str(error).partition(': ')[2]} | | | | |"
    seen = [_branches(given), _guided(model), _fills(given), _negative(model)]
    return f"| {name} | {' | '.join([model.modality, *seen])} |"


def _branches(given: Any) -> str:
    """The temperatures at which candidates differ."""
    found = {}
    for temperature in (0.0, 1.0):
        model = wrap(given, pipe_args={"gen_length": 8, "block_length": 4, "temperature": temperature})
        found[temperature] = len(model.start(Streams(0, [0])).propose(8).x[0].unique(dim=0)) > 1
    return "at a temperature above 0" if found == {0.0: False, 1.0: True} else str(found)


def _guided(model: Any) -> str:
    """Whether a weight of guidance changes what the network predicts."""
    plain, other = (model.prompted(["the cat"], scale) for scale in (None, 3.0))
    x = plain.start(Streams(0, [0])).x
    moved = (plain.evaluate(x, 0).y.softmax(-1) - other.evaluate(x, 0).y.softmax(-1)).abs().max() > 1e-3
    return "ours" if moved else "no"


def _fills(given: Any) -> str:
    """What look-aheads fill."""
    found = []
    for name in ("block", "all"):
        model = wrap(given, lookahead=name, pipe_args={"gen_length": 8, "block_length": 4, "eos_token_id": 0})
        clean = model.start(Streams(0, [0])).look_ahead().rows
        found.append(f"{int((clean[0, :8] != model.process.mask).sum())} of 8")
    return f"the block, or all ({', '.join(found)} tokens)"


def _negative(model: Any) -> str:
    """Whether another network can stand on the negative side."""
    both = model.with_negative(model.network.around(network(1))).prompted(["the cat"], 2.0)
    return "yes" if torch.isfinite(both.evaluate(both.start(Streams(0, [0])).x, 0).y.amax()) else "no"


def main() -> None:
    """Writes the table."""
    table = "\n".join([START, "", HEAD, "|" + "---|" * 6, *rows(), "", END])
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{START}.*{END}", lambda _: table, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
