"""Molecules as trees of fragments."""

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from guided.adapters.fragments.cut import cut
from guided.adapters.fragments.fragment import Fragment, Node
from guided.adapters.fragments.tokens import FragmentTokens, canonical
from guided.adapters.fragments.tree import Trees, written
from guided.errors import GuidedError

FRAGMENTS = (
    "C",
    "N",
    "O",
    "F",
    "C=O",
    "C#N",
    "O=[SH2]=O",
    "c1ccccc1",
    "c1cc[nH]c1",
    "C1CNCCN1",
    "C1CC1",
    "O=c1cccc[nH]1",
)
BENZENE = FRAGMENTS.index("c1ccccc1")
NODES = ((0, 0, ()), (0, 0, (0,)), (1, 0, (0,)), (4, 0, (0,)), (BENZENE, 0, ()), (BENZENE, 0, (3,)))
FIRST = 1 + 6 + len(FRAGMENTS)
TOKENS = FragmentTokens(6, FRAGMENTS, NODES, ((FIRST + 3, FIRST + 2), (FIRST + 1, FIRST + 6)), 12)
MOLECULES = [
    "CC(=O)Nc1ccccc1",
    "CC(C)(C)C(=O)N1CCNCC1",
    "N#Cc1ccc(N2CCN(S(=O)(=O)c3ccccc3F)CC2)cc1",
    "Cn1ccc(C(F)(F)F)c1",
    "OC1(C2CC2)CC1",
    "CCN(CC)C(=O)Cn1ccccc1=O",
    "FC(F)F",
    "Cc1ccc(F)c(O)c1",
    "Nn1cc(C#N)c(F)c1",
    "Oc1cc(O)cc(O)c1",
]


@cache
def fragment(smiles):
    return Fragment(smiles)


def shuffled(smiles, seed):
    """The same molecule, its atoms in another order."""
    molecule = Chem.MolFromSmiles(smiles)
    order = list(range(molecule.GetNumAtoms()))
    random.Random(seed).shuffle(order)
    return Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False)


def rings(smiles):
    """The ring systems of a molecule with the double bonds at them, as canonical SMILES."""
    molecule = Chem.MolFromSmiles(smiles)
    patterns = [Chem.MolFromSmiles(pattern) for pattern in cut(molecule)[0]]
    bare = [Chem.DeleteSubstructs(p, Chem.MolFromSmarts("[#0]")) for p in patterns if p.GetRingInfo().NumRings()]
    return {Chem.MolToSmiles(ring, kekuleSmiles=False).replace("[nH]", "n") for ring in bare}


@pytest.mark.parametrize("smiles", MOLECULES)
def test_tokens_lead_back_to_the_molecule(smiles):
    assert canonical(TOKENS.smiles(TOKENS.encode(smiles))) == canonical(smiles)


@pytest.mark.parametrize("smiles", MOLECULES)
def test_tree_does_not_depend_on_the_order_of_atoms(smiles):
    tokens = TOKENS.encode(smiles)
    assert all(TOKENS.encode(shuffled(smiles, seed)) == tokens for seed in range(5))


@given(st.lists(st.integers(0, TOKENS.vocabulary - 1), max_size=12))
def test_every_row_is_a_molecule_of_known_rings(row):
    smiles = TOKENS.smiles(row)
    molecule = Chem.MolFromSmiles(smiles)
    assert molecule is not None and molecule.GetNumAtoms() > 0 and "." not in canonical(smiles)
    assert rings(smiles) <= {ring.replace("[nH]", "n") for part in FRAGMENTS for ring in rings(part)}


@given(st.lists(st.integers(0, TOKENS.vocabulary - 1), max_size=8))
def test_what_follows_a_scaffold_leaves_it_whole(tail):
    core = Chem.MolFromSmiles("O=C(Nc1ccccc1)c1ccccc1")
    row = TOKENS.encode("O=C(Nc1ccccc1)c1ccccc1*")
    assert Chem.MolFromSmiles(TOKENS.smiles([*row, *tail])).HasSubstructMatch(core)
    grown = canonical(TOKENS.smiles([*row, FIRST + 4]))  # a phenyl group
    assert grown == canonical("O=C(Nc1ccccc1)c1ccccc1-c1ccccc1")


@pytest.mark.parametrize(
    "smiles", ["CC(*)CO", "Cc1cc(*)ccc1F", "*c1ccc(F)cc1O", "O=C(*)c1ccccc1", "CCN(*)CC1CC1", "*CO"]
)
def test_a_molecule_grows_where_its_star_is(smiles):
    nodes = Trees(fragment).nodes(smiles)
    grown = canonical(written([*nodes, Node("O", 0, (0,)), Node("C", 0, ())], fragment))
    assert grown == canonical(smiles.replace("*", "OC") if smiles[0] != "*" else f"CO{smiles[1:]}")


def test_a_tree_is_read_parent_first():
    """Missing children are hydrogen, and what exceeds the tree is ignored."""
    nodes = [Node("c1ccccc1", 0, (1, 2)), Node("F", 0, ()), Node("C", 0, (0, 0)), Node("O", 0, ()), Node("F", 0, ())]
    assert canonical(written(nodes, fragment)) == canonical("Fc1ccccc1C(O)F")
    assert canonical(written(nodes[:2], fragment)) == canonical("Fc1ccccc1")
    assert canonical(written([*nodes, Node("N", 0, ())], fragment)) == canonical(written(nodes, fragment))
    assert canonical(written([], fragment)) == "C"


def test_sites_without_a_fragment_and_sites_it_does_not_have_are_left_out():
    phenyl = 1 + 6 + BENZENE
    assert TOKENS.read([1, 2, phenyl, 1, 0, 4, 3]) == [Node("c1ccccc1", 0, (3, 2))]
    assert TOKENS.read([FIRST + 4, 4, FIRST, 1]) == [Node("c1ccccc1", 0, ()), Node("C", 0, ())]  # nodes are whole
    assert canonical(TOKENS.smiles([1 + 6 + FRAGMENTS.index("C#N"), 1, 6, FIRST + 4])) == "C#N"


def test_children_at_one_site_are_no_more_than_its_hydrogens():
    nodes = [Node("C", 0, (0,) * 7), *[Node("F", 0, ())] * 7]
    assert canonical(written(nodes, fragment)) == canonical("FC(F)F")


def test_smallest_sites_of_all_equal_ones_are_taken():
    tree = Trees(fragment)
    [first, ring, *_] = tree.nodes("Cc1ccc(F)c(Cl)c1")
    assert first == Node("C", 0, (0,)) and ring == Node("c1ccccc1", 0, (2, 3))


def test_merges_are_applied_in_the_order_they_were_learned():
    amide = FIRST + len(NODES)
    assert TOKENS.merge([FIRST + 1, FIRST + 3, FIRST + 2]) == [amide + 1]
    assert TOKENS.merge([FIRST + 3, FIRST + 2, FIRST + 2]) == [amide, FIRST + 2]


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("C[SiH](C)C", r"fragment \[SiH4\]"),
        ("C1CCCCCCCC1", "fragment C1CCCCCCCC1"),
        ("C[C@H](O)F", "stereo"),
        ("C[NH3+]", "fragment"),
        ("C.C", "one molecule"),
        ("nothing", "one molecule"),
        ("FS(=O)(=O)F", "begins at a hydrogen"),
        ("Cn1cc(*)cc1F", "let it grow from another atom"),
        ("*=C", r"one \* at most"),
        ("C1*C1", r"one \* at most"),
        ("*", r"one \* at most"),
        ("*c1ccc(*)cc1", r"one \* at most"),
    ],
)
def test_what_cannot_be_encoded_is_told(smiles, message):
    with pytest.raises(GuidedError, match=message):
        TOKENS.encode(smiles)


def test_long_molecules_are_told():
    with pytest.raises(GuidedError, match="room for 12"):
        TOKENS.pad(TOKENS.encode("OCC" * 20))


@pytest.mark.parametrize(
    ("fragments", "nodes", "message"),
    [
        (("C", "C"), (), "twice"),
        (("CX",), (), "no molecule"),
        (("C.C",), (), "no molecule"),
        (("F",), ((0, 0, (0,)),), "no sites"),
        (("c1ccccc1",), ((0, 6, ()),), "no sites"),
    ],
)
def test_unusable_fragments_are_told(fragments, nodes, message):
    with pytest.raises(GuidedError, match=message):
        FragmentTokens(9, fragments, nodes, (), 4)
