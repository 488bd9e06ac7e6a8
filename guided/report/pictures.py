"""What the page says of a run of pictures: the best, guided beside unguided, one sample's way, and the look-aheads."""

__all__ = ["preview_line", "sections"]

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from guided.metrics.kmers import correlation
from guided.report.fasta import prompt_of
from guided.report.rows import Row, best_rows, parts_text, reward_text
from guided.report.thumbnails import digest, thumbnail
from guided.storage import read_rows

BEST = 8
SHOWN = {"png": 64, "webp": 12}  # requests that are shown guided and unguided, so that the page stays below some 5 MB
SIDE = {"png": 192, "webp": 128}  # pixels


def sections(folder: Path, run: Mapping[str, Any], rows: Sequence[Row], unguided: Sequence[Row]) -> str:
    """The best pictures, and a section for each of the other parts that the run has."""
    parts = [best_pictures(folder, run, rows)]
    way = one_way(folder, run, rows)
    if way:
        parts += ["<h2>How request 0 came about</h2>", way]
    parts += ["<h2>Guided and unguided</h2>" if unguided else "<h2>Samples</h2>", beside(folder, run, rows, unguided)]
    line = preview_line(rows)
    if line:
        parts += ["<h2>Look-aheads</h2>", f"<p>{escape(line)}</p>"]
    return "".join(parts)


def best_pictures(folder: Path, run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The best distinct pictures."""
    cells = []
    for row in best_rows(rows, BEST, lambda row: digest(folder, row["sample"])):
        prompt = prompt_of(run, int(row["request"])) or ""
        lines = [f"<b>{reward_text(row)}</b> <span>#{row['request']}</span>", escape(parts_text(row)), escape(prompt)]
        picture = thumbnail(folder, row["sample"], _side(row), prompt)
        cells.append(f"<figure>{picture}<figcaption>{'<br>'.join(filter(None, lines))}</figcaption></figure>")
    return f'<div class="pictures">{"".join(cells)}</div>'


def beside(folder: Path, run: Mapping[str, Any], rows: Sequence[Row], unguided: Sequence[Row]) -> str:
    """Each request's picture beside that of the unguided model, by prompt."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(prompt_of(run, int(row["request"])) or "", []).append(row)
    limit = SHOWN[_ending(rows[0])]
    each, others = max(1, limit // len(groups)), {row["request"]: row for row in unguided}
    shown = {prompt: group[:each] for prompt, group in [*groups.items()][:limit]}
    single = len(groups) > 1 and max(map(len, groups.values())) == 1  # then captions have room for prompts
    pairs = {
        prompt: [_pair(folder, row, others.get(row["request"]), prompt, single) for row in group]
        for prompt, group in shown.items()
    }
    left = len(rows) - sum(map(len, pairs.values()))
    note = f"<p>{left:,} of the {len(rows):,} samples are not shown here; all are in samples/.</p>" if left else ""
    if single:
        return f'{note}<div class="pairs">{"".join(pair for group in pairs.values() for pair in group)}</div>'
    heads = {prompt: f"<h3>{escape(prompt)}</h3>" if prompt else "" for prompt in pairs}
    return note + "".join(f'{heads[p]}<div class="pairs">{"".join(group)}</div>' for p, group in pairs.items())


def _pair(folder: Path, row: Row, other: Row | None, prompt: str, told: bool) -> str:
    """The pictures of one request, the unguided one to the left."""
    halves = [] if other is None else [("unguided", other)]
    cells = []
    for name, half in [*halves, ("guided" if halves else f"#{row['request']}", row)]:
        picture = thumbnail(folder, half["sample"], _side(half), f"{name}: {prompt}" if prompt else name)
        cells.append(f"<div>{picture}<small>{name} <b>{reward_text(half)}</b></small></div>")
    number = [f"#{row['request']}"] if halves else []
    caption = " · ".join([*number, *([escape(prompt)] if told and prompt else [])])
    return f"<figure>{''.join(cells)}<figcaption>{caption}</figcaption></figure>"


def one_way(folder: Path, run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The look-aheads of the best candidates of request 0, and its sample; empty where the folder has none."""
    looks = read_rows(folder / "path" / "steps.csv")
    if not looks:
        return ""
    name, steps = escape(str(run.get("reward_name") or "reward")), run["config"]["steps"]
    cells = [(row["sample"], f"step {row['step']} of {steps}", float(row["value"])) for row in looks]
    cells += [(row["sample"], "the sample", float(row["reward"])) for row in rows[:1] if "reward" in row]
    figures = []
    for sample, text, value in cells:
        caption = f"<figcaption>{text}<br><b>{value:.3f}</b></figcaption>"
        figures.append(f"<figure>{thumbnail(folder, sample, _side(rows[0]), text)}{caption}</figure>")
    prompt = prompt_of(run, 0)
    what = "learned value" if "value" in run["config"] else name
    about = f"The look-ahead of the best candidate, and its {what}" + (f", for “{escape(prompt)}”" if prompt else "")
    cheap = (
        "; the numbers of the steps are by the look-ahead's decoder, the pictures are not" if _previewed(rows) else ""
    )
    return f'<div class="way">{"".join(figures)}</div><p>{about}{cheap}.</p>'


def preview_line(rows: Sequence[Row]) -> str:
    """How the rewards of the samples change when the look-ahead's decoder shows them; empty without such a decoder."""
    pairs = [(float(row["preview"]), float(row["reward"])) for row in rows if "preview" in row]
    finite = [pair for pair in pairs if all(map(_finite, pair))]
    if not finite:
        return ""
    gaps = [preview - full for preview, full in finite]
    text = (
        f"Look-aheads are decoded in a cheaper way. The rewards of {len(finite):,} samples by that decoder less those "
        f"by the full one: {statistics.fmean(gaps):+.3g} on average, {statistics.fmean(map(abs, gaps)):.3g} in size"
    )
    r = correlation(*zip(*finite, strict=True)) if len(finite) > 1 else float("nan")
    return text + (f", correlation {r:.3f}." if _finite(r) else ".")


def _previewed(rows: Sequence[Row]) -> bool:
    return any("preview" in row for row in rows)


def _finite(number: float) -> bool:
    return abs(number) < float("inf")


def _ending(row: Row) -> str:
    return row["sample"].rpartition(".")[2]


def _side(row: Row) -> int:
    return SIDE[_ending(row)]
