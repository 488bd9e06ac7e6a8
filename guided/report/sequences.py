"""The report's section of DNA and RNA: the best sequences, logos, the effect of each base, and motifs."""

__all__ = ["NAME", "kmer_figure", "letters_of", "section"]

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from guided.errors import GuidedError
from guided.metrics.kmers import kmer_counts, kmers
from guided.report.contents import Contents
from guided.report.fasta import alphabet, fasta
from guided.report.figures import kmer_scatter
from guided.report.logo import logo
from guided.report.motifs import motif_section
from guided.report.mutagenesis import changes, effect_map
from guided.report.rows import (
    Row,
    best_rows,
    parts_text,
    prompt_of,
    prompt_text,
    request_text,
    reward_text,
    sample_of,
    whole_number,
)
from guided.scoring.objective import Objective, resolve_reward
from guided.scoring.registry import rewards

NAME = "sequences"
BEST = 12
ENOUGH = 10  # sequences, of which a logo says anything
LONGEST = 400  # nt that the figures show
NAMED = 4  # k-mers that the scatter's caption names
GROUP = 10  # bases between two gaps


def letters_of(contents: Contents) -> str | None:
    """The alphabet of the samples, "ACGT" or "ACGU"; None if they are no sequences of one of the two."""
    if contents.modality == "text":  # a word may have no other letters
        return None
    return alphabet(sample_of(row) for row in [*contents.rows, *contents.unguided])


def section(contents: Contents) -> str | None:
    """The best sequences, and a section for each of the other parts; a part that is left out says why in a line.

    None if not all of these samples are sequences.
    """
    letters, run, rows, unguided = letters_of(contents), contents.run, contents.rows, contents.unguided
    if not letters or not rows:
        return None
    best = best_rows(rows, BEST)
    parts = [best_table(best, run), _copies(best, run, len(rows), (contents.folder / "samples.fasta").exists())]
    parts += ["<h2>Letters at each position</h2>", logo_section(rows, unguided, letters)]
    if contents.reward_name:
        parts += ["<h2>What each base is worth</h2>", effect_section(best[0], contents, letters)]
    if letters == "ACGT":
        samples, others = ([sample_of(row) for row in part] for part in (rows, unguided))
        parts += ["<h2>Motifs</h2>", motif_section(samples, others, run["config"].get("reward"))]
    return "".join(parts)


def best_table(best: Sequence[Row], run: Mapping[str, Any]) -> str:
    """A row for each sequence, its bases in colours, with its reward, request and prompt."""
    prompted, terms = run["config"].get("prompt") is not None, any(map(parts_text, best))
    names = ["reward", *(["terms"] if terms else []), "request", *(["prompt"] if prompted else []), "sequence"]
    lines = []
    for row in best:
        cells = [f"<b>{reward_text(row)}</b>", *([escape(parts_text(row))] if terms else []), escape(request_text(row))]
        cells += [escape(prompt_text(run, row))] if prompted else []
        lines.append("".join(f"<td>{cell}</td>" for cell in [*cells, colored(sample_of(row))]))
    head = "".join(f"<th>{name}</th>" for name in names)
    return f'<table class="sequences"><tr>{head}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def colored(sequence: str) -> str:
    """The bases in colours, in groups that are apart to the eye only: a copy of the text has no gaps."""
    groups = [sequence[i : i + GROUP] for i in range(0, len(sequence), GROUP)]
    return "<code>" + "<wbr>".join(f"<span>{''.join(map(_letter, group))}</span>" for group in groups) + "</code>"


def _letter(letter: str) -> str:
    return f"<i class={letter}>{letter}</i>"


def _copies(best: Sequence[Row], run: Mapping[str, Any], n: int, written: bool) -> str:
    text = f"<details><summary>The same as FASTA</summary><pre>{escape(fasta(best, run))}</pre></details>"
    return text + (f"<p>All {n:,} are in samples.fasta.</p>" if written else "")


def logo_section(rows: Sequence[Row], unguided: Sequence[Row], letters: str) -> str:
    """The logos of the samples and of the unguided model's."""
    sets = {"guided" if unguided else "samples": rows, "unguided": unguided}
    texts = {name: [sample_of(row) for row in part] for name, part in sets.items() if len(part) >= ENOUGH}
    lengths = {len(text) for part in texts.values() for text in part}
    if len(rows) < ENOUGH:
        return f"<p>Left out: it takes {ENOUGH} sequences.</p>"
    if len(lengths) > 1 or max(lengths) > LONGEST:
        return f"<p>Left out: it takes sequences of one length, at most {LONGEST} nt.</p>"
    caption = "Information of each position, less what as many sequences without any preference would show"
    try:
        return _wide(logo(texts, letters), caption)
    except ImportError as error:
        return f"<p>Left out: {escape(str(error))}.</p>"


def effect_section(best: Row, contents: Contents, letters: str) -> str:
    """The map of the best sequence's changes, by the run's own reward."""
    sequence, prompt = sample_of(best), prompt_of(contents.run, whole_number(best.get("request")))
    if len(sequence) > LONGEST:
        return f"<p>Left out: the sequence is longer than {LONGEST} nt.</p>"
    try:
        reward = contents.objective or rebuilt(contents.run)
        prompts = (lambda n: None) if prompt is None else (lambda n: [prompt] * n)
        table = changes(sequence, lambda new: reward(new, prompts(len(new))).numpy(), letters)
    except (GuidedError, ImportError) as error:
        return f"<p>Left out: {escape(' '.join(str(error).split()))}.</p>"
    failed = int(np.isneginf(table).sum())
    note = f"; grey: {failed} that failed" if failed else ""
    caption = (
        f"Change of the best sequence's reward ({reward_text(best)}) by each other base, and the mean of a position's "
        f"three; dots: the sequence's own bases{note}"
    )
    return _wide(effect_map(sequence, table, letters, contents.reward_name), caption)


def rebuilt(run: Mapping[str, Any]) -> Objective:
    """The run's objective from its configuration, if its rewards are registered ones: no file or program is started.

    Raises:
        GuidedError: They are not.
        ImportError: A reward's library is not installed.
    """
    spec = run["config"].get("reward")
    if not isinstance(spec, Mapping) or any(term["reward"] not in rewards() for term in spec["terms"]):
        raise GuidedError("the reward is none of the registered ones, from which it could be rebuilt")
    try:
        return resolve_reward(spec, on_error="worst", time_limit=run.get("time_limit"))
    except (AttributeError, KeyError, TypeError) as error:  # somebody has edited it
        raise GuidedError(f"the reward in run.json is incomplete: {error}") from error


def kmer_figure(rows: Sequence[Row], unguided: Sequence[Row]) -> tuple[str, str]:
    """The scatter of the k-mers' frequencies and its caption; empty when there is too little to compare."""
    texts = [[sample_of(row) for row in part] for part in (rows, unguided)]
    counts = {k: [kmer_counts(part, k) for part in texts] for k in range(2, 7)}
    k = max((k for k, pair in counts.items() if min(part.sum() for part in pair) >= 4**k), default=0)
    if not k:
        return "", ""
    guided, other = counts[k]
    expected = other * (guided.sum() / other.sum())
    excess = (guided - expected) / np.sqrt(np.maximum(guided + expected, 1))
    most = [i for i in np.argsort(-excess, kind="stable")[:NAMED] if excess[i] > 3]
    words = ", ".join(f"{kmers(k)[i]} ({guided[i]} for {expected[i]:.0f})" for i in most)
    caption = f"Words of {k} letters, large dots many{f'; more frequent than expected are {words}' if words else ''}"
    return kmer_scatter(guided, other, k), caption


def _wide(svg: str, caption: str) -> str:
    return f'<figure class="wide">{svg}<figcaption>{escape(caption)}</figcaption></figure>'
