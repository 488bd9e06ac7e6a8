"""The command line. Wrong input is one line on standard error and exit code 2; a traceback is a bug of ours."""

__all__ = ["app", "main", "one_line"]

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from guided.errors import GuidedError

app = typer.Typer(
    name="guided",
    help="Reward-guided sampling from pretrained diffusion models.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


INTERRUPTED = 130  # what typer returns for Ctrl-C
# ClickException, of click or of the copy of it that newer typers carry.
_USAGE: Any = typer.BadParameter.__mro__[2]


def _version(show: bool) -> None:
    if show:
        print(import_module("guided").__version__)
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def guided(
    context: typer.Context,
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def sample(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name of `guided models`, or the path of a checkpoint.")
    ],
    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--reward",
            "-r",
            metavar="R",
            help='"qed", "sa?weight=0.5", "file.py:function", "exec:program"; repeat to combine.',
        ),
    ] = None,
    aggregate: Annotated[str, typer.Option(help="How rewards are combined: weighted mean or product.")] = "mean",
    sampler: Annotated[str, typer.Option(help="A name of `guided samplers`.")] = "svdd",
    n: Annotated[int, typer.Option("-n", help="The number of requests, a sample each.")] = 64,
    M: Annotated[str | None, typer.Option("-M", metavar="M", help="The sampler's M; commas make a schedule.")] = None,
    alpha: Annotated[
        str | None, typer.Option(metavar="ALPHA", help="The sampler's alpha; commas make a schedule.")
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Another field of the sampler, as in --set N=10.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Reverse steps; the model's own number if not given.")] = None,
    seed: Annotated[int, typer.Option(help="The seed; request i of a seed is always the same sample.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Requests that are drawn, and written, together.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")] = "auto",
    draws: Annotated[int, typer.Option(help="Clean draws of a masked model's look-ahead, instead of its mode.")] = 1,
    value: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Select by this value of `guided fit-value`, not by the look-ahead."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="The network's precision: float32, bfloat16 or float16.")] = "float32",
    prompt: Annotated[str | None, typer.Option(help="The prompt of all requests (conditional models).")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with a prompt on each line; of n = m k requests each of k gets m."),
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What guidance leads away from.")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="The weight of classifier-free guidance; the model's own if not given, 1: none."),
    ] = None,
    rescale: Annotated[float, typer.Option(help="The share of guidance rescale, 0 to 1.")] = 0.0,
    negative: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help='A negative checkpoint of `guided npo train`; "DIR?alpha=0.5" weakens it; also beta, base.',
        ),
    ] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="Start from this image, not from noise.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="With --image: the share of the steps that are taken, above 0 to 1.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --image: white may change, black is kept.")
    ] = None,
    on_error: Annotated[str, typer.Option(help="A failing reward: stop, or count the sample as worst.")] = "stop",
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which a reward has failed.")] = None,
    only: Annotated[int | None, typer.Option(help="Draw only this request of the run, the same sample again.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder; the same command again resumes.")
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html at the end.")] = True,
) -> None:
    """Draw samples that a reward prefers."""
    given: dict[str, Any] = locals()
    from guided.cli.options import Options

    options = Options(**{**given, "reward": reward or (), "set": set or ()})
    from guided.cli.jobs import run

    run(options)


@app.command("fit-value")
def fit_value(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name of `guided models`, or the path of a checkpoint.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The value's folder; the same command again resumes.")],
    reward: Annotated[
        list[str] | None, typer.Option("--reward", "-r", metavar="R", help="As for sample; repeat to combine.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="mean: E[r | x]; soft or bootstrap: alpha log E[exp(r/alpha) | x].")
    ] = "soft",
    alpha: Annotated[float, typer.Option(help="The temperature of a soft value, that of the sampler.")] = 0.1,
    n: Annotated[int, typer.Option("-n", help="The number of rollouts.")] = 2000,
    aggregate: Annotated[str, typer.Option(help="How rewards are combined: weighted mean or product.")] = "mean",
    prompt: Annotated[
        list[str] | None, typer.Option(help="The prompt that the value is for; repeat for a value of several.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="The weight of classifier-free guidance.")] = None,
    steps: Annotated[int | None, typer.Option(help="Reverse steps; the model's own number if not given.")] = None,
    states: Annotated[int, typer.Option(help="States that are kept of each rollout.")] = 16,
    candidates: Annotated[int | None, typer.Option(help="Next states kept with each; 8 for bootstrap.")] = None,
    rollouts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Rollouts that several values share; in --out if not given.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="sequence, image or vector; what suits, if not given.")] = None,
    width: Annotated[int | None, typer.Option(help="The width of the network.")] = None,
    updates: Annotated[int, typer.Option(help="Updates of the network.")] = 2000,
    lr: Annotated[float, typer.Option(help="The learning rate.")] = 2e-3,
    check: Annotated[int, typer.Option(help="Samples that show the reward that is reached; 0 for none.")] = 32,
    seed: Annotated[int, typer.Option(help="The seed.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Rollouts that are drawn, and written, together.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="The model's precision: float32, bfloat16 or float16.")] = "float32",
    on_error: Annotated[str, typer.Option(help="A failing reward: stop, or count the sample as worst.")] = "stop",
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which a reward has failed.")] = None,
) -> None:
    """Fit a value for `guided sample --value` (SVDD-MC)."""
    given: dict[str, Any] = locals()
    from guided.cli.fit import FitOptions, run

    run(FitOptions(**{**given, "reward": reward or (), "prompt": prompt or ()}))


npo = typer.Typer(help="Negative checkpoints (Self-NPO).", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(npo, name="npo")


@npo.command()
def train(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name of `guided models`, or the path of a checkpoint.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The checkpoint's folder; the same command again resumes.")],
    reward: Annotated[
        list[str] | None,
        typer.Option("--reward", "-r", metavar="R", help="Train away from what it likes (flipped DPO); repeatable."),
    ] = None,
    aggregate: Annotated[str, typer.Option(help="How rewards are combined: weighted mean or product.")] = "mean",
    steps: Annotated[int, typer.Option(help="Updates.")] = 1000,
    batch: Annotated[int, typer.Option(help="Rows of an update.")] = 20,
    lr: Annotated[float | None, typer.Option(help="The learning rate; 1e-6, for LoRA or masked models 1e-4.")] = None,
    lora: Annotated[int | None, typer.Option(help="The rank of LoRA weights; 0 trains full weights.")] = None,
    n: Annotated[int, typer.Option("-n", help="Samples of the model's own to learn from.")] = 512,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with a prompt on each line; the model's own if not given."),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="The weight of guidance of these samples.")] = None,
    set: Annotated[
        list[str] | None, typer.Option(metavar="LETTER=VALUE", help="A letter of the method, as in --set j=5.")
    ] = None,
    ema: Annotated[float, typer.Option(help="The decay of the running average of the weights.")] = 0.99,
    accumulate: Annotated[int, typer.Option(help="Parts into which a batch is split, to save memory.")] = 1,
    precision: Annotated[str, typer.Option(help="Mixed precision: no, bf16 or fp16.")] = "no",
    sheet: Annotated[int, typer.Option(help="Updates between sheets of samples; 0 for none.")] = 0,
    sampling_steps: Annotated[int | None, typer.Option(help="Reverse steps of the samples.")] = None,
    seed: Annotated[int, typer.Option(help="The seed.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Samples that are drawn, and written, together.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="The model's precision: float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Train a negative checkpoint for `guided sample --negative`, from the model's own samples."""
    given: dict[str, Any] = locals()
    from guided.cli.npo import NegativeOptions, run

    run(NegativeOptions(**{**given, "reward": reward or (), "set": set or ()}))


@app.command()
def models() -> None:
    """List the models."""
    from guided.cli.console import show_table
    from guided.loading import models

    show_table(("model", "description"), models().items())


@app.command()
def rewards() -> None:
    """List the rewards and their parameters."""
    from guided.cli.console import show_table
    from guided.scoring.registry import rewards
    from guided.scoring.sources import known_rewards

    rows = []
    for name in known_rewards():
        entry = rewards().get(name)
        if entry is None:  # not imported before it is asked for
            rows.append((name, "an installed plug-in", "", ""))
            continue
        takes = ", ".join(str(parameter) for parameter in entry.parameters.values())
        rows.append((name, entry.doc, takes, entry.transform or ""))
    show_table(("reward", "description", "parameters", "transform"), rows)


@app.command()
def samplers() -> None:
    """List the samplers and their fields."""
    from guided.cli.console import show_table
    from guided.samplers import samplers

    rows = []
    for name, kind in samplers().items():
        takes = ", ".join(f.name if f.default is MISSING else f"{f.name}={f.default}" for f in fields(kind))
        about = (kind.__doc__ or "").split("\n")[0]
        rows.append((name, about.replace(":math:", "").replace("\\", "").replace("`", ""), takes))
    show_table(("sampler", "description", "fields"), rows)


def main() -> None:
    """The entry point: exits with 0, with 2 on wrong input, with 130 when interrupted."""
    try:
        with one_line():
            code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        sys.exit(code)
    except _USAGE as error:
        _fail(error.format_message())


@contextmanager
def one_line() -> Iterator[None]:
    """Makes an error of the user's one line on standard error and exit code 2, for programs like those in examples/."""
    try:
        yield
    except GuidedError as error:
        _fail(error)
    except ImportError as error:
        if "pip install" not in str(error):  # which says what is missing
            raise
        _fail(error)


def _fail(error: object) -> None:
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    sys.exit(2)
