"""How the molecule model is trained."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch
from rdkit import Chem

import guided
from guided.nets.transformer import TokenTransformer

PATH = Path(__file__).parents[3] / "training" / "molecules" / "train.py"
spec = importlib.util.spec_from_file_location("training_molecules", PATH)
training = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = training
spec.loader.exec_module(training)
pieces = sys.modules["training.molecules.pieces"]


def test_loss_is_the_negative_log_likelihood_of_the_masked_tokens():
    """A network of known probabilities: the mean over masked tokens is its cross entropy, whatever was masked."""
    p = torch.tensor([0.5, 0.25, 0.25])
    x = torch.multinomial(p, 512 * 8, replacement=True).view(512, 8)
    loss = training.any_order_loss(lambda x: p.log().expand(*x.shape, 3), x, mask=3)
    assert loss.item() == pytest.approx(1.5 * math.log(2), abs=0.05)


def test_number_of_masked_tokens_is_uniform_and_the_others_are_shown():
    seen = []
    x = torch.zeros(400, 8, dtype=torch.long)
    training.any_order_loss(lambda x: seen.append(x) or torch.zeros(*x.shape, 3), x, mask=3)
    n = (seen[0] == 3).sum(1)
    assert torch.bincount(n, minlength=9).tolist() == [0, *[50] * 8]
    assert ((seen[0] == 3) | (seen[0] == 0)).all()
    places = (seen[0] == 3).float().mean(0)
    assert places.min() > 0.48 and places.max() < 0.65  # 4.5 of 8, anywhere


def test_only_masked_tokens_are_judged():
    """A network that is right where it is shown the answer and certain of a wrong one elsewhere."""
    x = torch.zeros(64, 6, dtype=torch.long)
    wrong = torch.tensor([0.0, 10.0, 0.0])

    def network(x):
        right = torch.tensor([10.0, 0.0, 0.0])
        return torch.where((x == 3)[..., None], wrong, right)

    loss = training.any_order_loss(network, x, mask=3).item()
    assert loss == pytest.approx(-wrong.log_softmax(0)[0].item(), rel=1e-3)


def test_pieces_lead_back_to_the_strings(tmp_path):
    strings = ["[C][C][O]", "[C][C][N]", "[C][C][O][C][C]"] * 5
    tokens = pieces.learn_selfies(strings, vocabulary=7, length=8)
    assert tokens.vocabulary == 7 and len(tokens.symbols) == 3
    ids = tokens.encode("CCO")
    assert len(ids) < 3 and tokens.smiles(ids) == "CCO"
    pieces.write_tokens(tmp_path / "tokens.json", tokens)
    assert pieces.read_tokens(tmp_path / "tokens.json") == tokens


def test_fragments_are_learned_by_their_frequency(tmp_path):
    """Frequent nodes and pairs have tokens of their own, rare nodes are spelled, rare fragments are not known."""
    trees = [training.tree(smiles) for smiles in ["CCO"] * 8 + ["Cc1ccccc1"] * 2 + ["CC#N"]]
    tokens = pieces.learn_fragments(trees, fragments=3, share=0.3, length=8)
    assert set(tokens.fragments) == {"C", "O", "c1ccccc1"} and tokens.sites == 1
    assert len(tokens.encode("CCO")) == 1 and tokens.smiles(tokens.encode("CCO")).count("C") == 2
    assert len(tokens.encode("Cc1ccccc1")) == 3 and len(tokens.nodes) == 2
    assert training.encode(tokens, trees[-1]) is None
    pieces.write_tokens(tmp_path / "tokens.json", tokens)
    assert pieces.read_tokens(tmp_path / "tokens.json") == tokens


def test_a_part_of_the_logits_gives_the_same_loss():
    torch.manual_seed(0)
    net = TokenTransformer(5, 4, width=32, depth=1, heads=1)
    x = torch.randint(5, (16, 4))
    losses = []
    for part in (False, True):
        torch.manual_seed(1)
        losses.append(training.any_order_loss(net, x, mask=5, partial=part).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("kind", ["fragments", "selfies"])
def test_dry_run_from_molecules_to_samples(tmp_path, monkeypatch, kind):
    """On a CPU in seconds: encoding, two slices of training, the exported folder, a sample."""
    molecules = ["CC(=O)Nc1ccccc1", "CCOc1ccc(F)cc1", "CN1CCNCC1", "OCC1CC1", "CCN(CC)C(=O)c1ccncc1"] * 6
    monkeypatch.setattr(training, "read_smiles", lambda split, work: molecules)
    training.prepare(tmp_path, kind=kind, length=12, vocabulary=30, fragments=20, share=0.05, processes=1)
    options = {"width": 16, "depth": 1, "heads": 2, "batch": 24, "crop": 6, "device": "cpu", "threads": 1}
    training.train(tmp_path, minutes=0.005, of=0.01, **options)
    half = training.averaged_weights(tmp_path / "molecules")
    training.train(tmp_path, minutes=0.01, of=0.01, **options)
    whole = training.averaged_weights(tmp_path / "molecules")
    assert whole[1] > half[1] > 0 and 0.01 <= whole[2] < 2 * 0.01
    training.export(tmp_path, tmp_path / "model")
    model = guided.load(tmp_path / "model", device="cpu", steps=4)
    samples = guided.sample(model, sampler="unguided", n=4).samples
    assert all(Chem.MolFromSmiles(smiles) is not None for smiles in samples)
    assert model.decode(model.encode(molecules[0])[None]) == molecules[:1]


def test_training_goes_on_where_it_was_stopped(tmp_path):
    mask = 3

    def network():
        return TokenTransformer(mask, 4, width=32, depth=1, heads=1)

    rows = torch.tensor([[1, 2, 1, 0], [1, 1, 1, 1]]).repeat(8, 1)

    def steps(trainer, count):
        for _ in range(count):
            torch.manual_seed(trainer.step)
            trainer.update(training.any_order_loss(trainer.net, rows, mask), progress=0.0)

    torch.manual_seed(0)
    whole = training.Trainer(network(), lr=1e-2)
    first = {name: w.clone() for name, w in whole.net.state_dict().items()}
    steps(whole, 3)
    whole.save(tmp_path / "train")
    steps(whole, 3)
    resumed = training.Trainer(network(), lr=1e-2)
    resumed.load(tmp_path / "train")
    steps(resumed, 3)
    for name, w in whole.net.state_dict().items():
        torch.testing.assert_close(resumed.net.state_dict()[name], w)
    assert resumed.step == 6 and not torch.equal(first["head.weight"], whole.net.state_dict()["head.weight"])
