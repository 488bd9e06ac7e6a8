"""The tables of docs/pipelines.md, from what tiny pipelines do: `python -m tests.adapters.diffusers.loops.table`."""

__all__ = ["PAGE", "refusal", "row"]

import re
from pathlib import Path
from typing import Any

from guided.adapters.diffusers.loops.decoding import TailDecoder, shrunk
from guided.core.random import Streams
from guided.errors import GuidedError
from tests.adapters.diffusers.loops.cases import CASES
from tests.adapters.diffusers.loops.own import model_of
from tests.adapters.diffusers.loops.refused import REFUSED, reason_of

PAGE = Path(__file__).parents[4] / "docs" / "pipelines.md"
START, END = "<!-- the table -->", "<!-- its end -->"
START_NOT, END_NOT = "<!-- what cannot -->", "<!-- its end too -->"
HEAD = "| pipeline | family | for | samples | M > 1 | guidance | smaller look-aheads | negative checkpoint |"


def row(name: str, pipeline: Any, model: Any) -> str:
    """A row of the table; all is tried."""
    case = CASES[name]
    found = [f"`{type(pipeline).__name__}`", case.family, case.kind, model.modality, branches(model)]
    return f"| {' | '.join([*found, guided(model), small(pipeline, model), negative(model)])} |"


def refusal(name: str) -> str:
    """A row of the second table."""
    kind = type(REFUSED[name][0]()).__name__
    why = reason_of(name).removeprefix(f"{kind} cannot be a model by its own loop: ")
    return f"| `{kind}` | {why.removeprefix(f'{kind} cannot be a model: ')} |"


def branches(model: Any) -> str:
    """Whether two candidates differ after a step with noise."""
    particles = model.start(Streams(0, range(1)))
    process = particles.model.process
    from dataclasses import replace

    noisy = replace(process, eta=1.0)
    x = noisy.propose(particles.x, particles.outputs.y[particles.outputs.index], particles.k, 2, particles.streams)
    return "yes" if (x[0, 0] - x[0, 1]).abs().max() > 1e-3 else "no"


def guided(model: Any) -> str:
    """Whether a weight of guidance changes what the network predicts."""
    if not model.prompting.conditional:
        return "no prompt"
    x = model.start(Streams(0, range(1)))
    try:
        other = model.prompted(["red apple" if model.denoiser.network.call.prompted else None], 7.0)
    except GuidedError:
        return "no"
    try:
        moved = (other.evaluate(x.x, x.k).y - x.outputs.y).abs().max() > 1e-4
    except GuidedError:
        return "no"
    return f"`{model.denoiser.network.call.weight}`" if moved else "no"


def small(pipeline: Any, model: Any) -> str:
    """Whether latents are decoded smaller."""
    vae = getattr(pipeline, "vae", None)
    if model.modality not in ("images", "videos"):
        return "no images"
    if vae is None:
        return "rows are pixels"
    tail = model.codec.decode._rows.tail
    less = TailDecoder(tail.with_decoder(shrunk(vae, 0.5)), model.codec.decode._rows.evaluator)
    rows = model.start(Streams(0, range(1))).x[:, 0]
    try:
        sides = [decode(rows).shape[-1] for decode in (model.codec.decode.pixels, less.pixels)]
    except Exception as error:
        return f"no: {type(error).__name__}"
    return "yes" if sides[1] < sides[0] else "no"


def negative(model: Any) -> str:
    """Whether another network can stand on the negative side."""
    if not model.prompting.conditional or model.denoiser.network.call.weight is None:
        return "no guidance"
    other = model.with_negative(model.network.around(model.network.module))
    prompt = "red apple" if model.denoiser.network.call.prompted else None
    both = other.prompted([prompt], 2.0)
    x = model.start(Streams(0, range(1)))
    y = both.evaluate(x.x, x.k).y
    other.close()
    return "yes" if y.isfinite().all() else "no"


def main() -> None:
    """Writes both tables."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    DiagonalGaussianDistribution.sample = lambda self, generator=None: self.mode()
    rows = [HEAD, "|" + "---|" * 8]
    for name, case in CASES.items():
        pipeline = case.build()
        pipeline.set_progress_bar_config(disable=True)
        model = model_of(case, pipeline)
        rows.append(row(name, pipeline, model))
        print(rows[-1], flush=True)
        model.close()
    text = PAGE.read_text(encoding="utf-8")
    others = ["| pipeline | why not |", "|---|---|", *map(refusal, REFUSED)]
    for start, lines, end in ((START, rows, END), (START_NOT, others, END_NOT)):
        table = "\n".join([start, "", *lines, "", end])
        text = re.sub(f"{start}.*{end}", lambda _, table=table: table, text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
