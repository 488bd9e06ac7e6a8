"""What samples are made of, as zeros and ones, for models that are fitted to a few hundred of them.

A molecule is made of the surroundings of its atoms (Morgan's, radius 2), a sequence of its words of 3 to 6 letters.
Each has a column, found by a hash, and what occurs n times has n columns: two samples then share as many ones as the
smaller of their counts add up to, and the Tanimoto similarity of rows is that of counts, but for what shares a column.

References:
    | Extended-Connectivity Fingerprints (Rogers and Hahn, 2010)
    | https://doi.org/10.1021/ci100050t
"""

__all__ = ["FEATURES", "WIDTH", "feature_rows"]

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError

WIDTH = 4096  # columns
WORDS = (3, 4, 5, 6)  # letters


def surroundings(smiles: Sequence[Any]) -> Iterable[Counter[str]]:
    """Those of the atoms of each molecule, by their numbers; none of what cannot be read."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2)
    with rdBase.BlockLogs():
        molecules = [Chem.MolFromSmiles(text) if isinstance(text, str) else None for text in smiles]
    for molecule in molecules:
        counts = {} if molecule is None else morgan.GetSparseCountFingerprint(molecule).GetNonzeroElements()
        yield Counter({str(number): count for number, count in counts.items()})


def words(sequences: Sequence[Any]) -> Iterable[Counter[str]]:
    """The words of each sequence."""
    for sequence in map(str, sequences):
        yield Counter(sequence[i : i + k] for k in WORDS for i in range(len(sequence) - k + 1))


#: By modality.
FEATURES: dict[str, Callable[[Sequence[Any]], Iterable[Counter[str]]]] = {
    "molecules": surroundings,
    "dna": words,
    "text": words,
}


def feature_rows(modality: str, samples: Sequence[Any], width: int = WIDTH) -> NDArray[np.uint8]:
    """The features of `n` samples, with shape `(n, width)`, as zeros and ones.

    Args:
        modality: That of the model.
        samples: As rewards are given them.
        width: The number of columns.

    Raises:
        GuidedError: There are no features of this modality.
    """
    if modality not in FEATURES:
        raise GuidedError(
            f"there are no features of {modality or 'these'} samples, which a surrogate (screen above 1) needs; "
            "only of molecules, DNA, RNA and text"
        )
    rows = np.zeros((len(samples), width), dtype=np.uint8)
    for row, counts in zip(rows, FEATURES[modality](samples), strict=True):
        row[[zlib.crc32(f"{name} {i}".encode()) % width for name, n in counts.items() for i in range(n)]] = 1
    return rows
