"""MDLM's transformer in the layout of Hugging Face."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

import guided
from guided.nets.mdlm_dit import MaskedDiT

CONFIG = {
    "architectures": ["MDLM"],
    "model_type": "mdlm",
    "vocab_size": 11,
    "model_length": 6,
    "hidden_dim": 12,
    "n_heads": 3,
    "n_blocks": 2,
    "cond_dim": 6,
    "dropout": 0.1,
    "time_conditioning": False,
}
BLANK = torch.zeros(1)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = MaskedDiT(11, width=12, heads=3, depth=2, cond=6).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    return net


@pytest.fixture
def folder(tmp_path, net):
    write(tmp_path, net)
    return tmp_path


def write(folder, net, prefix="backbone.", config=CONFIG, **changes):
    (folder / "config.json").write_text(json.dumps(config))
    weights = {f"{prefix}{key}": w.clone() for key, w in net.state_dict().items()} | changes
    save_file({key: w for key, w in weights.items() if w is not None}, folder / "model.safetensors")


def load(path, **options):
    return guided.load(path, device="cpu", **options)


def log_probabilities(net, x, sigma=BLANK):
    return net(x, net.embed(sigma))[..., :-1].log_softmax(-1)


@pytest.mark.parametrize("prefix", ["backbone.", ""])
def test_folder_is_read_with_the_prefix_and_without(folder, net, prefix):
    write(folder, net, prefix)
    model = load(folder)
    x = torch.randint(11, (3, 6))
    torch.testing.assert_close(model.denoiser(x, torch.rand(3)), log_probabilities(net, x))
    assert (model.process.length, model.process.vocabulary, model.timed) == (6, 10, False)


def test_pickled_weights_are_read_alike(folder, net):
    model = load(folder)
    (folder / "model.safetensors").unlink()
    torch.save({f"backbone.{key}": w for key, w in net.state_dict().items()}, folder / "pytorch_model.bin")
    x = torch.randint(11, (3, 6))
    assert torch.equal(load(folder).denoiser(x, BLANK), model.denoiser(x, BLANK))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load(folder)


def test_frequencies_may_be_left_out(folder, net):
    x = torch.randint(11, (3, 6))
    write(folder, net, **{"backbone.rotary_emb.inv_freq": None})
    torch.testing.assert_close(load(folder).denoiser(x, BLANK), log_probabilities(net, x))


def test_time_conditioning_feeds_the_total_noise(folder, net):
    write(folder, net, config=CONFIG | {"time_conditioning": True})
    x, t = torch.randint(11, (3, 6)), torch.tensor([0.1, 0.5, 1.0])
    torch.testing.assert_close(load(folder).denoiser(x, t), log_probabilities(net, x, -torch.log1p(-0.999 * t)))


def test_half_precision_keeps_angles_in_single(folder):
    model, rough = load(folder, length=300), load(folder, length=300, dtype="bfloat16")
    x = torch.randint(11, (2, 300))
    y, z = model.denoiser(x, BLANK), rough.denoiser(x, BLANK)
    assert z.dtype == torch.float32 and 0 < (y - z).abs().max() < 0.2


def test_entries_and_weights_that_do_not_fit_are_named(folder, net):
    for name in ("vocab_size", "hidden_dim", "n_heads", "n_blocks", "cond_dim"):
        write(folder, net, config={key: v for key, v in CONFIG.items() if key != name})
        with pytest.raises(ValueError, match=rf"config\.json has {name} None"):
            load(folder)
    write(folder, net, config=CONFIG | {"n_blocks": 3})
    with pytest.raises(ValueError, match=r"blocks\.2\.norm1\.weight is nothing, the network has \(12,\)"):
        load(folder)
    write(folder, net, config=CONFIG | {"model_type": "udlm"})
    with pytest.raises(ValueError, match=r"kind 'udlm'; it is one of .*mdlm"):
        load(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    write_config = folder / "config.json"
    write_config.write_text(json.dumps(CONFIG))
    with pytest.raises(ValueError, match="truncated"):
        load(folder)


def test_samples_are_numbers_without_a_tokenizer(folder):
    model = load(f"{folder}?length=4", steps=3)
    [sample] = guided.sample(model, sampler="unguided", n=1).samples
    assert len(sample.split()) == 4 and set(map(int, sample.split())) <= set(range(10))
    assert model.decode(model.encode(sample)[None]) == [sample]
    assert model.encode("3 7").tolist() == [3, 7, 10, 10]  # the rest is free
    for wrong, says in (("1 2 3 4 5", "5 tokens"), ("1 99", "from 1 to 99"), ("a", "numbers separated by spaces")):
        with pytest.raises(ValueError, match=says):
            model.encode(wrong)


def word_tokenizer(words):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, words[0]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return tokenizer


@pytest.mark.parametrize("words", ["abcdefghij", "abcdefghijM"])
def test_samples_are_texts_with_a_tokenizer(folder, words):
    word_tokenizer(words).save(str(folder / "tokenizer.json"))
    model = load(folder)
    assert model.decode(torch.tensor([[0, 1, 2, 3, 9, 9]])) == ["a b c d j j"]
    assert model.encode("b d").tolist() == [1, 3, 10, 10, 10, 10]


def test_tokenizers_that_do_not_fit_are_told(folder, monkeypatch):
    word_tokenizer("abc").save(str(folder / "tokenizer.json"))
    with pytest.raises(ValueError, match="3 tokens; the model has 10"):
        load(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="no tokenizer"):
        load(folder)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match="pip install guided"):
        load(folder)
