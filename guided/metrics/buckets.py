"""What samples have in common that are too much alike: one text each, equal for those that share a bucket."""

__all__ = ["BUCKETS", "bucket"]

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np


def scaffold(smiles: Any) -> Hashable:
    """The Murcko scaffold of a molecule; its SMILES itself where it has no ring or cannot be read."""
    from rdkit import Chem
    from rdkit.Chem.Scaffolds import MurckoScaffold

    molecule = Chem.MolFromSmiles(smiles) if isinstance(smiles, str) else None
    if molecule is None:
        return str(smiles)
    found: str = MurckoScaffold.MurckoScaffoldSmiles(mol=molecule)  # type: ignore[no-untyped-call]
    return found or str(smiles)


def kmers(sequence: Any, k: int = 4, most: int = 3) -> Hashable:
    """The most frequent words of a sequence."""
    text = str(sequence)
    counted = Counter(text[i : i + k] for i in range(len(text) - k + 1))
    return tuple(sorted(sorted(counted, key=lambda word: (-counted[word], word))[:most]))


def image_hash(image: Any) -> Hashable:
    """The difference hash of an image: where 8 x 8 grey blocks are lighter than their left neighbours."""
    small = np.asarray(image.convert("L").resize((9, 8)), dtype=np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()


def number(row: Any) -> Hashable:
    """The signs of a row of numbers, for models without a decoder."""
    return bytes(np.packbits(np.asarray(row).ravel() > 0))


#: By modality.
BUCKETS: dict[str, Callable[[Any], Hashable]] = {
    "molecules": scaffold,
    "dna": kmers,
    "images": image_hash,
    "videos": lambda frames: image_hash(frames[0]),
}


def bucket(modality: str) -> Callable[[Any], Hashable]:
    """What tells the buckets of a modality's samples apart."""
    return BUCKETS.get(modality, lambda sample: sample if isinstance(sample, str) else number(sample))
