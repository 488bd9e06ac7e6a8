"""`report.html`: what a run found and what it cost, in one page that needs no other file."""

__all__ = ["write_report"]

import math
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from guided.report.draw import histogram, molecule, value_path
from guided.runfolder import read_json, read_rows, summary, write_whole

BEST = 12
COUNTS = ("network_rows", "network_calls", "reward_calls")


def write_report(folder: Path) -> Path:
    """Writes the report of a run folder from its files, and returns its path.

    Raises:
        GuidedError: `run.json` cannot be read.
        OSError: The folder cannot be written.
    """
    run = read_json(folder / "run.json")
    rows, unguided = read_rows(folder / "samples.csv"), read_rows(folder / "unguided.csv")
    page = PAGE.format(
        title=escape(title(run)),
        subtitle=escape(subtitle(run)),
        style=STYLE,
        figures=figures(run, rows, unguided, read_rows(folder / "path.csv")),
        numbers=key_numbers(run, rows, unguided),
        best=best_samples(rows),
        stats=stats_table(run["stats"]),
        command=escape(run.get("command", "")),
        versions=escape(", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())),
    )
    write_whole(folder / "report.html", page)
    return folder / "report.html"


def title(run: Mapping[str, Any]) -> str:
    """The model's name, and the reward's where there is one."""
    config, name = run["config"], reward_name(run)
    model = Path(config["model"]).name
    return f"{model}, guided by {name}" if name and config["sampler"]["name"] != "unguided" else model


def subtitle(run: Mapping[str, Any]) -> str:
    """The sampler with its fields, and the size of the run."""
    config = run["config"]
    sampler = config["sampler"]
    fields = [f"{key} = {_short(value)}" for key, value in sampler.items() if key != "name"]
    size = [f"{config['steps']} steps", f"{config['n']:,} samples", f"seed {config['seed']}"]
    return " · ".join([sampler["name"], *fields, *size])


def reward_name(run: Mapping[str, Any]) -> str:
    """The name of the objective; empty where there is none."""
    return str(run.get("reward_name") or "")


def rewards_of(rows: Iterable[Mapping[str, str]]) -> list[float]:
    """The rewards of the rows; none if the run had no reward."""
    return [float(row["reward"]) for row in rows if "reward" in row]


def key_numbers(run: Mapping[str, Any], rows: list[dict[str, str]], unguided: list[dict[str, str]]) -> str:
    """A line of figures, the unguided model's beside them."""
    law, other = summary(rewards_of(rows)), summary(rewards_of(unguided))
    items = []
    for label, key in (("median reward", "median"), ("best reward", "max")):
        if key in law:
            items.append((label, f"{law[key]:.3f}", f"unguided {other[key]:.3f}" if key in other else ""))
    unique = len({row["sample"] for row in rows}) / max(1, len(rows))
    items.append(("distinct samples", f"{100 * unique:.0f} %", f"of {len(rows):,}"))
    if law["failed"]:
        items.append(("failed rewards", f"{law['failed']:,}", "counted as worst"))
    network, seconds = run["stats"]["network_rows"], run["stats"]["seconds"].get("total", 0.0)
    items.append(("network rows", f"{network:,}", f"{network / max(1, len(rows)):,.0f} a sample"))
    items.append(("time", _duration(seconds), f"on {run['config']['device']}"))
    cell = "<div><b>{1}</b><span>{0}</span><small>{2}</small></div>"
    return "".join(cell.format(*map(escape, item)) for item in items)


def figures(
    run: Mapping[str, Any], rows: list[dict[str, str]], unguided: list[dict[str, str]], path: list[dict[str, str]]
) -> str:
    """The histogram, and the values over the steps where the sampler looked at more than one."""
    name, found = reward_name(run) or "reward", []
    rewards = rewards_of(rows)
    if rewards:
        beside = f" and {len(unguided)} of the unguided model" if unguided else ""
        found.append((histogram(rewards, rewards_of(unguided), name), f"Rewards of {len(rewards)} samples{beside}"))
    steps, mean, best = average_path(path)
    if len(steps) > 1:
        picture = value_path(steps, mean, best, f"{name} of the look-ahead")
        found.append((picture, "Value of the candidates at each step, averaged over requests"))
    return "".join(f"<figure>{svg}<figcaption>{escape(text)}</figcaption></figure>" for svg, text in found if svg)


def average_path(path: list[dict[str, str]]) -> tuple[list[int], list[float], list[float]]:
    """Step, mean and best, averaged over the batches; steps without a finite value are left out."""
    steps: dict[int, list[tuple[float, float]]] = {}
    for row in path:
        mean, best = float(row["mean"]), float(row["best"])
        if math.isfinite(mean) and math.isfinite(best):
            steps.setdefault(int(row["step"]), []).append((mean, best))
    order = sorted(steps)
    means, bests = ([sum(pair[i] for pair in steps[k]) / len(steps[k]) for k in order] for i in (0, 1))
    return order, means, bests


def best_samples(rows: list[dict[str, str]]) -> str:
    """The best distinct samples: drawn if all of them are molecules, otherwise as text."""
    scored = [row for row in rows if "reward" in row]
    order = sorted(scored, key=lambda row: -float(row["reward"])) or rows
    best = list({row["sample"]: row for row in reversed(order)}.values())[::-1][:BEST]
    drawings = [molecule(row["sample"]) for row in best]
    if all(drawings):
        cells = [_drawn(row, drawing or "") for row, drawing in zip(best, drawings, strict=True)]
        return f'<div class="grid">{"".join(cells)}</div>'
    cell = "<tr><td>{}</td><td>#{}</td><td><code>{}</code></td></tr>"
    lines = [cell.format(_reward(row), row["request"], escape(row["sample"])) for row in best]
    return f"<table><tr><th>reward</th><th>request</th><th>sample</th></tr>{''.join(lines)}</table>"


def _drawn(row: Mapping[str, str], drawing: str) -> str:
    terms = [name for name in row if f"{name}_raw" in row]
    parts = ", ".join(f"{name} {float(row[name + '_raw']):.3g}" for name in terms) if len(terms) > 1 else ""
    text = f"<b>{_reward(row)}</b> <span>#{row['request']}</span><br>{escape(parts)}"
    return f'<figure title="{escape(row["sample"])}">{drawing}<figcaption>{text}</figcaption></figure>'


def _reward(row: Mapping[str, str]) -> str:
    return f"{float(row['reward']):.3f}" if "reward" in row else ""


def stats_table(stats: Mapping[str, Any]) -> str:
    """Counts, and seconds by part; what is neither network, decoding nor reward is overhead."""
    seconds = dict(stats["seconds"])
    total = seconds.pop("total", sum(seconds.values()))
    parts = {part: seconds[part] for part in ("network", "reward", "decode") if part in seconds}
    parts["overhead"] = max(0.0, total - sum(parts.values()))
    counts = [(name.replace("_", " "), f"{stats[name]:,}", "") for name in COUNTS]
    times = [(part, f"{spent:.1f} s", f"{100 * spent / max(total, 1e-9):.1f} %") for part, spent in parts.items()]
    line = "<tr><td>{0}</td><td>{1}</td><td>{2}</td></tr>"
    cells = [line.format(*row) for row in [*counts, *times, ("total", f"{total:.1f} s", "")]]
    return f'<table class="numbers">{"".join(cells)}</table>'


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _short(value: Any) -> str:
    if isinstance(value, list):
        few = [_short(entry) for entry in value]
        return f"({', '.join(few)})" if len(few) < 5 else f"({few[0]}, … {few[-1]})"
    return f"{value:g}" if isinstance(value, float) else str(value)


STYLE = """
:root { color-scheme: light; --ink: #22252a; --faint: #6b7078; --line: #e3e5e8; --blue: #1f5a96 }
body { margin: 0 auto; max-width: 60rem; padding: 3rem 2rem 4rem; color: var(--ink); background: #fff;
  font: 15px/1.5 "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif }
h1 { font-size: 1.75rem; font-weight: 600; letter-spacing: -.01em; line-height: 1.2; margin: 0 0 .35rem }
h2 { font-size: 1.05rem; font-weight: 600; margin: 2.6rem 0 .9rem }
p { margin: 0; color: var(--faint) }
.key { display: flex; flex-wrap: wrap; gap: .8rem 2.6rem; margin: 1.8rem 0 2rem; padding: 1rem 0;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line) }
.key b { display: block; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.25 }
.key span, .key small { display: block; font-size: .82rem; line-height: 1.4 } .key small { color: var(--faint) }
figure { margin: 0 } figcaption { color: var(--faint); font-size: .82rem }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1.5rem 2rem }
.figures svg { width: 100%; height: auto } .figures figcaption { padding-left: .4rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem 1.2rem }
.grid svg { width: 100%; height: auto } .grid figcaption { text-align: center; margin-top: -.3rem }
.grid b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
td, th { padding: .25rem 1.6rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); font-weight: 400 }
th { color: var(--faint) } .numbers td + td { text-align: right }
pre, code { font: .85rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace }
td code { overflow-wrap: anywhere }
pre { background: #f6f7f8; padding: .8rem 1rem; margin: 0 0 .6rem; white-space: pre-wrap; overflow-wrap: anywhere }
small { color: var(--faint) }
@media print { body { padding: 0 } figure, table { break-inside: avoid } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{subtitle}</p>
<div class="key">{numbers}</div>
<div class="figures">{figures}</div>
<h2>Best samples</h2>
{best}
<h2>What it cost</h2>
{stats}
<h2>To repeat it</h2>
<pre>{command}</pre>
<small>{versions}</small>
</body>
</html>
"""
