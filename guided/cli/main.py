"""The command line. Wrong input gives one line on standard error and exit code 2; a traceback is a bug of ours."""

__all__ = ["app", "main"]

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from guided.cli.generate import command
from guided.cli.output import lasting, noted
from guided.cli.signals import handled
from guided.errors import fail, one_line
from guided.fitting.negative.config import NegativeConfig
from guided.fitting.value.config import FitConfig, FitShorthand
from guided.runs.config import RunConfig, Shorthand
from guided.runs.files import assembled
from guided.runs.options import options_of, spelled
from guided.runs.paths import check_folder

app = typer.Typer(
    name="guided",
    help="Reward-guided sampling from pretrained diffusion models.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
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


def _sample(given: dict[str, Any]) -> None:
    """Draw samples guided by a reward."""
    config = assembled(given)
    if config.run.out is not None:
        check_folder(config.run.out, spelled("out"))
    from guided.cli.sample import sample  # imports torch; what is wrong so far was told before

    sample(config)


def _pareto(given: dict[str, Any]) -> None:
    """Draw samples that weigh several rewards differently, and show the Pareto front that they reach."""
    config = assembled(given if "config" in given else {"aggregate": "tchebycheff", **given})
    from guided.cli.pareto import pareto

    pareto(config)


def _fit_value(given: dict[str, Any]) -> None:
    """Fit a value for `guided sample --value` (SVDD-MC)."""
    from guided.cli.fit import config_of, fit_value

    fit_value(config_of(given))


def _train(given: dict[str, Any]) -> None:
    """Train a negative checkpoint for `guided sample --negative`, from the model's own samples."""
    from guided.cli.npo import config_of, train

    train(config_of(given))


npo = typer.Typer(help="Train negative checkpoints (Self-NPO).", no_args_is_help=True, rich_markup_mode="rich")
command(
    app,
    "sample",
    options_of(RunConfig, Shorthand),
    _sample,
    (
        'guided sample molecules -r qed -r "sa?weight=0.5" -n 64 -M 10 --out runs/mine',
        'guided sample images -r compressibility --prompt "red apple" --guidance 5 -n 8 -M 20 --out runs/apples',
        "guided sample --config runs/mine/run.json --out runs/again",
    ),
)
command(
    app,
    "pareto",
    options_of(RunConfig, Shorthand),
    _pareto,
    (
        "guided pareto molecules -r qed -r sa -n 128 --out runs/front",
        'guided pareto molecules -r qed -r "similarity?target=CCO" -r "sa?below=3" --out runs/easy',
    ),
)
command(
    app,
    "fit-value",
    options_of(FitConfig, FitShorthand),
    _fit_value,
    ('guided fit-value rna -r "gc?linear=0,1" --target mean -n 2000 --out runs/value',),
)
app.add_typer(npo, name="npo")
command(
    npo,
    "train",
    options_of(NegativeConfig),
    _train,
    ("guided npo train molecules --out runs/negative",),
)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A published checkpoint of GDSS.")],
    out: Annotated[Path, typer.Option(help="The new folder.")],
) -> None:
    """Make a folder with `config.json` and `model.safetensors` of a published file."""
    from guided.loading import convert

    convert(file, out)
    print(f"{out}: give this folder in place of {file}")


@app.command()
def models() -> None:
    """List the models that are shipped."""
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
            rows.append((name, "from an installed package", "", ""))
            continue
        takes = ", ".join(str(parameter) for parameter in entry.parameters.values())
        rows.append((name, entry.doc, takes, entry.transform or ""))
    show_table(("reward", "description", "parameters", "transform"), rows)


@app.command()
def samplers(
    name: Annotated[str | None, typer.Argument(help="One of them, to read what its hyperparameters mean.")] = None,
) -> None:
    """List the samplers and their hyperparameters."""
    from guided.cli.samplers import describe, overview

    if name is None:
        overview()
    else:
        describe(name)


def main() -> None:
    """The entry point: exits with 0; with 2 on wrong input; with 130, 143 or 129 at Ctrl-C, SIGTERM or SIGHUP.

    A bug of ours keeps its traceback, and exits with 1.
    """
    with lasting(), noted(), handled() as ended:
        code: Any = 0
        try:
            with one_line():
                code = app(standalone_mode=False) or 0
        except _USAGE as error:
            _leave_with(2)
            fail(error.format_message())
        except BaseException as error:  # an interrupted call may fail in many ways
            if ended.number is None:
                _leave_with(error.code if isinstance(error, SystemExit) else 1)
                raise
        if ended.number is not None or code == INTERRUPTED:
            print(ended.word, file=sys.stderr)
            code = ended.code if ended.number else INTERRUPTED
        _leave_with(code)
        sys.exit(code)


def _leave_with(code: Any) -> None:
    """The exit code for the case that a call still hangs when the interpreter ends."""
    limits = sys.modules.get("guided.scoring.limits")
    if limits is not None:
        vars(limits)["exit_code"] = code if isinstance(code, int) else 0
