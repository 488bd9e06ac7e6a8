r"""How natural the words of a DNA sequence are: the correlation of its 3-mers with those of real regulatory DNA.

A sequence that is optimised for an oracle repeats the oracle's favourite words. With weight :math:`w` beside a reward,

.. math:: r(x) = r_\text{activity}(x) + w \, \mathrm{corr}(f(x), f_\text{real}),

where :math:`f` are the frequencies of the 64 words, a set of samples keeps the words of its cell type. The frequencies
of real sequences are those of the shipped DNA model's training data (`guided/checkpoints/dna/README.md`).

References:
    | Fine-Tuning Discrete Diffusion Models via Reward Optimization with Applications to DNA and Protein Design
    | (Wang et al., 2024), for this correlation as a measure of a set
    | https://arxiv.org/abs/2410.13643
"""

__all__ = ["natural_kmers"]

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from guided.rewards.sequences.activity import Samples, cell_of, cells_of
from guided.rewards.sequences.cells import CELLS
from guided.rewards.sequences.composition import encode, real, valid_codes
from guided.scoring.registry import register_reward

K = 3


def _check(target: str | None = None, **others: Any) -> None:
    if target is not None:
        cell_of(target)


@register_reward("natural_kmers", modality="dna", takes="tokens", check=_check)
def natural_kmers(
    samples: Samples, target: str | None = None, prompts: Sequence[str] | None = None
) -> list[float] | Tensor:
    """Correlation of the 3-mers with those of real DNA of a cell type, the prompt's unless `target`, -1 to 1; -inf for
    an invalid sequence.

    Args:
        samples: n sequences of 3 nt or more, or their codes, with shape `(n, L)`.
        target: One of the shipped model's cell types.
        prompts: The cell type of each sample, where `target` is None.
    """
    if isinstance(samples, Tensor):
        codes, valid = samples, valid_codes(samples)
    else:
        batch = encode(samples)
        codes, valid = torch.from_numpy(batch.codes).long(), torch.from_numpy(batch.valid)
    natural = _natural(codes.device)[cells_of(len(samples), target, prompts, codes.device)]
    scores = _correlation(_counts(codes).to(natural), natural)
    scores = torch.where(valid & (codes.shape[1] >= K) & scores.isfinite(), scores, -torch.inf)
    return scores if isinstance(samples, Tensor) else scores.tolist()


def _counts(codes: Tensor) -> Tensor:
    """How often each word occurs in codes `(n, L)`, with shape `(n, 64)`; a word with a letter that is no base is left
    out.
    """
    words = codes.unfold(1, K, 1) if codes.shape[1] >= K else codes.new_zeros(len(codes), 0, K)
    inside = ((words >= 0) & (words < 4)).all(2)
    number = (words * codes.new_tensor([4 ** (K - 1 - j) for j in range(K)])).sum(2)
    none = number.new_full((), 4**K)
    counts = torch.zeros(len(codes), 4**K + 1, device=codes.device)
    ones = torch.ones((), device=codes.device).expand(number.shape)
    return counts.scatter_add_(1, torch.where(inside, number, none), ones)[:, :-1]


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation of rows, `(n, w)` to `(n,)`; nan where a row is constant."""
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    return (x * y).sum(1) / ((x * x).sum(1) * (y * y).sum(1)).sqrt()


@lru_cache(maxsize=16)
def _natural(device: torch.device) -> Tensor:
    """The frequencies in real DNA of each cell type, with shape `(4, 64)`."""
    with as_file(files("guided") / "checkpoints" / "dna" / "kmers.safetensors") as path:
        table = load_file(path)
    return torch.stack([table[cell] for cell in CELLS]).to(device, real(device))
