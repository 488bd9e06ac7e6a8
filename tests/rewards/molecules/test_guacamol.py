"""Published tasks of molecular optimisation: their parts by hand, and their best molecules."""

import math

import pytest
from rdkit import Chem
from rdkit.Chem import Descriptors

from guided.errors import GuidedError
from guided.rewards.molecules import guacamol as module
from guided.rewards.molecules.guacamol import TASKS, above, below, clipped, guacamol, isomer, near, similar
from guided.scoring.objective import resolve_reward

CELECOXIB = "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"
BEST = {
    "albuterol_similarity": "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1",
    "celecoxib_rediscovery": CELECOXIB,
    "isomers_c7h8n2o2": "Cc1ccc(N)cc1[N+](=O)[O-]",
    "mestranol_similarity": "COc1ccc2C3CCC4(C)C(CCC4(O)C#C)C3CCc2c1",
    "thiothixene_rediscovery": "CN(C)S(=O)(=O)c1ccc2Sc3ccccc3C(=CCCN4CCN(C)CC4)c2c1",
    "troglitazone_rediscovery": "Cc1c(C)c2OC(C)(COc3ccc(CC4SC(=O)NC4=O)cc3)CCc2c(C)c1O",
}


@pytest.mark.parametrize("task", BEST)
def test_the_best_molecule_has_a_score_of_one_and_others_less(task):
    best, other, invalid, none = guacamol([BEST[task], "CCO", "C1CC", None], task)
    assert best == pytest.approx(1) and 0 <= other < 0.5 and invalid == none == 0


@pytest.mark.parametrize("task", TASKS)
def test_every_task_scores_between_zero_and_one(task):
    for score in guacamol([CELECOXIB, "CCO", "c1ccccc1C(=O)NC", "[Na+].[Cl-]", *BEST.values()], task):
        assert 0 <= score <= 1


def test_scores_fall_as_gaussians_on_the_sides_that_they_name():
    fall = math.exp(-0.5)
    assert [near(2, 0.5)(x) for x in (1.5, 2, 2.5)] == pytest.approx([fall, 1, fall])
    assert [above(90, 10)(x) for x in (80, 90, 200)] == pytest.approx([fall, 1, 1])
    assert [below(4, 1)(x) for x in (-3, 4, 5)] == pytest.approx([1, 1, fall])
    assert [clipped(0.8)(x) for x in (0, 0.4, 0.9)] == pytest.approx([0, 0.5, 1])


def test_isomers_count_each_element_and_all_atoms():
    """Ethanol is C2H6O; of C3H6O it lacks a carbon: factors e^-1/2 for the carbon and e^-1/8 for all atoms, of four."""
    assert isomer("C2H6O")(Chem.MolFromSmiles("CCO")) == pytest.approx(1)
    assert isomer("C3H6O")(Chem.MolFromSmiles("CCO")) == pytest.approx(math.exp(-(0.5 + 0.125) / 4))


def test_a_profile_is_the_geometric_mean_of_its_parts():
    """Osimertinib itself is as similar as can be, which costs it one part, and its surface and logP cost it two."""
    molecule = Chem.MolFromSmiles(module.OSIMERTINIB)
    parts = [
        1.0,
        math.exp(-0.5 * (0.15 / 0.1) ** 2),
        above(100, 10)(Descriptors.TPSA(molecule)),
        below(1, 1)(Descriptors.MolLogP(molecule)),
    ]
    assert guacamol([module.OSIMERTINIB], "osimertinib_mpo") == pytest.approx([math.prod(parts) ** 0.25])


def test_a_hop_is_the_mean_of_its_parts():
    """The molecule to hop from has the scaffold and all decorations: two of four parts, two of three."""
    assert guacamol([module.HOP], "deco_hop") == pytest.approx([(1 + 0 + 0 + 1) / 4])
    assert guacamol([module.HOP], "scaffold_hop") == pytest.approx([(1 + 1 + 0) / 3])


def test_a_part_of_zero_makes_a_geometric_mean_zero():
    assert guacamol(["CCO"], "valsartan_smarts") == [0.0]


def test_sitagliptins_formula_and_descriptors_are_wanted_but_not_itself():
    assert guacamol([module.SITAGLIPTIN], "sitagliptin_mpo") == pytest.approx([math.exp(-0.5 * 10**2) ** 0.25])


@pytest.mark.parametrize("kind", ["ECFP4", "ECFP6", "FCFP4", "AP", "PHCO"])
def test_similarities_are_one_to_the_molecule_itself_alone(kind):
    part = similar(kind, CELECOXIB)
    assert part(Chem.MolFromSmiles(CELECOXIB)) == 1 > part(Chem.MolFromSmiles(CELECOXIB.replace("S(N)", "S(C)")))


def test_an_unknown_task_is_one_line_that_says_which_there_are():
    with pytest.raises(GuidedError, match=r"osimertinib_mop.*osimertinib_mpo.*median1"):
        resolve_reward("guacamol?task=osimertinib_mop")


def test_a_task_is_a_reward_by_name():
    assert resolve_reward("guacamol?task=median1")(["CC1(C)C2CCC1(C)C(=O)C2"]).item() == pytest.approx(0.4)
