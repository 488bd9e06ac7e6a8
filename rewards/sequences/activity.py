"""Activity of DNA in a cell type, as convolutional ensembles tell it that were trained on DNase-hypersensitive sites.

Two ensembles are shipped that saw no chromosome in common: `guide`, which is meant to be the reward, and `judge`, which
is meant to look at the samples afterwards, because a reward that is optimised is no judge of the optimum. How they were
trained, and how good they are: `guided/checkpoints/dna_oracle/README.md`.

References:
    | The data: DNA-Diffusion (DaSilva et al., 2024), https://doi.org/10.1101/2024.02.01.578352
    | A judge apart from the guide: Fine-Tuning Discrete Diffusion Models via Reward Optimization with Applications to
    | DNA and Protein Design (Wang et al., 2024), https://arxiv.org/abs/2410.13643
"""

__all__ = ["CELLS", "Samples", "activity", "cell_of", "cells_of", "specificity"]

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from guided.errors import GuidedError, RewardError, nearest
from guided.rewards.sequences.cells import CELLS
from guided.rewards.support.settings import Precision
from guided.scoring.registry import register_reward

#: n sequences, or their codes, with shape `(n, L)`, or their probabilities, with shape `(n, L, 4)`.
Samples: TypeAlias = "Sequence[str] | Tensor"
CPU = torch.device("cpu")


def cells_of(n: int, target: str | None, prompts: Sequence[str] | None, device: torch.device) -> Tensor:
    """The cell type of each sample, with shape `(n,)`: the one that is given, otherwise the prompt's."""
    if target is not None:
        return torch.full((n,), cell_of(target), device=device)
    each: Any = [""] * n if prompts is None else prompts
    texts = each.texts if hasattr(each, "texts") else tuple(dict.fromkeys(each))  # of samples on a device, or of text
    try:
        cells = tuple(map(cell_of, texts))
    except GuidedError as error:  # no sample is to blame
        raise RewardError(f"needs a cell type, {', '.join(CELLS)}: give target=, or a prompt that is one") from error
    if hasattr(each, "number"):
        return _table(cells, device)[each.number]
    known = dict(zip(texts, cells, strict=True))
    return torch.tensor([known[text] for text in each], dtype=torch.long, device="cpu").to(device)


@lru_cache(maxsize=64)
def _table(cells: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(cells, device="cpu").to(device)


def cell_of(name: str) -> int:
    """The number of a cell type.

    Raises:
        GuidedError: There is no such cell type.
    """
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
        cell_of(target)


@register_reward("activity", modality="dna", takes="tokens", check=_check, differentiable=True)
def activity(
    samples: Samples,
    target: str | None = None,
    oracle: str = "guide",
    prompts: Sequence[str] | None = None,
    precision: Precision = "float32",
) -> list[float] | Tensor:
    """Activity in a cell type, the prompt's unless `target`: an oracle's log-odds (nats); -inf if invalid."""
    scores, cells = _scored(samples, target, oracle, prompts, precision)
    own = scores.gather(1, cells[:, None])[:, 0]
    return own if isinstance(samples, Tensor) else own.tolist()


@register_reward("specificity", modality="dna", takes="tokens", check=_check, differentiable=True)
def specificity(
    samples: Samples,
    target: str | None = None,
    oracle: str = "guide",
    prompts: Sequence[str] | None = None,
    precision: Precision = "float32",
) -> list[float] | Tensor:
    """Activity in the target less that in the strongest other cell type, in nats; -inf for an invalid sequence."""
    scores, cells = _scored(samples, target, oracle, prompts, precision)
    own = scores.gather(1, cells[:, None])[:, 0]
    other = scores.scatter(1, cells[:, None], -torch.inf).amax(1)
    lead = torch.where(own.isneginf(), own, own - other)
    return lead if isinstance(samples, Tensor) else lead.tolist()


def _scored(
    samples: Samples, target: str | None, oracle: str, prompts: Sequence[str] | None, precision: str
) -> tuple[Tensor, Tensor]:
    """Log-odds of all cell types, with shape `(n, 4)`, where a device has it in double precision; and the targets."""
    from guided.rewards.sequences.oracle import log_odds, smooth_log_odds

    cells = cells_of(len(samples), target, prompts, samples.device if isinstance(samples, Tensor) else CPU)
    if isinstance(samples, Tensor) and samples.is_floating_point():
        scores = smooth_log_odds(samples, oracle)
    else:
        scores = log_odds(samples, oracle, precision)
    return scores if scores.device.type == "mps" else scores.double(), cells
