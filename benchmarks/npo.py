r"""A negative checkpoint compared with classifier-free guidance, at equal network rows, with the same noise.

    python benchmarks/npo.py images --negative runs/self_npo --out runs/npo_images.json
    python benchmarks/npo.py molecules --negative runs/molecules --n 2000 --out runs/npo_molecules.json
    python benchmarks/npo.py dna --negative runs/dna --n 500 --out runs/npo_dna.json
    python benchmarks/npo.py images --negative runs/self_npo --svdd piqe --weights 5 --n 32 --out runs/npo_svdd.json

Plain sampling (w = 1) is drawn once for each seed, CFG and NPO with each weight. An unconditional model has no CFG: NPO
is then compared with plain sampling of twice the steps. With `--svdd` all arms are guided by a reward (SVDD-PM), whose
median is reported too; plain sampling then has twice the candidates.

Results are written as they finish. The same command resumes where it was stopped; more seeds or weights add to the
file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from npo_common import Arm, Results, run
from npo_summary import summarise
from npo_task import Options, Task

from guided.core.diffusion import Diffusion
from guided.errors import one_line

WORK = Path(__file__).parent.parent / "training" / "work"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__.splitlines()[0])

Negative = Annotated[str, typer.Option(metavar="DIR", help="The checkpoint, or the name of a shipped one.")]
Weights = Annotated[str, typer.Option(help="Weights of guidance, separated by commas.")]
Seeds = Annotated[int, typer.Option(help="Seeds, from 0 on.")]
Steps = Annotated[int | None, typer.Option(help="The number of reverse steps; the model's default if not given.")]
Svdd = Annotated[str | None, typer.Option(metavar="R", help="Guide all arms by this reward, with SVDD-PM.")]
Candidates = Annotated[int, typer.Option("-M", metavar="M", help="With --svdd: the number of candidates.")]
Pretrained = Annotated[
    int | None, typer.Option(help="Number of rows of the model's own training; that of its card if not given.")
]
Work = Annotated[Path, typer.Option(help="The folder of the real data; missing data are downloaded.")]
Batch = Annotated[int, typer.Option(help="The number of requests that are drawn together.")]


@app.command()
def images(
    out: Annotated[
        Path, typer.Option(metavar="JSON", help="The file of the results; the sheet is written next to it.")
    ],
    model: Annotated[str, typer.Option(help="A model of images.")] = "images",
    negative: Negative = "images",
    weights: Weights = "1.5,3,5,7",
    n: Annotated[int, typer.Option(help="The number of images, each with its own prompt.")] = 96,
    seeds: Seeds = 5,
    steps: Steps = None,
    judge: Annotated[
        list[str] | None, typer.Option(metavar="R", help="A further reward that judges the images; may be repeated.")
    ] = None,
    svdd: Svdd = None,
    M: Candidates = 10,
    pretrained: Pretrained = None,
    work: Annotated[Path, typer.Option(help="The folder made by `training/images/train.py prepare`.")] = WORK,
    batch_size: Batch = 64,
    device: str = "auto",
    dtype: str = "float32",
) -> None:
    """Accuracy of the category, Fréchet distance, PIQE, preferences of judges; a sheet of pairs."""
    given: dict[str, Any] = locals()
    with one_line():
        from npo_images import image_task, write_sheet

        drawn = measured(given, lambda loaded: image_task(loaded, n, judge or (), work))
        print(f"wrote {out} and {write_sheet(*drawn)}")


@app.command()
def molecules(
    out: Annotated[Path, typer.Option(metavar="JSON", help="The results.")],
    model: Annotated[str, typer.Option(help="A model of molecules.")] = "molecules",
    negative: Negative = "molecules",
    weights: Weights = "1.25,1.5,2,3",
    n: Annotated[int, typer.Option(help="Molecules.")] = 2000,
    seeds: Seeds = 5,
    steps: Steps = None,
    svdd: Svdd = None,
    M: Candidates = 10,
    reference: Annotated[int, typer.Option(help="The number of molecules of the test split.")] = 30_000,
    pretrained: Pretrained = None,
    work: Work = WORK,
    batch_size: Batch = 500,
    device: str = "auto",
    dtype: str = "float32",
) -> None:
    """Validity, uniqueness, Fréchet ChemNet distance, QED, SA and diversity."""
    given: dict[str, Any] = locals()
    with one_line():
        from npo_molecules import molecule_task

        measured(given, lambda loaded: molecule_task(loaded, work, reference))
        print(f"wrote {out}")


@app.command()
def dna(
    out: Annotated[Path, typer.Option(metavar="JSON", help="The results.")],
    model: Annotated[str, typer.Option(help="A model of DNA.")] = "dna",
    negative: Negative = "dna",
    weights: Weights = "1.25,1.5,2,3",
    n: Annotated[int, typer.Option(help="The number of sequences of each cell type.")] = 500,
    seeds: Seeds = 5,
    steps: Steps = None,
    svdd: Svdd = None,
    M: Candidates = 10,
    pretrained: Pretrained = None,
    work: Work = WORK,
    batch_size: Batch = 250,
    device: str = "auto",
    dtype: str = "float32",
) -> None:
    """6-mers compared with real sequences, the judging oracle, and binding sites, for each cell type."""
    given: dict[str, Any] = locals()
    with one_line():
        from npo_dna import CELLS, dna_task

        measured({**given, "n": len(CELLS) * n}, lambda loaded: dna_task(loaded, n, work))
        print(f"wrote {out}")


def measured(given: dict[str, Any], make: Callable[[Diffusion], Task]) -> tuple[Options, Task, Results, list[Arm]]:
    """Draws and measures, and shows the results."""
    options = Options(**{name: value for name, value in given.items() if name in Options.__dataclass_fields__})
    results, task, arms = run(options, make)
    summarise(results, task)
    return options, task, results, arms


if __name__ == "__main__":
    app()
