"""Laws of the metrics: closed forms, and the packages that the field uses."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.errors import GuidedError
from guided.metrics.molecules import (
    ChemNet,
    canonical,
    fingerprints,
    frechet_distance,
    internal_diversity,
    novelty,
    ring_sizes,
    scaffold_diversity,
    unique,
)

SMILES = ["CCO", "c1ccccc1O", "CC(=O)Nc1ccc(O)cc1", "CN1CCC[C@H]1c1cccnc1", "O=C(O)c1ccccc1", "CCN(CC)CC", "C1CCNCC1"]


def covariances(seed: int, n: int, d: int = 4) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d, 2 * d))
    return rows @ rows.transpose(0, 2, 1) / (2 * d)


def test_canonical_form_is_one() -> None:
    assert canonical("OCC") == canonical("C(C)O") == "CCO"


@pytest.mark.parametrize("smiles", ["", "C1CC", "C(C)(C)(C)(C)C", "molecule"])
def test_invalid_smiles_have_none(smiles: str) -> None:
    assert canonical(smiles) is None


def test_unique_counts_the_first_k() -> None:
    assert unique(["a", "a", "b", "b", "b"], 2) == 1 / 2
    assert unique(["a", "a", "b", "b", "b"], 3) == 2 / 3
    assert unique(["a", "a", "b", "b", "b"], 1000) == 2 / 5


def test_novelty_is_over_distinct_molecules() -> None:
    assert novelty(["a", "a", "a", "b", "c", "d"], iter(["a", "z"])) == 3 / 4
    assert novelty(["a", "b"], ["b", "a"]) == 0
    assert novelty(["a", "b"], []) == 1


def test_ring_sizes_are_counted_by_molecule() -> None:
    """Naphthalene has two six-membered rings; the largest size holds all larger rings."""
    sizes = ring_sizes(["c1ccc2ccccc2c1", "C1CC1", "CCO", "C1CCCCCCCCCCCCC1"])
    assert sizes.tolist() == [0, 0, 0, 0.25, 0, 0, 0.5, 0, 0, 0, 0, 0, 0.25]
    with pytest.raises(GuidedError, match="rings are those of valid SMILES"):
        ring_sizes(["C1CC"])


def test_internal_diversity_of_one_molecule_is_zero() -> None:
    assert internal_diversity(["c1ccccc1O"] * 5) == pytest.approx(0, abs=1e-6)


def test_internal_diversity_of_disjoint_molecules() -> None:
    """Methane and water share no bit: of n^2 pairs only those of a molecule with itself are similar."""
    assert internal_diversity(["C", "O"]) == pytest.approx(1 / 2)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_internal_diversity_is_the_mean_over_pairs(rows: int) -> None:
    from rdkit import DataStructs
    from rdkit.Chem import MolFromSmiles
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    morgan = GetMorganGenerator(radius=2, fpSize=1024)
    bits = [morgan.GetFingerprint(MolFromSmiles(smiles)) for smiles in SMILES]
    similarity = np.mean([[DataStructs.TanimotoSimilarity(a, b) for a in bits] for b in bits])
    assert internal_diversity(SMILES, rows) == pytest.approx(1 - similarity, abs=1e-6)


def test_fingerprints_have_1024_bits() -> None:
    bits = fingerprints(SMILES)
    assert bits.shape == (len(SMILES), 1024)
    assert set(np.unique(bits)) == {0, 1}


@given(st.integers(0, 10**6))
def test_frechet_distance_of_equal_gaussians_is_zero(seed: int) -> None:
    mean, [covariance] = np.random.default_rng(seed).normal(size=4), covariances(seed, 1)
    assert frechet_distance(mean, covariance, mean, covariance) == pytest.approx(0, abs=1e-9)


@given(st.integers(0, 10**6))
def test_frechet_distance_of_a_shift_is_its_square(seed: int) -> None:
    mean, other = np.random.default_rng(seed).normal(size=(2, 4))
    [covariance] = covariances(seed, 1)
    expected = ((mean - other) ** 2).sum()
    assert frechet_distance(mean, covariance, other, covariance) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=6))
def test_frechet_distance_of_independent_coordinates(deviations: list[tuple[float, float]]) -> None:
    a, b = np.array(deviations).T
    zero = np.zeros(len(a))
    expected = ((a - b) ** 2).sum()
    assert frechet_distance(zero, np.diag(a**2), zero, np.diag(b**2)) == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 10**6))
def test_frechet_distance_is_the_published_formula(seed: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    (a, b), zero = covariances(seed, 2), np.zeros(4)
    expected = np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(expected, abs=1e-8)
    assert frechet_distance(zero, b, zero, a) == pytest.approx(expected, abs=1e-8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_chemnet_is_that_of_fcd_torch() -> None:
    fcd_torch = pytest.importorskip("fcd_torch")
    molecules = [canonical(smiles) or "" for smiles in SMILES]
    theirs = fcd_torch.FCD(device="cpu").precalc(molecules)
    mean, covariance = ChemNet().statistics(molecules)
    np.testing.assert_allclose(mean, theirs["mu"], atol=1e-5)
    np.testing.assert_allclose(covariance, theirs["sigma"], atol=1e-5)


def test_activations_do_not_depend_on_the_batch() -> None:
    pytest.importorskip("fcd_torch")
    net = ChemNet()
    np.testing.assert_allclose(net.activations(SMILES, rows=2), net.activations(SMILES), atol=1e-6)


@pytest.mark.parametrize(
    "measure", [lambda m: unique(m, 10), lambda m: novelty(m, []), internal_diversity, fingerprints]
)
def test_no_molecule_has_no_measure(measure: Callable[[Sequence[str]], object]) -> None:
    with pytest.raises(GuidedError, match="no molecule"):
        measure([])
    with pytest.raises(GuidedError, match="given one string"):
        measure("CCO")


def test_a_molecule_that_cannot_be_read_is_named() -> None:
    with pytest.raises(GuidedError, match="given 'C1CC'"):
        internal_diversity(["CCO", "C1CC"])


def test_numbers_are_checked() -> None:
    for k in (0, 2.5, "3"):
        with pytest.raises(GuidedError, match="k is "):
            unique(["a"], k)  # type: ignore[arg-type]
    with pytest.raises(GuidedError, match="rows is 0"):
        internal_diversity(SMILES, 0)
    assert unique(["a", "a", "b"], np.int64(2)) == 1 / 2  # type: ignore[arg-type]


def test_gaussians_that_are_none_are_refused() -> None:
    mean, covariance = np.zeros(3), np.eye(3)
    with pytest.raises(GuidedError, match=r"given \[\(3,\), \(3, 3\), \(3,\), \(2, 2\)\]"):
        frechet_distance(mean, covariance, mean, np.eye(2))
    with pytest.raises(GuidedError, match="must be finite"):
        frechet_distance(mean, covariance, mean, np.full((3, 3), np.nan))  # the covariance of a single sample


def test_scaffolds_are_rings_and_what_joins_them():
    benzenes = ["c1ccccc1", "Cc1ccccc1", "CC(=O)Nc1ccccc1O"]
    assert scaffold_diversity(benzenes) == 1 / 3
    assert scaffold_diversity([*benzenes, "c1ccc(Cc2ccccc2)cc1", "CCO", "CCCN"]) == 3 / 6
    with pytest.raises(GuidedError, match="no molecule"):
        scaffold_diversity([])
    with pytest.raises(GuidedError, match="leave it out"):
        scaffold_diversity(["C("])
