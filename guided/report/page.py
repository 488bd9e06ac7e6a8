"""`report.html`: what a run found and what it cost, in one page that needs no other file.

Samples have a section by their modality: a file with `NAME`, what the samples are called, and `section`, which returns
None for samples of another modality. All that comes from the folder is escaped.
"""

__all__ = ["write_report"]

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from guided.metrics.summary import summary
from guided.report import images, molecules, sequences, sounds, texts
from guided.report.canvas import to_svg
from guided.report.contents import Contents
from guided.report.figures import call_curve, histogram, value_path
from guided.report.front import Front
from guided.report.rows import (
    Row,
    best_rows,
    number,
    request_text,
    reward_text,
    rewards_of,
    sample_of,
    whole_number,
)
from guided.report.template import PAGE, STYLE
from guided.report.thumbnails import digest
from guided.scoring.objective import Objective
from guided.storage import write_whole

BEST = 12
COUNTS = ("network_rows", "network_calls", "reward_calls")
MODALITIES = (texts, sequences, images, sounds, molecules)


def write_report(folder: Path, objective: Objective | None = None) -> Path:
    """Writes the report of a run folder from its files, and returns its path.

    Args:
        folder: The run folder.
        objective: The run's, which says what each base of the best sequence is worth; None to build it anew from
            `run.json`, if its rewards are registered ones.

    Raises:
        GuidedError: `run.json` or a CSV file is not what it should be.
        OSError: The folder cannot be written.
    """
    contents = Contents.read(folder, objective)
    run = contents.run
    name, best = best_section(contents)
    page = PAGE.format(
        title=escape(title(contents)),
        subtitle=escape(subtitle(run["config"])),
        style=STYLE,
        figures=figures(contents),
        numbers=key_numbers(contents),
        name=name,
        best=best,
        stats=stats_table(run["stats"]),
        command=escape(run.get("command", "")),
        versions=escape(", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())),
    )
    write_whole(folder / "report.html", page.encode("utf-8", "replace"))  # names of files may have surrogates
    return folder / "report.html"


def best_section(contents: Contents) -> tuple[str, str]:
    """What the samples are called, and the section of their modality; text where there is none of it."""
    for modality in MODALITIES:
        html = modality.section(contents)
        if html is not None:
            return modality.NAME, html
    return "samples", best_texts(contents.rows)


def best_texts(rows: Sequence[Row]) -> str:
    """The best distinct samples as text."""
    lines = []
    for row in best_rows(rows, BEST):
        cells = [reward_text(row), escape(request_text(row)), f"<code>{escape(sample_of(row))}</code>"]
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><tr><th>reward</th><th>request</th><th>sample</th></tr>{body}</table>"


def title(contents: Contents) -> str:
    """The model's name, and the reward's where there is one."""
    config, name = contents.run["config"], contents.reward_name
    model = Path(config["model"].partition("?")[0]).name
    return f"{model}, guided by {name}" if name and config["sampler"]["name"] != "unguided" else model


def subtitle(config: Mapping[str, Any]) -> str:
    """The sampler with its fields, and the size of the run."""
    sampler = config["sampler"]
    fields = [f"{key} = {_short(value)}" for key, value in sampler.items() if key != "name"]
    size = [f"{config['steps']} steps", f"{config['n']:,} samples", f"seed {config['seed']}"]
    options = config["model"].partition("?")[2].split("&")
    return " · ".join([sampler["name"], *fields, *size, *filter(None, options), *_conditions(config)])


def _conditions(config: Mapping[str, Any]) -> list[str]:
    """What a run was given besides its prompts."""
    texts = {"guidance": "guidance {:g}", "negative_prompt": "without {!r}", "rescale": "rescale {:g}"}
    found = [text.format(config[key]) for key, text in texts.items() if config.get(key) is not None]
    found += [f"guider {config['guider']['name']}"] if config.get("guider") else []
    for key, word in (("image", "from"), ("mask", "where white in")):
        found += [f"{word} {Path(config[key].get('file') or 'an image in memory').name}"] if config.get(key) else []
    return [*found, *([f"strength {config['strength']:g}"] if config.get("strength") is not None else [])]


def key_numbers(contents: Contents) -> str:
    """A line of figures, the unguided model's beside them."""
    run, n = contents.run, len(contents.rows)
    guided, other = summary(rewards_of(contents.rows)), summary(rewards_of(contents.unguided))
    items = []
    for label, key in (("median reward", "median"), ("best reward", "max")):
        if key in guided:
            items.append((label, f"{guided[key]:.3f}", f"unguided {other[key]:.3f}" if key in other else ""))
    distinct = len({digest(contents.folder, sample_of(row)) for row in contents.rows})
    items.append(("distinct samples", f"{100 * distinct / max(1, n):.0f} %", f"of {n:,}"))
    if guided["failed"]:
        items.append(("failed rewards", f"{guided['failed']:,}", "counted as worst"))
    items += texts.numbers(contents) if contents.modality == "text" else molecules.numbers(contents)
    network, seconds = run["stats"]["network_rows"], run["stats"]["seconds"].get("total", 0.0)
    items.append(("network rows", f"{network:,}", f"{network / max(1, n):,.0f} a sample"))
    items.append(("time", _duration(seconds), f"on {run['config']['device']}"))
    cell = "<div><b>{1}</b><span>{0}</span><small>{2}</small></div>"
    return "".join(cell.format(*map(escape, item)) for item in items)


def figures(contents: Contents) -> str:
    """The histogram, the values over the steps where the sampler compared candidates, the k-mers of sequences."""
    name, found = contents.reward_name or "reward", []
    rewards, unguided = rewards_of(contents.rows), rewards_of(contents.unguided)
    if rewards:
        beside = f" and {len(contents.unguided)} of the unguided model" if contents.unguided else ""
        found.append((histogram(rewards, unguided, name), f"Rewards of {len(rewards)} samples{beside}"))
    if (front := Front.of(contents.rows)) is not None:
        volume = front.measures["hypervolume"]
        found.append((to_svg(front.figure()), f"Samples by their rewards; the front has hypervolume {volume:.3f}"))
    steps, mean, best = average_path(contents.path)
    if len(steps) > 1:
        label = f"learned value of {name}" if contents.learned else f"{name} of the look-ahead"
        figure = value_path(steps, mean, best, label)
        found.append((figure, "Value of the candidates at each step, averaged over requests"))
    calls, best, top = average_calls(contents.calls)
    if len(calls) > 1:
        text = "The best found so far against reward calls, averaged over requests"
        found.append((call_curve(calls, best, top, name), text))
    if contents.unguided and sequences.letters_of(contents):
        found.append(sequences.kmer_figure(contents.rows, contents.unguided))
    return "".join(f"<figure>{svg}<figcaption>{escape(text)}</figcaption></figure>" for svg, text in found if svg)


def average_path(path: Sequence[Row]) -> tuple[list[int], list[float], list[float]]:
    """Step, mean and best, averaged over the batches; steps without a finite value are left out."""
    steps: dict[int, list[tuple[float, float]]] = {}
    for row in path:
        step, mean, best = whole_number(row.get("step")), number(row.get("mean")), number(row.get("best"))
        if step is not None and math.isfinite(mean) and math.isfinite(best):
            steps.setdefault(step, []).append((mean, best))
    order = sorted(steps)
    means, bests = ([sum(pair[i] for pair in steps[k]) / len(steps[k]) for k in order] for i in (0, 1))
    return order, means, bests


def average_calls(rows: Sequence[Row]) -> tuple[list[int], list[float], list[float]]:
    """Calls, the best so far and the mean of the ten best, averaged over the batches; one that has ended stays."""
    batches: dict[str, dict[int, tuple[float, float]]] = {}
    for row in rows:
        call, best, top = whole_number(row.get("call")), number(row.get("best")), number(row.get("top"))
        if call is not None and math.isfinite(best) and math.isfinite(top):
            batches.setdefault(row.get("batch", ""), {})[call] = best, top
    calls = sorted({call for points in batches.values() for call in points})
    if not calls:
        return [], [], []
    begin = max(min(points) for points in batches.values())
    calls = [call for call in calls if call >= begin]
    seen = [[points[max(c for c in points if c <= call)] for points in batches.values()] for call in calls]
    bests, tops = ([sum(pair[i] for pair in pairs) / len(pairs) for pairs in seen] for i in (0, 1))
    return calls, bests, tops


def stats_table(stats: Mapping[str, Any]) -> str:
    """Counts, and seconds by part; what is neither network, decoding nor reward is overhead."""
    seconds = dict(stats["seconds"])
    total = seconds.pop("total", sum(seconds.values()))
    parts = {part: seconds[part] for part in ("network", "reward", "decode") if part in seconds}
    parts["overhead"] = max(0.0, total - sum(parts.values()))
    counts = [(name.replace("_", " "), f"{stats[name]:,}", "") for name in COUNTS]
    if stats.get("stopped"):
        counts.append(("samples whose budget was spent", f"{stats['stopped']:,}", ""))
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
