"""Models of molecules as trees of fragments, in a folder."""

import json

import pytest
import torch
from rdkit import Chem
from safetensors.torch import save_file

import guided
from guided.checkpoints import FOLDER
from guided.errors import GuidedError
from guided.nets.transformer import TokenTransformer

FRAGMENTS = ["C", "N", "O", "C=O", "c1ccccc1"]
CONFIG = {
    "kind": "fragments",
    "sites": 6,
    "fragments": FRAGMENTS,
    "nodes": [[0, 0], [0, 0, 0], [1, 0, 0], [3, 0, 0], [4, 0], [4, 0, 3]],
    "merges": [[15, 14]],
    "length": 8,
    "width": 16,
    "depth": 1,
    "heads": 2,
    "activation": "relu2",
    "steps": 8,
}
VOCABULARY = 1 + 6 + 5 + 6 + 1


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    net = TokenTransformer(VOCABULARY, 8, 16, 1, 2, "relu2")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(dict(net.state_dict()), tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def model(folder):
    return guided.load(folder, device="cpu")


def test_samples_are_molecules(model):
    run = guided.sample(model, reward="qed", sampler="svdd", n=8)
    assert all(Chem.MolFromSmiles(smiles).GetNumAtoms() for smiles in run.samples)
    assert model.steps == 8 and len(set(run.samples)) > 1


def test_every_sample_holds_the_pinned_scaffold(model):
    core = Chem.MolFromSmiles("O=C(Nc1ccccc1)c1ccccc1")
    row = model.encode("O=C(Nc1ccccc1)c1ccccc1*")
    pinned = model.pinned(torch.where(row == 0, model.process.mask, row))
    samples = guided.sample(pinned, sampler="unguided", n=16).samples
    assert all(Chem.MolFromSmiles(smiles).HasSubstructMatch(core) for smiles in samples)
    assert max(Chem.MolFromSmiles(smiles).GetNumAtoms() for smiles in samples) > core.GetNumAtoms()


def test_shipped_model_writes_and_reads_molecules():
    shipped = guided.load(FOLDER / "molecules", device="cpu", steps=16)
    for smiles in ("CC(=O)Nc1ccc(O)cc1", "O=C(Nc1ccccc1)c1cccnc1", "CN1CCC(C#N)CC1", "Cc1nnc(SCC(N)=O)s1"):
        assert shipped.decode(shipped.encode(smiles)[None]) == [Chem.CanonSmiles(smiles)]
    samples = guided.sample(shipped, sampler="unguided", n=8).samples
    molecules = [Chem.MolFromSmiles(smiles) for smiles in samples]
    rings = [ring for molecule in molecules for ring in molecule.GetRingInfo().AtomRings()]
    assert rings and max(map(len, rings)) <= 8  # MOSES has no larger ones


def test_samples_are_encoded_again(model):
    [back] = model.decode(model.encode("CC(=O)Nc1ccccc1")[None])
    assert back == "CC(=O)Nc1ccccc1"


def test_activation_is_that_of_the_configuration(folder, model):
    x = torch.full((1, 8), VOCABULARY)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"activation": "gelu"}))
    other = guided.load(folder, device="cpu")
    assert not torch.equal(model.denoiser(x, torch.ones(1)), other.denoiser(x, torch.ones(1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": 0}, "sites"),
        ({"fragments": []}, "fragments"),
        ({"fragments": ["C.C"] * 5}, "fragments"),
        ({"fragments": ["CX", *FRAGMENTS[1:]]}, "no molecule"),
        ({"fragments": ["N", *FRAGMENTS[1:]]}, "twice"),
        ({"nodes": [[5, 0]]}, "nodes"),
        ({"nodes": [[0, 6]]}, "nodes"),
        ({"nodes": [[0]]}, "nodes"),
        ({"nodes": [[0, 1]], "merges": []}, "no sites"),
        ({"merges": [[11, 12]]}, "merges"),
        ({"merges": [[18, 12]]}, "merges"),
        ({"merges": [[12, 12], *[[18 + i, 18 + i] for i in range(10)]]}, "1024 fragments; 1000 are allowed"),
        ({"heads": 3}, "divide the width"),
        ({"activation": "tanh"}, "activation"),
        ({"steps": 0}, "steps"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_unusable_configurations_are_told(folder, change, message):
    (folder / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(GuidedError, match=message):
        guided.load(folder, device="cpu")


@pytest.mark.parametrize("entry", ["sites", "fragments", "nodes", "merges", "length", "width", "depth", "heads"])
def test_missing_entries_are_named(folder, entry):
    (folder / "config.json").write_text(json.dumps({key: CONFIG[key] for key in CONFIG if key != entry}))
    with pytest.raises(GuidedError, match=entry):
        guided.load(folder, device="cpu")
