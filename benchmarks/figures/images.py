"""Images: SVDD beside the model alone and the best of twenty by several rewards, and how good the model is."""

__all__ = ["TABLES"]

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures.draw import drawn, script
from benchmarks.figures.measured import ROOT
from benchmarks.figures.recipe import Measurement, Row, Settings, Table
from guided import Run, read_prompts
from guided.storage import read_json

SEVEN = list(read_prompts(Path(ROOT, "examples", "prompts.txt")))


def median_cost(run: Run) -> float:
    """Minus the median reward, where the reward is minus a size or a distance."""
    return -float(np.median(run.rewards))


def white(run: Run) -> int:
    """Images of which nearly nothing is left: 19 pixels in 20 are white or nearly so."""
    shares = [float((np.asarray(image.convert("RGB")).min(2) >= 240).mean()) for image in run.samples]
    return sum(share >= 0.95 for share in shares)


def compared(reward: str, each: int, guidance: float, **load: Any) -> dict[str, Settings]:
    """The runs of `examples/images.py -M 20 --steps 50`: so many images of each of the seven prompts."""
    prompts = [prompt for prompt in SEVEN for _ in range(each)]
    shared: dict[str, Any] = {"model": "images", "load": {"steps": 50, **load}, "reward": reward, "guidance": guidance}
    shared |= {"n": len(prompts), "prompt": prompts, "seed": 0}
    samplers = {"unguided": "unguided", "best of 20": {"name": "best-of-n", "N": 20}, "SVDD": {"name": "svdd", "M": 20}}
    return {name: {**shared, "sampler": sampler} for name, sampler in samplers.items()}


def columns(cost: str, digits: int = 2) -> dict[str, str]:
    """Those of a table whose reward is minus `cost`."""
    return {
        "": "{label}",
        "images": "{n}",
        cost: f"{{cost:.{digits}f}}",
        "network rows": "{rows:,}",
        "reward calls": "{calls:,}",
        "processor seconds": "{seconds:,.0f}",
    }


WEIGHTS = ("images",)
two = {f"{name}, guidance 2": run for name, run in compared("compressibility", 1, 2.0, lookahead="tiny").items()}
JPEG = Measurement(
    "images_jpeg",
    WEIGHTS,
    compared("compressibility", 1, 1.0, lookahead="tiny") | two,
    drawn(cost=median_cost, white=white),
    minutes=4,
)
BLUE = Measurement(
    "images_blue",
    WEIGHTS,
    compared("target_colour?colour=blue", 2, 1.0, lookahead="tiny"),
    drawn(cost=median_cost, mean_cost=lambda run: -float(run.rewards.mean())),
    minutes=2,
)
PIQE = Measurement("images_piqe", WEIGHTS, compared("piqe", 2, 1.0), drawn(cost=median_cost), minutes=5)


def judged() -> list[Row]:
    """What `training.images.evaluate` has written beside the card, at each weight of guidance."""
    found = read_json(Path("guided/checkpoints/images/metrics.json"))["categories"]
    names = {"the 96 images, moved a little": "trained_on"} | {f"guidance {w}": f"guidance {w}" for w in (1, 3, 5, 7)}
    return [{"label": label, **found[name]} for label, name in names.items()]


MODEL = Measurement(
    "images_model",
    WEIGHTS,
    {"96 names": {"commands": ["-m training.images.evaluate"]}},
    script(lambda _: judged()),
    minutes=60,
)

TABLES = (
    Table(JPEG, {**columns("median kilobytes"), "nearly white": "{white}"}),
    Table(BLUE, {**columns("median distance", 0), "mean distance": "{mean_cost:.0f}"}),
    Table(PIQE, columns("median PIQE", 1)),
    Table(
        MODEL,
        {
            "": "{label}",
            "category": "{category:.3f}",
            "closest image is the named one": "{named:.3f}",
            "Fréchet": "{frechet:.2f}",
            "to the closest": "{nearest[1]:.3f}",
        },
    ),
)
