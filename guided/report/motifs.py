"""The report's motif table: how often binding sites occur in the samples, and in the unguided model's."""

__all__ = ["FACTORS", "motif_section"]

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from guided.rewards.sequences.motifs import MotifHits, motif_table

#: What is looked for in any run: factors of liver, blood, lymphocytes and stem cells, and two that are everywhere.
FACTORS = ("HNF4A", "HNF1A", "GATA1::TAL1", "SPI1", "POU5F1::SOX2", "CTCF", "FOS::JUN")
REWARDS = ("motif_count", "motif_score")


def motif_section(sequences: Sequence[str], unguided: Sequence[str], spec: Mapping[str, Any] | None) -> str:
    """A line for each motif that the rewards name and for each of the usual ones.

    Args:
        sequences: The samples.
        unguided: The unguided model's; none where there are none.
        spec: The `Objective.spec` of the run's rewards, None if it has none.
    """
    lines: dict[str, str] = {}
    try:
        for name in [*named(spec), *FACTORS]:
            [hits] = motif_table(sequences, [name])
            beside = motif_table(unguided, [name]) if unguided else []
            lines.setdefault(hits.motif.id, _line(hits, beside))
    except (ImportError, ValueError) as error:
        return f"<p>Left out: {escape(' '.join(str(error).split()))}.</p>"
    other = "<th>unguided</th>" if unguided else ""
    head = f"<th>motif</th><th>sites a sequence</th>{other}<th>sequences with a site</th>{other}"
    table = f'<table class="numbers"><tr>{head}</tr>{"".join(lines.values())}</table>'
    return f"{table}<p>Windows of either strand whose score a random one reaches with a probability below 1e-4.</p>"


def named(spec: Mapping[str, Any] | None) -> list[str]:
    """The motifs that the rewards are about."""
    terms = spec["terms"] if spec else []
    return [str(term["parameters"].get("id")) for term in terms if term["reward"] in REWARDS]


def _line(hits: MotifHits, beside: Sequence[MotifHits]) -> str:
    sets = [hits, *beside]
    numbers = [f"{found.mean:.2f}" for found in sets] + [f"{100 * found.present:.0f} %" for found in sets]
    name = f"{escape(hits.motif.name)} <small>{escape(hits.motif.id)}</small>"
    return f"<tr><td>{name}</td>{''.join(f'<td>{number}</td>' for number in numbers)}</tr>"
