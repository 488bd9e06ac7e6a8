"""The cost of training a negative checkpoint, and its share of the cost of the model's own training.

Imported by the benchmarks of negative checkpoints; it does nothing by itself.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guided.checkpoints import FOLDER, read_config
from guided.loading import split_options
from guided.negatives.weights import NEGATIVES


def cost(model: str, negative: str, pretrained: int | None = None) -> dict[str, Any] | None:
    """The cost of training a checkpoint, from its card, JSON-able; None if it has no card.

    Args:
        model: The model's name or folder.
        negative: The checkpoint's.
        pretrained: Rows of the model's own training; None for the number in its card.

    Returns:
        `steps`, `rows`, `seconds`, `seconds of samples`; and if the model's own rows are known `pretrained rows`,
        and `share`, the checkpoint's rows divided by them.
    """
    place = Path(split_options(negative)[0])
    folder = place if place.is_dir() else NEGATIVES / place
    if not (folder / "config.json").is_file():
        return None
    metrics = read_config(folder)["metrics"]
    found = {name: metrics[name] for name in ("steps", "rows", "seconds", "seconds of samples")}
    rows = pretrained or pretrained_rows(model)
    return found | ({} if rows is None else {"pretrained rows": rows, "share": metrics["rows"] / rows})


def pretrained_rows(model: str) -> int | None:
    """Rows of a model's training, steps times batch, from its card; None if the card does not say."""
    place = split_options(model)[0]
    cards = [folder / "README.md" for folder in (FOLDER / place, Path(place))]
    text = next((card.read_text(encoding="utf-8") for card in cards if card.is_file()), "")
    line = next((line for line in text.splitlines() if line.startswith("| training |")), "")
    steps = re.search(r"([\d,]+)(?: and then, from those weights, ([\d,]+))? steps", line)
    batch = re.search(r"batch (?:of )?(\d[\d,]*)", line)
    if steps is None or batch is None:
        return None
    return sum(whole(part) for part in steps.groups() if part) * whole(batch[1])


def whole(text: str) -> int:
    """A number that is written with commas."""
    return int(text.replace(",", ""))


def training(cost: Mapping[str, Any] | None) -> str:
    """The cost as a sentence."""
    if cost is None:
        return "the checkpoint has no card that says what its training took"
    share = f", {100 * cost['share']:.2g} % of those of the model's own training" if "share" in cost else ""
    times = f"{cost['seconds']:.0f} s, and {cost['seconds of samples']:.0f} s for the samples"
    return f"the checkpoint took {cost['steps']:,} steps, {cost['rows']:,} rows{share}; {times}"
