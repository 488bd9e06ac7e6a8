"""Rewards of molecules: published and independently known values, invalid input, and equal scores in any batch."""

import math
from typing import Any

import pytest

from guided.rewards.molecules.properties import alerts, connected, logp, molwt, parse, qed, sa, similarity, substructure
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import rewards

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
CAFFEINE = "Cn1c(=O)c2c(ncn2C)n(C)c1=O"
INVALID = [None, "", " ", "C1CC", "c1ccccc", "C(C)(C)(C)(C)C", "not a molecule"]
NAMES = sorted(name for name, reward in rewards().items() if reward.function.__module__ == qed.__module__)
EVERY = {"similarity": f"similarity?target={ASPIRIN}", "substructure": "substructure?smarts=c1ccccc1"}


def test_known_values() -> None:
    assert qed([ASPIRIN, CAFFEINE]) == pytest.approx([0.550, 0.538], abs=5e-4)
    several = [f"C.{ASPIRIN}.O", "", ASPIRIN]
    assert qed(several, largest=True) == pytest.approx([qed([ASPIRIN])[0], 0, qed([ASPIRIN])[0]])
    assert qed(several[:1])[0] == pytest.approx(0.589, abs=5e-4)  # of all fragments
    assert sa([ASPIRIN, CAFFEINE]) == pytest.approx([1.58, 2.30], abs=5e-3)
    assert logp([ASPIRIN, CAFFEINE]) == pytest.approx([1.3101, -1.0293], abs=1e-4)
    assert molwt([ASPIRIN, CAFFEINE]) == pytest.approx([180.16, 194.19], abs=5e-3)


def test_similarity_is_tanimoto_on_morgan_bits() -> None:
    from rdkit import Chem
    from rdkit.Chem.rdMolDescriptors import GetMorganFingerprintAsBitVect  # the older interface

    bits = [set(GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(s), 2, 2048).GetOnBits()) for s in (ASPIRIN, CAFFEINE)]
    wanted = len(bits[0] & bits[1]) / len(bits[0] | bits[1])
    assert similarity([ASPIRIN, CAFFEINE, "OC(=O)c1ccccc1OC(C)=O"], target=ASPIRIN) == pytest.approx([1, wanted, 1])


def test_substructure_and_alerts_are_indicators() -> None:
    assert substructure([ASPIRIN, CAFFEINE, "C"], smarts="[C&X3](=O)[O&H1]") == [1, 0, 0]
    quinone, aldehyde = "O=C1C=CC(=O)C=C1", "CCCC=O"
    assert alerts(["c1ccccc1CO", quinone, aldehyde]) == [1, 0, 0]
    assert alerts([quinone, aldehyde], catalogs="PAINS") == [0, 1]


def test_a_molecule_in_pieces_is_not_connected() -> None:
    assert connected([ASPIRIN, "CCC.C", "CC.CC", "[Na+].[Cl-]"]) == [1, 0.75, 0.5, 0.5]


@pytest.mark.parametrize("name", NAMES)
def test_invalid_smiles_have_the_worst_score(name: str) -> None:
    objective = resolve_reward(EVERY.get(name, name))
    raw = {"sa": 10.0, "logp": -math.inf, "molwt": -math.inf}.get(name, 0.0)
    assert objective.columns(INVALID)[f"{name}_raw"] == [raw] * len(INVALID)
    assert objective(INVALID).max() <= objective([ASPIRIN]).min()
    assert objective.failures == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("odd", ["[H][H]", "[H+]", "*", "[Og]", "[Na+].[Cl-]", "C" * 200])
def test_unusual_molecules_have_scores(name: str, odd: str) -> None:
    assert len(resolve_reward(EVERY.get(name, name))([odd])) == 1  # on_error="stop": anything else would raise


def test_the_rewards_of_an_objective_parse_a_molecule_once() -> None:
    parse.cache_clear()
    resolve_reward(["qed", "sa", "logp", "molwt", "alerts"])([ASPIRIN, CAFFEINE, ASPIRIN])
    assert parse.cache_info().misses == 2


def test_a_score_does_not_depend_on_the_rewards_before_it() -> None:
    alone = {name: resolve_reward(EVERY.get(name, name)).terms[0].raw([CAFFEINE]) for name in NAMES}
    for order in (sorted(alone), sorted(alone, reverse=True)):
        parse.cache_clear()
        columns = resolve_reward([EVERY.get(name, name) for name in order]).columns([CAFFEINE])
        assert {name: columns[f"{name}_raw"] for name in order} == alone


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("similarity?target=C1CC", "target is not a valid SMILES: 'C1CC'"),
        ("similarity?target=", "target is not a valid SMILES: ''"),
        ("substructure?smarts=[[", "not a valid SMARTS"),
        ("alerts?catalogs=PAINS,FOO", "unknown catalog 'FOO'"),
    ],
)
def test_wrong_parameters_are_known_at_construction(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"reward '.*") as caught:
        resolve_reward(spec)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_smiles_and_smarts_pass_through_a_query_unchanged() -> None:
    charged, ring = "C[N+](C)(C)CC(=O)[O-]", "C%10CCCCC%10"
    for target in (charged, ring, "C/C=C/C#N"):
        assert resolve_reward(f"similarity?target={target}&linear=0,1")([target]).tolist() == [1.0]
    assert resolve_reward("substructure?smarts=[C&H3]=,-[#6&D2]&weight=2")(["CCC", "CC"]).tolist() == [1, 0]


def test_invalid_molecules_say_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    parse.cache_clear()
    resolve_reward(["qed", "sa", "logp"])(INVALID)
    with pytest.raises(ValueError):
        resolve_reward("similarity?target=C1CC(C")
    assert capfd.readouterr().err == ""


def test_without_rdkit_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rdkit.Chem", None)
    with pytest.raises(ImportError, match="pip install rdkit"):
        resolve_reward("qed")


def test_each_built_in_reward_describes_itself() -> None:
    descriptions: dict[str, Any] = {name: rewards()[name].doc for name in NAMES}
    assert all(descriptions.values())
    assert str(rewards()["similarity"].parameters["target"]) == "target: str"


ENANTIOMERS = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC(N)C(=O)O"]
CIS_TRANS = ["F/C=C/F", "F/C=C\\F", "FC=CF"]


@pytest.mark.parametrize("three", [ENANTIOMERS, CIS_TRANS])
def test_stereo_counts_where_it_is_asked_for(three: list[str]) -> None:
    first = three[0]
    for spec in (f"substructure?smarts={first}", f"similarity?target={first}"):
        assert resolve_reward(spec)(three).tolist() == [1, 1, 1]
        assert resolve_reward(f"{spec}&chirality=false")(three).tolist() == [1, 1, 1]
        scores = resolve_reward(f"{spec}&chirality=true")(three).tolist()
        assert scores[0] == 1 and max(scores[1:]) < 1
    assert resolve_reward(f"substructure?smarts={three[2]}&chirality=true")(three).tolist() == [1, 1, 1]


def test_stereo_is_matched_as_rdkit_does() -> None:
    from rdkit import Chem

    pattern = Chem.MolFromSmarts(ENANTIOMERS[0])
    wanted = [float(Chem.MolFromSmiles(s).HasSubstructMatch(pattern, useChirality=True)) for s in ENANTIOMERS]
    assert resolve_reward(f"substructure?smarts={ENANTIOMERS[0]}&chirality=1")(ENANTIOMERS).tolist() == wanted
