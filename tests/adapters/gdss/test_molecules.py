"""Graphs as molecules: quantisation, valences, fragments, and the way back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from guided.adapters.gdss.molecules import KINDS, Molecules
from guided.core.graphs import Graphs, Noise
from guided.errors import GuidedError

PLACES = 12
PROCESS = Graphs((*[0] * PLACES, 1), 9, Noise("VP", 0.1, 1), Noise("VE", 0.2, 1))
READ = Molecules(PROCESS, KINDS[9])
SMILES = ["CCO", "c1ccccc1", "CC(=O)Nc1ccccc1", "C#N", "FC(F)(Cl)Br", "CS(=O)(=O)O", "OP(O)(O)=O", "CI", "C[N+](C)(C)C"]


def rows(kinds, bonds):
    """The row of a graph of atoms, by atomic number, with bond orders `{(i, j): order}`."""
    nodes, edges = torch.zeros(PLACES, 9), torch.zeros(PLACES, PLACES)
    for i, kind in enumerate(kinds):
        nodes[i, KINDS[9].index(kind)] = 1
    for (i, j), order in bonds.items():
        edges[i, j] = edges[j, i] = order
    return PROCESS.join(nodes, edges, (torch.arange(PLACES) < len(kinds)).float())[None]


def measured(molecules, x):
    return {name: values[0] for name, values in molecules.measures(x).items()}


@pytest.mark.parametrize("smiles", SMILES)
def test_a_molecule_comes_back(smiles):
    x = READ.row(smiles)[None]
    assert READ.smiles(x) == [Chem.CanonSmiles(smiles)]
    assert measured(READ, x) == {"valid": 1, "fragments": 1, "largest_share": 1}
    assert Molecules(PROCESS, KINDS[9], correct=False, whole=True).smiles(x) == READ.smiles(x)


@pytest.mark.parametrize(
    ("order", "smiles"),
    [(-1, "C"), (0.49, "C"), (0.5, "CC"), (1.49, "CC"), (1.5, "C=C"), (2.49, "C=C"), (2.5, "C#C"), (9, "C#C")],
)
def test_bonds_are_quantised(order, smiles):
    assert READ.smiles(rows([6, 6], {(0, 1): order})) == [smiles]


def test_atoms_are_the_first_kind_above_a_half():
    x = rows([6, 6, 6], {(0, 1): 1, (1, 2): 1})
    nodes, _ = PROCESS.split(x)
    nodes[0, 2] = torch.tensor([0.6, 0.9, *[0.0] * 7])  # a view of the row: carbon, then nitrogen
    assert READ.smiles(x) == ["CCC"]
    nodes[0, 2] = 0.5  # none
    assert READ.smiles(x) == ["CC"]
    nodes[:] = 0
    assert READ.smiles(x) == [""]
    assert measured(READ, x) == {"valid": 0, "fragments": 0, "largest_share": 0}


def test_reading_does_not_change_rows():
    """The published quantisation works in place on the samples themselves."""
    x = rows([6, 6], {(0, 1): 1.2})
    before = x.clone()
    READ.smiles(x), READ.measures(x)
    assert torch.equal(x, before)


def test_the_correction_lowers_the_highest_bond():
    five = rows([6, 6, 6, 6], {(0, 1): 1, (0, 2): 2, (0, 3): 2})
    assert READ.smiles(five) == [Chem.CanonSmiles("CC(C)=C")]
    assert measured(READ, five)["valid"] == 0
    raw = Molecules(PROCESS, KINDS[9], correct=False)
    with rdBase.BlockLogs():
        assert Chem.MolFromSmiles(raw.smiles(five)[0]) is None


@pytest.mark.parametrize(("kind", "bonds"), [(7, 4), (8, 3)])
def test_cations(kind, bonds):
    x = rows([kind, *[6] * bonds], {(0, i + 1): 1 for i in range(bonds)})
    assert measured(READ, x)["valid"] == 1
    [smiles] = READ.smiles(x)
    assert Chem.GetFormalCharge(Chem.MolFromSmiles(smiles)) == 1


def test_the_largest_fragment():
    """By atoms: the longest SMILES is another one."""
    x = rows([6, 6, 6, 6, 17, 35], {(0, 1): 1, (1, 2): 1, (2, 3): 1, (4, 5): 1})
    assert READ.smiles(x) == ["CCCC"]
    assert measured(READ, x) == {"valid": 1, "fragments": 2, "largest_share": pytest.approx(4 / 6)}
    assert Molecules(PROCESS, KINDS[9], whole=True).smiles(x) == [Chem.CanonSmiles("CCCC.ClBr")]


graphs = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from(KINDS[9]), min_size=n, max_size=n),
        st.dictionaries(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda pair: pair[0] < pair[1]),
            st.sampled_from([1, 1, 1, 2, 3]),
        ),
    )
)


def sound(molecule):
    return not Chem.SanitizeMol(molecule, Chem.SANITIZE_PROPERTIES, catchErrors=True)


@given(graphs)
def test_validity_is_rdkits(graph):
    """Of the graph as it is, apart from the charges; and after the correction always."""
    kinds, bonds = graph
    x = rows(kinds, bonds)
    degree = [sum(order for pair, order in bonds.items() if i in pair) for i in range(len(kinds))]
    molecule = Chem.RWMol()
    for kind, bound in zip(kinds, degree, strict=True):
        atom = Chem.Atom(kind)
        atom.SetFormalCharge(int((kind, bound) in ((7, 4), (8, 3))))
        molecule.AddAtom(atom)
    for (i, j), order in bonds.items():
        molecule.AddBond(i, j, Chem.BondType.values[order])
    with rdBase.BlockLogs():
        assert measured(READ, x)["valid"] == sound(molecule)
        assert Chem.MolFromSmiles(READ.smiles(x)[0]) is not None


def test_bonds_that_rdkit_does_not_read_are_not_valid():
    """Iodine may have three bonds, and no double one."""
    x = rows([6, 8, 53], {(0, 1): 1, (1, 2): 2})
    assert Chem.MolFromSmiles(READ.smiles(x)[0]) is None
    assert measured(READ, x)["valid"] == 0


@pytest.mark.parametrize(
    ("smiles", "message"), [("C(", "no molecule"), ("", "no molecule"), ("C" * 13, "room for 12"), ("CB", "numbers")]
)
def test_molecules_that_do_not_fit(smiles, message):
    with pytest.raises(GuidedError, match=message):
        READ.row(smiles)
