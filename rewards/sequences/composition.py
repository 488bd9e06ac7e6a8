"""Rewards of DNA and RNA sequences that need no network, and the codes that all rewards of sequences share.

A sequence is text over A, C, G, T; U is the same letter as T, lower case the same as upper case. Anything else (None,
"", a text with another letter, N included) is an invalid sample, and scores -inf in every reward of sequences: some of
them are wanted low and some high, and -inf is the worst in both directions. A batch may mix lengths.

A model may give codes instead of text, a tensor `(n, L)` on its device: 0 to 3 for the bases; any other number makes a
sequence invalid. Scores are the same, on that device.

Letters: n samples, L the longest length of the batch.

References:
    The letters of ambiguous recognition sequences: Nomenclature for incompletely specified bases in nucleic acid
    sequences: recommendations 1984 (Cornish-Bowden, Nucleic Acids Research 13, 3021, 1985). Recognition sequences:
    REBASE: a database for DNA restriction and modification: enzymes, genes and genomes (Roberts et al., Nucleic Acids
    Research 51, D629, 2023), http://rebase.neb.com
"""

__all__ = [
    "INVALID",
    "Encoded",
    "Given",
    "Samples",
    "Scores",
    "encode",
    "gc",
    "homopolymer",
    "or_worst",
    "real",
    "restriction",
    "valid_codes",
    "windows_inside",
]

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guided.errors import GuidedError, nearest
from guided.scoring.registry import register_reward

Samples = Sequence[str | None]
Scores = NDArray[np.float64]
Given: TypeAlias = "Samples | Tensor"  # n sequences, as text or as codes `(n, L)`

INVALID = 255
_CODES = np.full(256, INVALID, dtype=np.uint8)
for _code, _letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
    _CODES[[ord(letter) for letter in _letters]] = _code

# The sets of bases that a letter of a recognition sequence stands for, as bits: A = 1, C = 2, G = 4, T = 8.
_IUPAC = {letter: bits for bits, letter in enumerate("-ACMGRSVTWYHKDBN")}
_COMPLEMENT = str.maketrans("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN")

_ENZYMES = """
    AarI CACCTGC  AatII GACGTC  AflII CTTAAG  AgeI ACCGGT  AluI AGCT  ApaI GGGCCC  AscI GGCGCGCC  AvrII CCTAGG
    BamHI GGATCC  BbsI GAAGAC  BclI TGATCA  BglII AGATCT  BsaI GGTCTC  BsiWI CGTACG  BsmBI CGTCTC  BsmI GAATGC
    BspHI TCATGA  BspQI GCTCTTC  BsrGI TGTACA  BssHII GCGCGC  BstBI TTCGAA  BstEII GGTNACC  BstXI CCANNNNNNTGG
    ClaI ATCGAT  DpnI GATC  DpnII GATC  DraI TTTAAA  EagI CGGCCG  EcoRI GAATTC  EcoRV GATATC  Esp3I CGTCTC
    FseI GGCCGGCC  HaeIII GGCC  HincII GTYRAC  HindIII AAGCTT  HpaI GTTAAC  HpaII CCGG  KasI GGCGCC  KpnI GGTACC
    MfeI CAATTG  MluI ACGCGT  MspI CCGG  NarI GGCGCC  NcoI CCATGG  NdeI CATATG  NheI GCTAGC  NotI GCGGCCGC  NruI TCGCGA
    NsiI ATGCAT  PacI TTAATTAA  PaqCI CACCTGC  PmeI GTTTAAAC  PstI CTGCAG  PvuI CGATCG  PvuII CAGCTG  RsaI GTAC
    SacI GAGCTC  SalI GTCGAC  SapI GCTCTTC  Sau3AI GATC  SbfI CCTGCAGG  ScaI AGTACT  SfiI GGCCNNNNNGGCC  SmaI CCCGGG
    SnaBI TACGTA  SpeI ACTAGT  SphI GCATGC  StuI AGGCCT  SwaI ATTTAAAT  TaqI TCGA  XbaI TCTAGA  XhoI CTCGAG  XmaI CCCGGG
"""
ENZYMES = dict(zip(_ENZYMES.split()[::2], _ENZYMES.split()[1::2], strict=True))


class Encoded(NamedTuple):
    """A batch of n sequences as codes.

    Attributes:
        codes: 0 to 3 for A, C, G, T, with shape `(n, L)`, uint8; INVALID after a sequence's end, and all along an
            invalid sample. L is at least 1.
        lengths: In nt, with shape `(n,)`; 0 for an invalid sample.
        valid: Which samples are sequences, with shape `(n,)`.
    """

    codes: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    valid: NDArray[np.bool_]


def encode(samples: Samples) -> Encoded:
    """The codes of n samples."""
    texts = [sample if isinstance(sample, str) else "" for sample in samples]
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    # a letter that is not ASCII becomes one "?", so that no other sequence moves
    letters = _CODES[np.frombuffer("".join(texts).encode("ascii", "replace"), dtype=np.uint8)]
    owner = np.repeat(np.arange(len(texts)), lengths)
    valid = lengths > 0
    valid[owner[letters == INVALID]] = False
    lengths = np.where(valid, lengths, 0)
    codes = np.full((len(texts), max(1, lengths.max(initial=0))), INVALID, dtype=np.uint8)
    codes[np.arange(codes.shape[1]) < lengths[:, None]] = letters[valid[owner]]
    return Encoded(codes, lengths, valid)


def windows_inside(batch: Encoded, width: int) -> NDArray[np.bool_]:
    """Which windows of `width` nt, starting at 0, 1, …, are in their sequence, with shape `(n, L - width + 1)`."""
    starts = np.arange(max(0, batch.codes.shape[1] - width + 1))
    return np.asarray(starts <= batch.lengths[:, None] - width)


def or_worst(batch: Encoded, scores: NDArray[Any]) -> Scores:
    """Scores `(n,)` as float64, -inf for the invalid samples."""
    return np.where(batch.valid, scores, -np.inf)


def valid_codes(codes: Tensor) -> Tensor:
    """Which rows of codes `(n, L)` are sequences, with shape `(n,)`."""
    return ((codes >= 0) & (codes < 4)).all(1) & (codes.shape[1] > 0)


def real(device: torch.device) -> torch.dtype:
    """The precision of scores on a device: double, where it has that."""
    return torch.float32 if device.type == "mps" else torch.float64


@register_reward("gc", transform="window=0.4,0.6,0.05", modality="dna", takes="tokens")
def gc(samples: Given) -> Scores | Tensor:
    """Fraction of G and C, 0 to 1; -inf for an invalid sequence. Transformed: 1 between 0.4 and 0.6."""
    if isinstance(samples, Tensor):
        share = ((samples == 1) | (samples == 2)).sum(1).to(real(samples.device)) / max(1, samples.shape[1])
        return torch.where(valid_codes(samples), share, -torch.inf)
    batch = encode(samples)
    strong = ((batch.codes == 1) | (batch.codes == 2)).sum(axis=1)
    return or_worst(batch, strong / np.maximum(batch.lengths, 1))


@register_reward("homopolymer", transform="window=0,6,1", modality="dna", takes="tokens")
def homopolymer(samples: Given) -> Scores | Tensor:
    """Length of the longest run of one base, in nt; -inf for an invalid sequence. Transformed: 1 up to 6 nt."""
    if isinstance(samples, Tensor):
        return _longest_run(samples)
    batch = encode(samples)
    position = np.arange(batch.codes.shape[1])
    first = np.diff(batch.codes, axis=1, prepend=np.uint8(INVALID)) != 0  # uint8: a difference wraps, 0 stays 0
    runs = position - np.maximum.accumulate(np.where(first, position, 0), axis=1) + 1
    return or_worst(batch, np.where(batch.codes == INVALID, 0, runs).max(axis=1))


def _longest_run(codes: Tensor) -> Tensor:
    if not codes.shape[1]:
        return torch.full((len(codes),), -torch.inf, dtype=real(codes.device), device=codes.device)
    position = torch.arange(codes.shape[1], device=codes.device)
    first = torch.ones_like(codes, dtype=torch.bool)
    torch.ne(codes[:, 1:], codes[:, :-1], out=first[:, 1:])
    runs = position - torch.where(first, position, 0).cummax(1).values + 1
    return torch.where(valid_codes(codes), runs.amax(1).to(real(codes.device)), -torch.inf)


def _check_enzymes(enzymes: str) -> None:
    recognition_sequences(enzymes)


@register_reward("restriction", transform="window=0,0,1", modality="dna", check=_check_enzymes)
def restriction(samples: Samples, enzymes: str) -> Scores:
    """Number of restriction sites, on both strands; -inf for an invalid sequence. Transformed: 1 without a site.

    Args:
        samples: n sequences, taken as linear.
        enzymes: Names ("EcoRI,BsaI") or recognition sequences ("GGTNACC"), separated by commas. A site that reads the
            same on both strands is one site; enzymes with the same recognition sequence are counted once.

    Raises:
        ValueError: An enzyme is neither known nor a recognition sequence.
    """
    batch = encode(samples)
    bases = np.where(batch.codes == INVALID, 0, 1 << (batch.codes & 3)).astype(np.uint8)
    count = np.zeros(len(bases), dtype=np.int64)
    for site in recognition_sequences(enzymes):
        starts = max(0, bases.shape[1] - len(site) + 1)
        match = np.ones((len(bases), starts), dtype=bool)
        for i, letter in enumerate(site):
            match &= (bases[:, i : i + starts] & _IUPAC[letter]) != 0
        count += match.sum(axis=1)
    return or_worst(batch, count)


@lru_cache(maxsize=64)
def recognition_sequences(enzymes: str) -> tuple[str, ...]:
    """The sequences that are looked for on the given strand: of each enzyme its own, and where it differs the reverse.

    Raises:
        ValueError: An enzyme is neither known nor a recognition sequence.
    """
    known = {name.lower(): site for name, site in ENZYMES.items()}
    sites: dict[str, None] = {}
    for name in (name.strip() for name in enzymes.split(",")):
        site = known.get(name.lower(), name.upper().replace("U", "T"))
        if not site or not set(site) <= set(_IUPAC) - {"-"}:
            hint = nearest(name, ENZYMES) or f"; it is one of {', '.join(ENZYMES)}"
            raise GuidedError(
                f"unknown restriction enzyme {name!r}{hint}; or give its recognition sequence, in ACGTRYSWKMBDHVN"
            )
        sites |= {site: None, site.translate(_COMPLEMENT)[::-1]: None}
    return tuple(sites)
