"""Published masked models: files as they were published, read without running them, and their distributions."""

import collections
import pickle
import sys
import types
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import guided
from guided.adapters.mdlm.common import subs, total_noise
from guided.cli import main
from guided.core.masked import Masked
from guided.nets.mdlm_cnn import MaskedCNN
from guided.nets.mdlm_dit import MaskedDiT

PARITY = Path(__file__).resolve().parents[4] / "shared/assets/parity"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason="no reference outputs beside the checkout")
BLANK, LENGTH = torch.zeros(1), 12


class Boom(BaseException):
    """No `except Exception` stops it."""


def explode(*args, **kwargs):
    raise Boom


@pytest.fixture
def omegaconf(monkeypatch):
    """Modules that can be imported under omegaconf's names, and raise when anything of theirs is unpickled."""
    classes = types.SimpleNamespace()
    for path in ("dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode", "base.ContainerMetadata"):
        module, name = path.split(".")
        home = types.ModuleType(f"omegaconf.{module}")
        kind = type(name, (), {"__module__": home.__name__, "__setstate__": explode})
        setattr(home, name, kind)
        setattr(classes, name, kind)
        monkeypatch.setitem(sys.modules, home.__name__, home)
    home = types.ModuleType("omegaconf.trap")
    home.explode = types.FunctionType(explode.__code__, {"Boom": Boom}, "explode")
    home.explode.__module__, home.explode.__qualname__ = "omegaconf.trap", "explode"
    monkeypatch.setitem(sys.modules, "omegaconf.trap", home)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    classes.explode = home.explode
    return classes


def node(classes, value, parent=None):
    """A value as omegaconf pickles it: containers with `_content`, leaves with `_val`, and links to their parents."""
    kind = {dict: classes.DictConfig, list: classes.ListConfig}.get(type(value), classes.AnyNode)
    made = kind.__new__(kind)
    metadata = classes.ContainerMetadata.__new__(classes.ContainerMetadata)
    cache = collections.defaultdict(dict, {"seen": {}})
    metadata.__dict__.update(ref_type=typing.Any, object_type=type(value), resolver_cache=cache, flags={})
    made.__dict__.update(_metadata=metadata, _parent=parent)
    if isinstance(value, dict):
        made._content = {key: node(classes, child, made) for key, child in value.items()}
    elif isinstance(value, list):
        made._content = [node(classes, child, made) for child in value]
    else:
        made._val = value
    return made


class Call:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


SETTINGS = {
    "parameterization": "subs",
    "time_conditioning": False,
    "noise": {"type": "loglinear", "sigma_max": 20},
    "model": {"length": LENGTH, "dilations": [1, 4]},
}


def small_net(width=8, stacks=1):
    torch.manual_seed(0)
    net = MaskedCNN(5, width, stacks)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.eval().requires_grad_(False)


def contents(net, **changes):
    """What Lightning saves, in its shapes."""
    state = collections.OrderedDict((f"backbone.{key}", w) for key, w in net.state_dict().items())
    state._metadata = {"": {"version": 1}}
    shadow = [1.1 * w for name, w in net.named_parameters() if name != "time_embedder.0.W"]
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.2.1",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_path": "", "best_model_score": torch.tensor(1.5)}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 3e-4}]}],
        "hyper_parameters": {"config": SETTINGS, "eval": False},
        "ema": {"decay": 0.9999, "num_updates": 7, "shadow_params": shadow},
        "sampler": {"random_state": None},
    } | changes


@pytest.fixture
def checkpoint(tmp_path):
    def save(net=None, **changes):
        torch.save(contents(net or small_net(), **changes), tmp_path / "model.ckpt")
        return str(tmp_path / "model.ckpt")

    return save


def load(path, **options):
    return guided.load(path, device="cpu", **options)


# The file


def test_lightning_file_is_read_and_nothing_of_it_runs(checkpoint, omegaconf, tmp_path):
    left = tmp_path / "left"
    path = checkpoint(
        callbacks={"path": Path("a"), "call": Call(exec, f"open({str(left)!r}, 'w').close()")},
        hyper_parameters={"config": node(omegaconf, SETTINGS), "tokenizer": Call(omegaconf.explode, 1)},
    )
    with pytest.raises(Boom):  # the traps are live
        torch.load(path, weights_only=False)
    assert left.exists()
    left.unlink()
    model = load(path)
    assert model.process.length == LENGTH and not left.exists()
    x = torch.full((1, LENGTH), 4)
    torch.testing.assert_close(model.denoiser(x, BLANK), load(checkpoint()).denoiser(x, BLANK))


def test_what_is_allowed_to_be_read_is_as_before_afterwards(checkpoint, omegaconf):
    path = checkpoint(hyper_parameters={"config": node(omegaconf, SETTINGS)})
    before = set(torch.serialization.get_safe_globals())
    load(path)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_a_call_of_the_operating_system_is_refused(checkpoint, tmp_path):
    import os

    path = checkpoint(hyper_parameters=Call(os.mkdir, str(tmp_path / "made")))
    with pytest.raises(ValueError, match="mkdir"):
        load(path)
    assert not (tmp_path / "made").exists()


def test_files_that_are_none_are_told(checkpoint, tmp_path):
    path = checkpoint()
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="truncated"):
        load(path)
    for content in (b"", b"text", pickle.dumps({"state_dict": 1})):
        Path(path).write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.ckpt is not a checkpoint: a file must be one of torch\.save"):
            load(path)
    torch.save({}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="old format"):
        load(path)
    for content in ({}, [1], {"state_dict": {"weight": BLANK}}, {"state_dict": {"backbone.weight": 1}}):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"no weights under keys that start with 'backbone\.'"):
            load(path, length=5)


def test_a_state_dictionary_alone_is_read(tmp_path):
    """As DRAKES saves what it fine-tuned."""
    torch.save(contents(small_net())["state_dict"], tmp_path / "tuned.ckpt")
    assert load(tmp_path / "tuned.ckpt", length=7).process.length == 7


def test_first_difference_of_another_architecture_is_named(checkpoint):
    net = small_net()
    state = contents(net)["state_dict"]
    for key, weight, says in (
        ("backbone.convs.3.weight", None, r"convs\.3\.weight is nothing, the network has \(8, 8, 9\)"),
        ("backbone.norms.1.bias", torch.ones(9), r"norms\.1\.bias is \(9,\), the network has \(8,\)"),
        ("backbone.linear.weight", torch.ones(5, 8), r"linear\.weight is \(5, 8\), the network has \(8, 5, 9\)"),
        ("backbone.convs.5.bias", torch.ones(8), r"convs\.5\.weight is nothing"),
        ("backbone.extra", torch.ones(2), r"extra is \(2,\), the network has nothing"),
        ("backbone.cls_embedder.weight", torch.ones(4, 8), "class labels"),
        ("backbone.vocab_embed.embedding", torch.ones(4, 8), "DiT"),
    ):
        changed = {k: w for k, w in (state | {key: weight}).items() if w is not None}
        with pytest.raises(ValueError, match=says):
            load(checkpoint(net, state_dict=changed))


def test_another_kind_of_diffusion_is_refused(checkpoint):
    for changed in ({"parameterization": "sedd"}, {"noise": {"type": "geometric"}}):
        with pytest.raises(ValueError, match=r"(sedd|geometric)'; only"):
            load(checkpoint(hyper_parameters={"config": SETTINGS | changed}))


# Options


def test_averaged_weights_are_taken_where_there_are_any(checkpoint):
    net = small_net()
    averaged = small_net()
    for name, parameter in averaged.named_parameters():
        if name != "time_embedder.0.W":  # is not trained, and missing in the list
            parameter *= 1.1
    x = torch.randint(5, (3, LENGTH))
    path = checkpoint(net)
    for options, expected in (({}, averaged), ({"ema": True}, averaged), ({"ema": False}, net)):
        log_p = expected(x, expected.embed(BLANK))[..., :4].log_softmax(-1)
        torch.testing.assert_close(load(path, **options).denoiser(x, BLANK), log_p)
    assert load(path).identity != load(path, ema=False).identity
    path = checkpoint(net, ema=None)
    torch.testing.assert_close(load(path).denoiser(x, BLANK), load(path, ema=False).denoiser(x, BLANK))
    assert load(path).identity == load(path, ema=False).identity
    with pytest.raises(ValueError, match="3 averaged weights for 38 parameters"):
        load(checkpoint(net, ema={"shadow_params": [BLANK] * 3}))


def test_length_is_read_given_or_asked_for(checkpoint, omegaconf):
    path = checkpoint()
    assert load(path).process.length == LENGTH
    assert load(path, length=30).process.length == 30
    assert load(f"{path}?length=30&ema=false&alphabet=ACGU").process.length == 30
    for unknown in ({}, None, {"config": {"model": {"length": "${data.length}"}}}, node(omegaconf, {"model": 3})):
        with pytest.raises(ValueError, match=r'write ".*model\.ckpt\?length=200"'):
            load(checkpoint(hyper_parameters=unknown))
    for wrong in (0, 2.5, "many", True):
        with pytest.raises(ValueError, match="length is"):
            load(path, length=wrong)


def test_options_that_there_are_not_are_told(checkpoint):
    path = checkpoint()
    for given, says in (
        (f"{path}?lenght=3", r"no option 'lenght' \(did you mean 'length'\?\); it takes length, alphabet, ema"),
        (f"{path}?length", "expected option=value"),
        (f"{path}?length=3&length=4", "each option once"),
        (f"{path}?ema=yes", "ema is 'yes'"),
        (f"{path}?alphabet=AAGT", "distinct letters"),
        ("molecules?length=3", "no option 'length'; it takes compile"),
        ("no-such.ckpt?length=3", "no file is called 'no-such.ckpt'"),
    ):
        with pytest.raises(ValueError, match=says):
            load(given)
    with pytest.raises(ValueError, match="given twice"):
        load(f"{path}?length=3", length=4)


# The distribution


def test_samples_are_sequences_of_the_alphabet(checkpoint):
    path = checkpoint()
    samples = guided.sample(load(path, steps=4), sampler="unguided", n=8).samples
    assert all(len(s) == LENGTH and set(s) <= set("ACGT") for s in samples) and "T" in "".join(samples)
    rna = guided.sample(load(path, steps=4, alphabet="ACGU"), sampler="unguided", n=8).samples
    assert rna == [s.replace("T", "U") for s in samples]
    model = load(path)
    assert model.decode(model.encode(samples[0])[None]) == samples[:1]


def test_denoiser_is_a_law_without_the_mask_and_leaves_its_input(checkpoint):
    model = load(checkpoint())
    x = torch.randint(5, (4, LENGTH))
    before = x.clone()
    y = model.denoiser(x, torch.rand(4))
    assert y.shape == (4, LENGTH, 4) and torch.equal(x, before)
    torch.testing.assert_close(y.exp().sum(-1), torch.ones(4, LENGTH))
    assert not model.timed and torch.equal(y, model.denoiser(x, torch.rand(4)))


def test_time_conditioning_feeds_the_total_noise(checkpoint):
    net = small_net()
    model = load(checkpoint(net, hyper_parameters={"config": SETTINGS | {"time_conditioning": True}}), ema=False)
    x, t = torch.full((3, LENGTH), 4), torch.tensor([0.1, 0.5, 1.0])
    assert model.timed
    torch.testing.assert_close(total_noise(t).neg().exp(), 1 - 0.999 * t)
    sigma = -torch.log1p(-0.999 * t)
    torch.testing.assert_close(model.denoiser(x, t), net(x, net.embed(sigma))[..., :4].log_softmax(-1))


def test_half_precision_keeps_the_time_in_single(checkpoint):
    model, rough = (load(checkpoint(), dtype=dtype) for dtype in ("float32", "bfloat16"))
    x = torch.randint(5, (4, LENGTH))
    y, z = (m.denoiser(x, BLANK) for m in (model, rough))
    assert z.dtype == torch.float32 and 0 < (y - z).abs().max() < 0.1


def test_command_line_samples_from_a_file(checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "reward.py").write_text("def gc(samples):\n    return [sum(map(s.count, 'GC')) / 9 for s in samples]\n")
    reward = f"{tmp_path}/reward.py:gc"
    words = ["guided", "sample", f"{checkpoint()}?length=9", "--reward", reward, "--sampler", "unguided"]
    monkeypatch.setattr(sys, "argv", [*words, "-n", "2", "--steps", "4", "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None) and "reward median" in capsys.readouterr().out


def test_step_at_which_a_token_is_revealed_has_the_published_law():
    """To 1e-5 in total variation, as the adapter's docstring says."""
    for K in (8, 128, 1000):
        process = Masked(1, 4, steps=K)
        published = torch.linspace(1, 1e-5, K + 1, dtype=torch.float64)
        ours = torch.tensor([process.rate(k) for k in range(K + 1)], dtype=torch.float64)
        distributions = []
        for level in (ours, published):
            stays = torch.cat([torch.ones(1), (level[1:] / level[:-1]).cumprod(0)])
            distributions.append(torch.cat([-stays.diff(), stays[-1:]]))  # the last is: never
        assert (distributions[0] - distributions[1]).abs().sum() / 2 <= 1.001e-5


def reference(name, net):
    outputs = np.load(PARITY / f"{name}.npz")
    net.load_state_dict(load_file(PARITY / f"{name}.safetensors"))
    return {key: torch.from_numpy(np.asarray(outputs[key])) for key in outputs}, net.eval().requires_grad_(False)


@needs_parity
@pytest.mark.parametrize(
    ("name", "net"), [("mdlm_cnn_h32_s1", MaskedCNN(5, 32, 1)), ("mdlm_dit_h64", MaskedDiT(28, 64, 4, 2, 32))]
)
def test_log_probabilities_are_the_references(name, net):
    outputs, net = reference(name, net)
    x, expected = outputs["tokens"], outputs["subs_log_p"]
    y = subs(net, torch.float32, torch.device("cpu"))(x, torch.rand(len(x)))
    masked = x == expected.shape[-1] - 1
    torch.testing.assert_close(y[masked], expected[..., :-1][masked], atol=1e-5, rtol=0)


@needs_parity
@pytest.mark.parametrize("k", [0, 64, 127])
def test_steps_are_the_published_samplers(k):
    """Its unnormalised distribution, and its draws with its own random numbers, by our rates and log-probabilities."""
    outputs, net = reference("mdlm_cnn_h32_s1", MaskedCNN(5, 32, 1))
    x, process = outputs["tokens"], Masked(50, 4, steps=128)
    y = subs(net, torch.float32, torch.device("cpu"))(x, torch.full((4,), process.time(k)))
    masked = x == process.mask
    total = (1 - 1e-3) * outputs[f"step{k}_t"]  # their distribution sums to the share of masked tokens
    reveal = 1 - process.rate(k + 1) / process.rate(k)
    q = total * torch.cat([reveal * y.exp(), torch.full((4, 50, 1), 1 - reveal)], -1)
    torch.testing.assert_close(q[masked], outputs[f"step{k}_q_xs"][masked], atol=1.1e-5, rtol=0)
    race = 1e-10 - torch.log(outputs[f"step{k}_uniform"] + 1e-10)
    assert torch.equal(torch.where(masked, (q / race).argmax(-1), x), outputs[f"step{k}_x_next"])
