"""The report's section of images and videos: the best, guided beside unguided, one trajectory, and the look-aheads."""

__all__ = ["NAME", "preview_line", "section"]

import math
import statistics
from collections.abc import Sequence
from html import escape

from guided.metrics.kmers import correlation
from guided.report.contents import Contents
from guided.report.rows import (
    Row,
    best_rows,
    load_rows,
    number,
    parts_text,
    prompt_of,
    prompt_text,
    request_text,
    reward_text,
    sample_of,
)
from guided.report.thumbnails import digest, is_image, thumbnail

NAME = "images"
BEST = 8
SHOWN = {"png": 64, "webp": 12}  # requests that are shown guided and unguided, so that the page stays below some 5 MB
SIDE = {"png": 192, "webp": 128}  # pixels


def section(contents: Contents) -> str | None:
    """The best images, and what else the run has to show; None if not all of these samples are images."""
    rows, unguided = contents.rows, contents.unguided
    if not rows or not is_image([*rows, *unguided]):
        return None
    parts = [best_images(contents)]
    way = trajectory(contents)
    if way:
        parts += ["<h2>How request 0 came about</h2>", way]
    parts += ["<h2>Guided and unguided</h2>" if unguided else "<h2>Samples</h2>", beside(contents)]
    line = preview_line(rows)
    if line:
        parts += ["<h2>Look-aheads</h2>", f"<p>{escape(line)}</p>"]
    return "".join(parts)


def best_images(contents: Contents) -> str:
    """The best distinct images."""
    cells = []
    for row in best_rows(contents.rows, BEST, lambda row: digest(contents.folder, sample_of(row))):
        prompt = prompt_text(contents.run, row)
        head = f"<b>{reward_text(row)}</b> <span>{escape(request_text(row))}</span>"
        caption = "<br>".join(filter(None, [head, escape(parts_text(row)), escape(prompt)]))
        image = thumbnail(contents.folder, sample_of(row), _side(row), prompt)
        cells.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="images">{"".join(cells)}</div>'


def beside(contents: Contents) -> str:
    """Each request's image beside that of the unguided model, by prompt; so many that the page does not get too big."""
    rows, groups = contents.rows, by_prompt(contents)
    limit = SHOWN[_ending(rows[0])]
    each, others = max(1, limit // len(groups)), {row.get("request"): row for row in contents.unguided}
    single = len(groups) > 1 and max(map(len, groups.values())) == 1  # then captions have room for prompts
    pairs = {
        prompt: [_pair(contents, row, others.get(row.get("request")), prompt, single) for row in group[:each]]
        for prompt, group in [*groups.items()][:limit]
    }
    left = len(rows) - sum(map(len, pairs.values()))
    note = f"<p>{left:,} of the {len(rows):,} samples are not shown here; all are in samples/.</p>" if left else ""
    if single:
        return f'{note}<div class="pairs">{"".join(pair for group in pairs.values() for pair in group)}</div>'
    heads = {prompt: f"<h3>{escape(prompt)}</h3>" if prompt else "" for prompt in pairs}
    return note + "".join(f'{heads[p]}<div class="pairs">{"".join(group)}</div>' for p, group in pairs.items())


def by_prompt(contents: Contents) -> dict[str, list[Row]]:
    """The samples of each prompt, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in contents.rows:
        groups.setdefault(prompt_text(contents.run, row), []).append(row)
    return groups


def _pair(contents: Contents, row: Row, other: Row | None, prompt: str, captioned: bool) -> str:
    """The images of one request, the unguided one to the left."""
    halves = [] if other is None else [("unguided", other)]
    cells = []
    for name, half in [*halves, ("guided" if halves else request_text(row), row)]:
        image = thumbnail(contents.folder, sample_of(half), _side(half), f"{name}: {prompt}" if prompt else name)
        cells.append(f"<div>{image}<small>{escape(name)} <b>{reward_text(half)}</b></small></div>")
    request = [escape(request_text(row))] if halves else []
    caption = " · ".join([*request, *([escape(prompt)] if captioned and prompt else [])])
    return f"<figure>{''.join(cells)}<figcaption>{caption}</figcaption></figure>"


def trajectory(contents: Contents) -> str:
    """The look-aheads of the best candidates of request 0, and its sample; empty where the folder has none."""
    looks = load_rows(contents.folder / "path" / "steps.csv")
    if not looks:
        return ""
    rows, steps = contents.rows, contents.run["config"]["steps"]
    cells: list[tuple[Row, str, float]] = []
    cells += [(row, f"step {row.get('step', '')} of {steps}", number(row.get("value"))) for row in looks]
    cells += [(row, "the sample", number(row["reward"])) for row in rows[:1] if "reward" in row]
    shown = []
    for row, text, value in cells:
        caption = f"<figcaption>{escape(text)}<br><b>{value:.3f}</b></figcaption>"
        image = thumbnail(contents.folder, sample_of(row), _side(rows[0]), text)
        shown.append(f"<figure>{image}{caption}</figure>")
    return f'<div class="way">{"".join(shown)}</div><p>{_about(contents)}</p>'


def _about(contents: Contents) -> str:
    """What the trajectory shows, as HTML."""
    prompt = prompt_of(contents.run, 0)
    what = "learned value" if contents.learned else escape(contents.reward_name or "reward")
    about = f"The look-ahead of the best candidate, and its {what}" + (f", for “{escape(prompt)}”" if prompt else "")
    cheap = "; the numbers of the steps are by the look-ahead's decoder, the images are not"
    return about + (cheap if any("preview" in row for row in contents.rows) else "") + "."


def preview_line(rows: Sequence[Row]) -> str:
    """How the rewards of the samples change when the look-ahead's decoder shows them; empty without such a decoder."""
    pairs = [(number(row["preview"]), number(row.get("reward"))) for row in rows if "preview" in row]
    finite = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if not finite:
        return ""
    gaps = [preview - full for preview, full in finite]
    text = (
        f"Look-aheads are decoded in a cheaper way. The rewards of {len(finite):,} samples by that decoder less those "
        f"by the full one: {statistics.fmean(gaps):+.3g} on average, {statistics.fmean(map(abs, gaps)):.3g} in size"
    )
    r = correlation(*zip(*finite, strict=True)) if len(finite) > 1 else float("nan")
    return text + (f", correlation {r:.3f}." if math.isfinite(r) else ".")


def _ending(row: Row) -> str:
    return sample_of(row).rpartition(".")[2]


def _side(row: Row) -> int:
    return SIDE[_ending(row)]
