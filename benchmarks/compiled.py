r"""Compares compiled networks with themselves as they are, in one process: outputs, and the time of a micro-batch.

    python benchmarks/compiled.py --model dna --model molecules --model rna --model images
    python benchmarks/compiled.py --model dna --how graph --device cuda

The largest difference of outputs is that of clean means, or of log-probabilities above -10. The ratio of times is the
median over pairs of calls that follow one another; compiling comes before, and its seconds are shown. The number of
compilations is that of calls with 1, 2, 3 and 5 rows after it, and must be 0.
"""

import statistics
import time
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch._dynamo.utils import counters

import guided
from guided.core.diffusion import Diffusion

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def rows(model: Diffusion, n: int) -> Tensor:
    """Drawn rows: noise, or tokens."""
    generator = torch.Generator().manual_seed(0)
    if model.process.tokens is None:
        return torch.randn(n, *model.process.output, generator=generator).to(model.device)
    return torch.randint(0, model.process.output[-1] + 1, (n, *model.process.event), generator=generator).to(
        model.device
    )


@torch.no_grad()
def call(model: Diffusion, x: Tensor) -> tuple[Tensor, float]:
    """The outputs for rows, through the model's micro-batches, and the seconds until they are there."""
    given = model.prompting.conditions([model.prompting.unconditional] * len(x))
    t = torch.full((len(x),), model.process.time(0), device=x.device)
    start = time.perf_counter()
    y = model.evaluator(
        lambda part: model.denoiser(x[part], t[part], **{name: value[part] for name, value in given.items()}), len(x)
    )
    y = y.cpu()
    return y, time.perf_counter() - start


@app.command()
def main(
    model: Annotated[list[str], typer.Option(help="Repeat for several.")] = ["dna", "molecules", "rna", "images"],  # noqa: B006
    how: Annotated[str, typer.Option(help="default, or graph.")] = "default",
    device: Annotated[str, typer.Option(help="The device.")] = "auto",
    dtype: Annotated[str, typer.Option(help="The precision.")] = "float32",
    repeat: Annotated[int, typer.Option(help="Pairs of calls.")] = 9,
) -> None:
    """Prints the table."""
    table = Table("model", "rows", "compiling, s", "largest difference", "compiled / plain", "compilations after")
    for name in model:
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        plain, fast = guided.load(name, **options), guided.load(name, compile=how, **options)
        x = rows(plain, fast.evaluator.size or 1)
        y, _ = call(plain, x)
        z, compiling = call(fast, x)
        seen = y > -10 if plain.process.tokens is not None else torch.ones_like(y, dtype=torch.bool)
        difference = float((y - z).abs()[seen].max())
        ratio = statistics.median(call(fast, x)[1] / call(plain, x)[1] for _ in range(repeat))
        before = counters["stats"]["unique_graphs"]
        for n in (1, 2, 3, 5):
            call(fast, x[:n])
        again = counters["stats"]["unique_graphs"] - before
        table.add_row(name, f"{len(x)}", f"{compiling:.0f}", f"{difference:.2g}", f"{ratio:.2f}", f"{again}")
    Console().print(table)


if __name__ == "__main__":
    app()
