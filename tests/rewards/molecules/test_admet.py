"""ADMET-AI's properties: by the package where it is installed, and around a stand-in for it elsewhere."""

import importlib.util
import math
import sys
import types

import pytest

import guided
from guided.errors import GuidedError
from guided.rewards.molecules import admet as module

needs_admet = pytest.mark.skipif(
    importlib.util.find_spec("admet_ai") is None or importlib.util.find_spec("chemprop") is None,
    reason="admet-ai is not installed: pip install guided[admet]",
)


@pytest.fixture
def fake(monkeypatch):
    """A package whose networks say the number of atoms, and ten times it."""

    class Model:
        def __init__(self, **options):
            self.task_lists, self.model_lists = [["small", "large"]], [[types.SimpleNamespace(eval=lambda: 10.0)]]

    monkeypatch.setitem(sys.modules, "admet_ai", types.SimpleNamespace(ADMETModel=Model))
    monkeypatch.setattr(
        module, "_predicted", lambda models, given, place: [m.GetNumAtoms() * models[0] ** place for m in given]
    )
    module._model.cache_clear()
    yield
    module._model.cache_clear()


def test_scores_are_those_of_the_property(fake):
    assert guided.resolve_reward("admet?name=large")(["CCO", "C(", None, "C"]).tolist() == [
        30,
        -math.inf,
        -math.inf,
        10,
    ]
    assert guided.resolve_reward("admet?name=small")(["CCO"]).tolist() == [3]


def test_unknown_properties(fake):
    with pytest.raises(GuidedError, match=r"did you mean 'small'.*it is one of large, small"):
        guided.resolve_reward("admet?name=smal")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "admet_ai", None)
    module._model.cache_clear()
    with pytest.raises(ImportError, match=r"pip install guided\[admet\]"):
        guided.resolve_reward("admet?name=hERG")


@needs_admet
def test_properties_are_the_packages_own():
    given = ["CCO", "O=C(CCCN1CCC(O)(c2ccc(Cl)cc2)CC1)c1ccc(F)cc1", "CC(=O)Oc1ccccc1C(=O)O"]
    whole = module._model().predict(given)
    for name in ("hERG", "Solubility_AqSolDB"):
        assert guided.resolve_reward(f"admet?name={name}")(given).tolist() == pytest.approx(list(whole[name]), abs=1e-4)
