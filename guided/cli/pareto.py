"""The command `guided pareto`: a run whose samples weigh the rewards differently, and the front that they reach."""

__all__ = ["pareto"]

import json
from dataclasses import replace
from pathlib import Path

from guided.cli.console import number, show_table
from guided.cli.sample import sample
from guided.errors import GuidedError
from guided.report.front import Front
from guided.report.rows import load_rows, sample_of
from guided.runs.config import RunConfig
from guided.runs.options import spelled
from guided.storage import write_csv, write_whole

PREFERENCES, SHOWN = "grid=16", 20


def pareto(config: RunConfig) -> None:
    """Draws the run, writes its front into the folder, and shows it.

    Raises:
        GuidedError: There is no folder, or fewer than two rewards.
    """
    out = config.run.out
    if out is None:
        raise GuidedError(f"give {spelled('out')}, the folder for the samples and their front")
    given = config.rewards.reward
    if given is None or isinstance(given, str) or len(given) < 2:
        raise GuidedError(f"a front is one of several rewards: give {spelled('reward')} twice or more")
    if config.rewards.preferences is None:
        config = replace(config, rewards=replace(config.rewards, preferences=PREFERENCES))
    if config.run.only is not None:
        raise GuidedError(f"{spelled('only')} draws single samples, which have no front; see guided sample")
    if sample(config):
        show(out)


def show(out: Path) -> None:
    """Writes `pareto.csv`, `pareto.json` and `pareto.png` of a run folder, and shows them."""
    rows = load_rows(out / "samples.csv")
    front = Front.of(rows)
    assert front is not None  # the run has preferences
    members = [front.rows[i] for i in front.members]
    write_csv(out / "pareto.csv", [list(members[0]), *(list(row.values()) for row in members)])
    write_whole(out / "pareto.json", json.dumps(front.measures, indent=2) + "\n")
    front.figure().savefig(out / "pareto.png", dpi=200)
    cells = [[*(number(score) for score in front.scores[i]), sample_of(front.rows[i])] for i in front.members[:SHOWN]]
    show_table([*front.names, "sample"], cells, right=front.names)
    found = front.measures
    line = f"{found['front']} of {found['samples']} samples on the front, hypervolume {found['hypervolume']:.4f}"
    left = f"; {found['left_out']} samples left out: failed, or a constraint violated" if found["left_out"] else ""
    print(f"{line} above {_point(found['reference'])}, R2 {found['r2']:.4f} to {_point(found['ideal'])}{left}")
    print("\n".join(str(out / name) for name in ("pareto.csv", "pareto.json", "pareto.png")))


def _point(numbers: list[float]) -> str:
    return f"({', '.join(f'{x:g}' for x in numbers)})"
