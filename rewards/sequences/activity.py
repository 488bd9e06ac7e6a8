"""Activity of DNA in a cell type, as convolutional ensembles tell it that were trained on DNase-hypersensitive sites.

Two ensembles are shipped that saw no chromosome in common: `guide`, which is meant to be the reward, and `judge`, which
is meant to look at the samples afterwards, because a reward that is optimised is no judge of the optimum. How they were
trained, and how good they are: `guided/checkpoints/dna_oracle/README.md`.

References:
    | The data: DNA-Diffusion (DaSilva et al., 2024), https://doi.org/10.1101/2024.02.01.578352
    | A judge apart from the guide: Fine-Tuning Discrete Diffusion Models via Reward Optimization with Applications to
    | DNA and Protein Design (Wang et al., 2024), https://arxiv.org/abs/2410.13643
"""

__all__ = ["CELLS", "activity", "specificity"]

from collections.abc import Sequence
from typing import Any

from guided.errors import GuidedError, RewardError, nearest
from guided.rewards.sequences.cells import CELLS
from guided.scoring.registry import register_reward


def _targets(n: int, target: str | None, prompts: Sequence[str] | None) -> list[int]:
    """The cell type of each sample: the one that is given, otherwise the prompt's."""
    if target is not None:
        return [_cell(target)] * n
    try:
        return [_cell(prompt) for prompt in prompts or [""] * n]
    except GuidedError as error:  # no sample is to blame
        raise RewardError(f"needs a cell type, {', '.join(CELLS)}: give target=, or a prompt that is one") from error


def _cell(name: str) -> int:
    known = {cell.lower(): i for i, cell in enumerate(CELLS)}
    if name.lower() not in known:
        raise GuidedError(
            f"target {name!r} is no cell type of the oracle{nearest(name, CELLS)}; it knows {', '.join(CELLS)}"
        )
    return known[name.lower()]


def _check(target: str | None = None, oracle: str = "guide", **others: Any) -> None:
    from guided.rewards.sequences.oracle import load_oracle

    load_oracle(oracle)
    if target is not None:
        _cell(target)


@register_reward("activity", modality="dna", check=_check)
def activity(
    samples: Sequence[str],
    target: str | None = None,
    oracle: str = "guide",
    prompts: Sequence[str] | None = None,
) -> list[float]:
    """Activity in a cell type, the prompt's unless `target`: an oracle's log-odds (nats); -inf if invalid."""
    from guided.rewards.sequences.oracle import log_odds

    cells = _targets(len(samples), target, prompts)
    return [row[cell] for row, cell in zip(log_odds(samples, oracle).tolist(), cells, strict=True)]


@register_reward("specificity", modality="dna", check=_check)
def specificity(
    samples: Sequence[str],
    target: str | None = None,
    oracle: str = "guide",
    prompts: Sequence[str] | None = None,
) -> list[float]:
    """Activity in the target less that in the strongest other cell type, in nats; -inf for an invalid sequence."""
    from guided.rewards.sequences.oracle import log_odds

    cells = _targets(len(samples), target, prompts)
    return [_lead(row, cell) for row, cell in zip(log_odds(samples, oracle).tolist(), cells, strict=True)]


def _lead(row: list[float], cell: int) -> float:
    other = max(score for i, score in enumerate(row) if i != cell)
    return row[cell] if row[cell] == -float("inf") else row[cell] - other
