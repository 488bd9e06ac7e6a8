"""The molecule model's tokens and checkpoint."""

import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from safetensors.torch import load_file, save_file

import guided
from guided.adapters.selfies.tokens import SelfiesTokens
from guided.checkpoints import FOLDER

SMILES = ["c1ccccc1", "CC(=O)Nc1ccc(O)cc1", "O=C(Nc1ccccc1)c1cccnc1", "CN1CCC(C#N)CC1", "Cc1nnc(SCC(N)=O)s1"]


@pytest.fixture(scope="module")
def model():
    return guided.load("molecules_selfies", device="cpu")


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(FOLDER / "molecules_selfies" / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("smiles", SMILES)
def test_tokens_lead_back_to_the_molecule(model, smiles):
    [back] = model.decode(model.encode(smiles)[None])
    assert back == Chem.CanonSmiles(smiles)


@given(st.lists(st.integers(0, 511), min_size=20, max_size=20))
def test_every_row_of_tokens_is_a_molecule(model, row):
    """So every look-ahead can be scored, from the first step."""
    [smiles] = model.decode(torch.tensor([row]))
    assert Chem.MolFromSmiles(smiles) is not None


def test_merges_are_applied_in_the_order_they_were_learned():
    """Ab was learned first, so abc is (ab)c even though bc exists; and nothing overlaps."""
    tokens = SelfiesTokens(("[C]", "[N]", "[O]"), ((1, 2), (2, 3), (4, 3)), 8)
    assert tokens.vocabulary == 7
    assert tokens.merge([1, 2, 3]) == [6]
    assert tokens.merge([2, 3, 1, 2]) == [5, 4]
    assert tokens.merge([1, 1, 2]) == [1, 4]
    assert tokens.smiles([6, 0, 1]) == "CNO"  # nothing after the padding counts


@given(st.lists(st.integers(1, 3), max_size=12))
def test_merging_keeps_the_symbols(ids):
    tokens = SelfiesTokens(("[C]", "[N]", "[O]"), ((1, 1), (4, 1), (2, 3), (4, 4)), 12)
    spelled = "".join("".join(tokens._pieces[i]) for i in tokens.merge(ids))
    assert spelled == "".join(tokens.symbols[i - 1] for i in ids)


def test_what_cannot_be_encoded_is_told(model):
    with pytest.raises(ValueError, match="does not know"):
        model.encode("C[Si](C)C")
    with pytest.raises(ValueError, match="SELFIES"):
        model.encode("not a molecule")
    with pytest.raises(ValueError, match="room for 20"):
        model.encode("NCOCN" * 30)


def test_pinned_scaffold_stays(model):
    """Its tokens do; the molecule may close a ring with its atoms, which a few do."""
    row = model.encode("O=C(Nc1ccccc1)c1ccccc1")
    pinned = model.with_steps(8).pinned(torch.where(row == 0, model.process.mask, row))
    core = Chem.MolFromSmiles("O=C(Nc1ccccc1)c1ccccc1")
    samples = guided.sample(pinned, sampler="unguided", n=16).samples
    assert sum(Chem.MolFromSmiles(smiles).HasSubstructMatch(core) for smiles in samples) >= 12


def test_network_has_no_memory_of_its_batch(model):
    x = torch.randint(513, (6, 20), generator=torch.Generator().manual_seed(0))
    y = model.denoiser(x, torch.zeros(6))
    torch.testing.assert_close(model.denoiser(x[2:3], torch.ones(1)), y[2:3], atol=1e-4, rtol=0)
    torch.testing.assert_close(y.exp().sum(-1), torch.ones(6, 20))


def test_folder_is_loaded_as_the_shipped_model_is(model, folder):
    again = guided.load(str(folder), steps=7)
    assert again.identity == model.identity and again.steps == 7
    x = torch.full((1, 20), 512)
    assert torch.equal(again.denoiser(x, torch.ones(1)), model.denoiser(x, torch.ones(1)))


def test_first_difference_of_another_architecture_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] = weights["head.bias"][:-1].clone()
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"head\.bias is \(511,\), the network has \(512,\)"):
        guided.load(str(folder))
    del weights["head.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"head\.bias is nothing"):
        guided.load(str(folder))


@pytest.mark.parametrize("entry", ["symbols", "merges", "length", "width", "kind"])
def test_missing_entries_are_named(folder, entry):
    config = json.loads((folder / "config.json").read_text())
    del config[entry]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=entry):
        guided.load(str(folder))


def test_truncated_and_pickled_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated"):
        guided.load(str(folder))
    torch.save({"head.bias": torch.zeros(512)}, path)
    with pytest.raises(ValueError, match="no safetensors"):
        guided.load(str(folder))


def test_weights_are_small():
    assert (FOLDER / "molecules_selfies" / "model.safetensors").stat().st_size < 20e6
