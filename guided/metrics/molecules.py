r"""Measures of sets of generated molecules, as MOSES defines them.

Validity is the fraction of samples that RDKit parses. All other measures are over the valid samples, as canonical
SMILES: unique@k over the first k of them, novelty over the distinct ones, the diversity of Bemis and Murcko's scaffolds
(rings and what joins them) and internal diversity over all of them,

.. math:: \mathrm{IntDiv}_1 = 1 - \frac{1}{n^2} \sum_{i,j} T(m_i, m_j)

with the Tanimoto similarity T, a molecule and itself included. The Fréchet ChemNet distance is

.. math:: |\mu - \mu'|^2 + \mathrm{Tr}\big(C + C' - 2 (C C')^{1/2}\big)

between Gaussians fitted to ChemNet's activations. All are fractions or plain numbers without a unit.

References:
    | The Properties of Known Drugs. 1. Molecular Frameworks (Bemis and Murcko, 1996)
    | https://doi.org/10.1021/jm9602928

    | Molecular Sets (MOSES): A Benchmarking Platform for Molecular Generation Models (Polykovskiy et al., 2020)
    | https://arxiv.org/abs/1811.12823

    | Fréchet ChemNet Distance: A Metric for Generative Models for Molecules in Drug Discovery (Preuer et al., 2018)
    | https://arxiv.org/abs/1803.09518
"""

__all__ = [
    "ChemNet",
    "canonical",
    "fingerprints",
    "frechet_distance",
    "internal_diversity",
    "novelty",
    "ring_sizes",
    "scaffold_diversity",
    "unique",
]

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guided.errors import GuidedError, check_number

Array = NDArray[np.float64]


def canonical(smiles: str) -> str | None:
    """The canonical SMILES; None for one that RDKit cannot parse, and for an empty one."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
    return None if molecule is None else Chem.MolToSmiles(molecule)


def unique(molecules: Sequence[str], k: int) -> float:
    """The fraction of distinct molecules among the first k, or among all where there are fewer; 0 to 1.

    Args:
        molecules: Canonical SMILES.
        k: How many are looked at, at least 1.

    Raises:
        GuidedError: `k` is below 1, or there is no molecule.
    """
    first = _some(molecules)[: check_number("k", k, int, least=1)]
    return len(set(first)) / len(first)


def novelty(molecules: Iterable[str], known: Iterable[str]) -> float:
    """The fraction of the distinct molecules that are not among the known ones; 0 to 1.

    Args:
        molecules: Canonical SMILES.
        known: Canonical SMILES, of the training data for instance; they may be a stream.

    Raises:
        GuidedError: There is no molecule.
    """
    distinct = set(_some(molecules))
    return len(distinct.difference(known)) / len(distinct)


def fingerprints(molecules: Sequence[str]) -> NDArray[np.float32]:
    """Morgan fingerprints of radius 2 as zeros and ones, with shape `(n, 1024)`.

    Args:
        molecules: SMILES that RDKit can read.

    Raises:
        GuidedError: There is no molecule, or RDKit cannot read one.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    rows = []
    for smiles in _some(molecules):
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise GuidedError(f"fingerprints are those of valid SMILES, given {smiles!r}; leave it out")
        rows.append(morgan.GetFingerprintAsNumPy(molecule))
    return np.stack(rows).astype(np.float32)


def ring_sizes(molecules: Sequence[str], largest: int = 12) -> Array:
    """The mean number of rings of each size in a molecule, with shape `(largest + 1,)`; the first three are 0.

    Rings are the smallest ones that span all, as RDKit finds them. Larger ones count as of the largest size.

    Args:
        molecules: SMILES that RDKit can read.
        largest: The largest size that is told apart, at least 3.

    Raises:
        GuidedError: There is no molecule, RDKit cannot read one, or `largest` is below 3.
    """
    from rdkit import Chem, rdBase

    counts = np.zeros(check_number("largest", largest, int, least=3) + 1)
    found = _some(molecules)
    for smiles in found:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise GuidedError(f"rings are those of valid SMILES, given {smiles!r}; leave it out")
        for ring in molecule.GetRingInfo().AtomRings():
            counts[min(len(ring), largest)] += 1
    return counts / len(found)


def internal_diversity(molecules: Sequence[str], rows: int = 1000) -> float:
    """IntDiv1: one minus the mean Tanimoto similarity of all pairs; 0 (all equal) to 1.

    Args:
        molecules: SMILES that RDKit can read.
        rows: How many are compared with all others at a time; it changes the memory that is taken, not the result.

    Raises:
        GuidedError: There is no molecule, RDKit cannot read one, or `rows` is below 1.
    """
    rows, bits = check_number("rows", rows, int, least=1), fingerprints(molecules)
    sizes = bits.sum(1)
    total = 0.0
    for start in range(0, len(bits), rows):
        common = bits[start : start + rows] @ bits.T
        union = sizes[start : start + rows, None] + sizes - common
        total += float(np.divide(common, union, out=np.ones_like(common), where=union > 0).sum(dtype=np.float64))
    return 1 - total / len(bits) ** 2


def scaffold_diversity(molecules: Sequence[str]) -> float:
    """Distinct Bemis-Murcko scaffolds over molecules, 0 to 1; molecules without a ring have one scaffold together.

    Args:
        molecules: SMILES that RDKit can read.

    Raises:
        GuidedError: There is no molecule, or RDKit cannot read one.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem.Scaffolds import MurckoScaffold

    scaffold: Callable[[object], Any] = vars(MurckoScaffold)["GetScaffoldForMol"]  # RDKit's type stubs have no types
    scaffolds = set()
    found = _some(molecules)
    for smiles in found:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise GuidedError(f"scaffolds are those of valid SMILES, given {smiles!r}; leave it out")
        scaffolds.add(Chem.MolToSmiles(scaffold(molecule)))
    return len(scaffolds) / len(found)


def _some(molecules: Iterable[str]) -> list[str]:
    """The molecules as a list."""
    if isinstance(molecules, str):
        raise GuidedError(f"molecules are a list of SMILES, given one string: write [{molecules[:20]!r}]")
    found = list(molecules)
    if not found:
        raise GuidedError("there is no molecule to measure")
    return found


def frechet_distance(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """The squared 2-Wasserstein distance of two Gaussians, in squared units of their coordinates, at least 0.

    The trace of the root of the product is taken as `Tr (A C' A)^(1/2)` with `A = C^(1/2)`, which is symmetric: its
    eigenvalues are real and not negative, unlike those of the product in floating point.

    Args:
        mean: With shape `(d,)`.
        covariance: With shape `(d, d)`.
        other_mean: With shape `(d,)`.
        other_covariance: With shape `(d, d)`.

    Raises:
        GuidedError: The shapes do not agree, or a number is not finite.
    """
    _check_gaussians(mean, covariance, other_mean, other_covariance)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    shift = mean - other_mean
    return float(shift @ shift + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)


def _check_gaussians(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> None:
    shapes = [np.shape(part) for part in (mean, covariance, other_mean, other_covariance)]
    d = shapes[0][:1]
    if len(d) != 1 or shapes != [d, d * 2, d, d * 2]:
        raise GuidedError(f"two Gaussians have the shapes (d,), (d, d), (d,), (d, d), given {shapes}")
    if not all(np.isfinite(part).all() for part in (mean, covariance, other_mean, other_covariance)):
        raise GuidedError("the means and covariances of two Gaussians must be finite; a covariance takes two samples")


class ChemNet:
    """The network of the Fréchet ChemNet distance, from the `fcd-torch` package.

    Only tensors and plain values are unpickled; `fcd_torch.FCD` leaves that to PyTorch's default, and calls functions
    that NumPy and SciPy deprecate.

    Raises:
        ImportError: `fcd-torch` is not installed.
    """

    def __init__(self) -> None:
        try:
            import fcd_torch
            from fcd_torch.utils import get_one_hot, load_imported_model
        except ImportError as error:
            raise ImportError("the Fréchet ChemNet distance needs fcd-torch: pip install guided[training]") from error
        path = Path(fcd_torch.__file__).parent / "ChemNet_v0.13_pretrained.pt"
        self.net = load_imported_model(torch.load(path, weights_only=True)).eval()
        self.one_hot = get_one_hot

    @torch.no_grad()
    def activations(self, molecules: Sequence[str], rows: int = 512) -> NDArray[np.float32]:
        """The activations, with shape `(n, 512)`.

        Args:
            molecules: Canonical SMILES.
            rows: How many are computed at a time.

        Raises:
            GuidedError: There is no molecule, or `rows` is below 1.
        """
        molecules, rows = _some(molecules), check_number("rows", rows, int, least=1)
        outputs = []
        for start in range(0, len(molecules), rows):
            x = np.stack([self.one_hot(smiles, 350) for smiles in molecules[start : start + rows]])
            outputs.append(self.net(torch.from_numpy(x / x.shape[2]).float().transpose(1, 2)).numpy())
        return np.concatenate(outputs)

    def statistics(self, molecules: Sequence[str]) -> tuple[Array, Array]:
        """The mean, with shape `(512,)`, and the covariance, with shape `(512, 512)`, of the activations.

        Raises:
            GuidedError: There are fewer than two molecules.
        """
        activations = self.activations(molecules).astype(np.float64)
        if len(activations) < 2:
            raise GuidedError("a covariance takes two molecules or more, given 1")
        return activations.mean(0), np.cov(activations.T)
