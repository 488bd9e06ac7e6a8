"""`report.html`: what a run found and what it cost, in one page that needs no other file."""

__all__ = ["write_report"]

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from guided.report import pictures
from guided.report.draw import histogram, molecule, value_path
from guided.report.fasta import alphabet
from guided.report.page import PAGE, STYLE
from guided.report.rows import best_rows, parts_text, reward_text, rewards_of
from guided.report.sequences import kmer_figure, sections
from guided.report.thumbnails import digest, is_picture
from guided.runs.folder import summary
from guided.scoring.objective import Objective
from guided.storage import read_json, read_rows, write_whole

BEST = 12
COUNTS = ("network_rows", "network_calls", "reward_calls")


def write_report(folder: Path, objective: Objective | None = None) -> Path:
    """Writes the report of a run folder from its files, and returns its path.

    Arguments:
        folder: The run folder.
        objective: The run's, which says what each base of the best sequence is worth; None to build it anew from
            `run.json`, if its rewards are registered ones.

    Raises:
        GuidedError: `run.json` cannot be read.
        OSError: The folder cannot be written.
    """
    run = read_json(folder / "run.json")
    rows, unguided = read_rows(folder / "samples.csv"), read_rows(folder / "unguided.csv")
    letters = alphabet(row["sample"] for row in [*rows, *unguided])
    kind, best = "samples", ""
    if letters:
        kind, best = "sequences", sections(folder, run, rows, unguided, letters, objective)
    elif is_picture([*rows, *unguided]):
        kind, best = "pictures", pictures.sections(folder, run, rows, unguided)
    page = PAGE.format(
        title=escape(title(run)),
        subtitle=escape(subtitle(run)),
        style=STYLE,
        figures=figures(run, rows, unguided, read_rows(folder / "path.csv"), letters),
        numbers=key_numbers(run, rows, unguided, len({digest(folder, row["sample"]) for row in rows})),
        kind=kind,
        best=best or best_samples(rows),
        stats=stats_table(run["stats"]),
        command=escape(run.get("command", "")),
        versions=escape(", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())),
    )
    write_whole(folder / "report.html", page)
    return folder / "report.html"


def title(run: Mapping[str, Any]) -> str:
    """The model's name, and the reward's where there is one."""
    config, name = run["config"], reward_name(run)
    model = Path(config["model"].partition("?")[0]).name
    return f"{model}, guided by {name}" if name and config["sampler"]["name"] != "unguided" else model


def subtitle(run: Mapping[str, Any]) -> str:
    """The sampler with its fields, and the size of the run."""
    config = run["config"]
    sampler = config["sampler"]
    fields = [f"{key} = {_short(value)}" for key, value in sampler.items() if key != "name"]
    size = [f"{config['steps']} steps", f"{config['n']:,} samples", f"seed {config['seed']}"]
    options = config["model"].partition("?")[2].split("&")
    return " · ".join([sampler["name"], *fields, *size, *filter(None, options), *_conditions(config)])


def _conditions(config: Mapping[str, Any]) -> list[str]:
    """What a run of pictures was given besides its prompts."""
    texts = {"guidance": "guidance {:g}", "negative_prompt": "without {!r}", "rescale": "rescale {:g}"}
    found = [text.format(config[key]) for key, text in texts.items() if config.get(key) is not None]
    for key, word in (("image", "from"), ("mask", "where white in")):
        found += [f"{word} {Path(config[key]['file']).name}"] if key in config else []
    return [*found, *([f"strength {config['strength']:g}"] if "strength" in config else [])]


def reward_name(run: Mapping[str, Any]) -> str:
    """The name of the objective; empty where there is none."""
    return str(run.get("reward_name") or "")


def key_numbers(
    run: Mapping[str, Any], rows: list[dict[str, str]], unguided: list[dict[str, str]], distinct: int
) -> str:
    """A line of figures, the unguided model's beside them."""
    law, other = summary(rewards_of(rows)), summary(rewards_of(unguided))
    items = []
    for label, key in (("median reward", "median"), ("best reward", "max")):
        if key in law:
            items.append((label, f"{law[key]:.3f}", f"unguided {other[key]:.3f}" if key in other else ""))
    items.append(("distinct samples", f"{100 * distinct / max(1, len(rows)):.0f} %", f"of {len(rows):,}"))
    if law["failed"]:
        items.append(("failed rewards", f"{law['failed']:,}", "counted as worst"))
    network, seconds = run["stats"]["network_rows"], run["stats"]["seconds"].get("total", 0.0)
    items.append(("network rows", f"{network:,}", f"{network / max(1, len(rows)):,.0f} a sample"))
    items.append(("time", _duration(seconds), f"on {run['config']['device']}"))
    cell = "<div><b>{1}</b><span>{0}</span><small>{2}</small></div>"
    return "".join(cell.format(*map(escape, item)) for item in items)


def figures(
    run: Mapping[str, Any],
    rows: list[dict[str, str]],
    unguided: list[dict[str, str]],
    path: list[dict[str, str]],
    letters: str | None,
) -> str:
    """The histogram, the values over the steps where the sampler looked at more than one, the k-mers of sequences."""
    name, found = reward_name(run) or "reward", []
    rewards = rewards_of(rows)
    if rewards:
        beside = f" and {len(unguided)} of the unguided model" if unguided else ""
        found.append((histogram(rewards, rewards_of(unguided), name), f"Rewards of {len(rewards)} samples{beside}"))
    steps, mean, best = average_path(path)
    if len(steps) > 1:
        label = f"learned value of {name}" if "value" in run["config"] else f"{name} of the look-ahead"
        picture = value_path(steps, mean, best, label)
        found.append((picture, "Value of the candidates at each step, averaged over requests"))
    if letters and unguided:
        found.append(kmer_figure(rows, unguided))
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
    best = best_rows(rows, BEST)
    drawings = [molecule(row["sample"]) for row in best]
    if all(drawings):
        cells = [_drawn(row, drawing or "") for row, drawing in zip(best, drawings, strict=True)]
        return f'<div class="grid">{"".join(cells)}</div>'
    cell = "<tr><td>{}</td><td>#{}</td><td><code>{}</code></td></tr>"
    lines = [cell.format(reward_text(row), row["request"], escape(row["sample"])) for row in best]
    return f"<table><tr><th>reward</th><th>request</th><th>sample</th></tr>{''.join(lines)}</table>"


def _drawn(row: Mapping[str, str], drawing: str) -> str:
    text = f"<b>{reward_text(row)}</b> <span>#{row['request']}</span><br>{escape(parts_text(row))}"
    return f'<figure title="{escape(row["sample"])}">{drawing}<figcaption>{text}</figcaption></figure>'


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
