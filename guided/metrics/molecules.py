r"""How sets of generated molecules are judged: the definitions of MOSES.

Validity is the fraction of samples that RDKit parses. All other metrics are over the valid samples, as canonical
SMILES: unique@k over the first k of them, novelty over the distinct ones, internal diversity over all,
IntDiv1 = 1 - mean of the Tanimoto similarity of all pairs (a molecule and itself too). The Fréchet ChemNet distance is
`|mu - mu'|^2 + Tr(C + C' - 2 (C C')^(1/2))` between Gaussians fitted to ChemNet's activations.

References:
    | Molecular Sets (MOSES): A Benchmarking Platform for Molecular Generation Models (Polykovskiy et al., 2020)
    | https://arxiv.org/abs/1811.12823

    | Fréchet ChemNet Distance: A Metric for Generative Models for Molecules in Drug Discovery (Preuer et al., 2018)
    | https://arxiv.org/abs/1803.09518
"""

__all__ = ["ChemNet", "canonical", "frechet_distance", "internal_diversity", "novelty", "unique"]

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


def canonical(smiles: str) -> str | None:
    """The canonical SMILES, None where RDKit cannot parse the given one."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
    return None if molecule is None else Chem.MolToSmiles(molecule)


def unique(molecules: Sequence[str], k: int) -> float:
    """The fraction of distinct ones among the first `k` canonical SMILES, or among all where there are fewer."""
    return len(set(molecules[:k])) / len(molecules[:k])


def novelty(molecules: Iterable[str], known: Iterable[str]) -> float:
    """The fraction of the distinct canonical SMILES that are not among the known ones, which may be a stream."""
    distinct = set(molecules)
    return len(distinct.difference(known)) / len(distinct)


def fingerprints(molecules: Sequence[str]) -> NDArray[np.float32]:
    """Morgan fingerprints of radius 2, with shape `(n, 1024)`."""
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator

    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    rows = [morgan.GetFingerprintAsNumPy(Chem.MolFromSmiles(smiles)) for smiles in molecules]
    return np.stack(rows).astype(np.float32)


def internal_diversity(molecules: Sequence[str], rows: int = 1000) -> float:
    """IntDiv1: one minus the mean Tanimoto similarity of all pairs, `rows` of them against all at a time."""
    bits = fingerprints(molecules)
    sizes = bits.sum(1)
    total = 0.0
    for start in range(0, len(bits), rows):
        common = bits[start : start + rows] @ bits.T
        union = sizes[start : start + rows, None] + sizes - common
        total += float(np.divide(common, union, out=np.ones_like(common), where=union > 0).sum(dtype=np.float64))
    return 1 - total / len(bits) ** 2


def frechet_distance(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """The squared 2-Wasserstein distance of two Gaussians, with means `(d,)` and covariances `(d, d)`.

    The trace of the root of the product is taken as `Tr (A C' A)^(1/2)` with `A = C^(1/2)`, which is symmetric: its
    eigenvalues are real and not negative, unlike those of the product in floating point.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    shift = mean - other_mean
    return float(shift @ shift + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)


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
        """The activations of canonical SMILES, with shape `(n, 512)`, computed `rows` at a time."""
        outputs = []
        for start in range(0, len(molecules), rows):
            x = np.stack([self.one_hot(smiles, 350) for smiles in molecules[start : start + rows]])
            outputs.append(self.net(torch.from_numpy(x / x.shape[2]).float().transpose(1, 2)).numpy())
        return np.concatenate(outputs)

    def statistics(self, molecules: Sequence[str]) -> tuple[Array, Array]:
        """The mean, with shape `(512,)`, and the covariance, with shape `(512, 512)`, of the activations."""
        activations = self.activations(molecules).astype(np.float64)
        return activations.mean(0), np.cov(activations.T)
