"""The models of DNA and RNA: letters, labels, and a checkpoint of random weights."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import guided
from guided.adapters.nucleotides.adapter import Labels, Letters
from guided.nets import convolution
from guided.nets.convolution import TokenConvolution

CONFIG = {
    "kind": "nucleotides",
    "alphabet": "ACGT",
    "length": 12,
    "labels": ["none", "HepG2", "K562"],
    "width": 8,
    "kernel": 3,
    "dilations": [1, 2],
    "steps": 6,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dna")
    torch.manual_seed(0)
    net = TokenConvolution(4, 3, 8, 3, (1, 2))
    for weights in net.parameters():
        torch.nn.init.normal_(weights, std=0.7)
    save_file(net.state_dict(), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


@given(st.text("ACGTN", min_size=12, max_size=12))
def test_letters_there_and_back(sequence: str) -> None:
    letters = Letters("ACGT", 12)
    assert letters.decode(letters.encode(sequence.lower())[None]) == [sequence]


def test_rna_reads_dna() -> None:
    letters = Letters("ACGU", 4)
    assert letters.decode(torch.stack([letters.encode("ACGT"), letters.encode("acgu")])) == ["ACGU", "ACGU"]


@pytest.mark.parametrize(
    ("sequence", "message"), [("ACG", "3 letters"), ("ACGTX" + "A" * 7, "letters X"), ("", "0 let")]
)
def test_wrong_sequence_is_refused(sequence: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Letters("ACGT", 12).encode(sequence)


def test_labels_whatever_their_case() -> None:
    labels = Labels(("none", "HepG2"), torch.device("cpu"))
    assert labels(["hepg2", "none", "HepG2"])["label"].tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"not a label.*did you mean.*HepG2"):
        labels(["HepG3"])


def test_log_probabilities_are_normalised_and_depend_on_the_label(folder: Path) -> None:
    model = guided.load(folder)
    x = torch.randint(0, 5, (3, 12))
    y = [model.denoiser(x, torch.zeros(3), label=torch.full((3,), i)) for i in range(3)]
    torch.testing.assert_close(y[0].exp().sum(-1), torch.ones(3, 12))
    assert y[0].shape == (3, 12, 4) and not torch.allclose(y[0], y[1])


def test_norm_is_the_group_norm_scaled_and_shifted() -> None:
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(1, 8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    h, scale, shift = torch.randn(3, 8, 1, 12), torch.randn(3, 8, 1, 1), torch.randn(3, 8, 1, 1)
    found = convolution.normalize(h.to(memory_format=torch.channels_last), norm, scale, shift)
    torch.testing.assert_close(found, norm(h) * scale + shift)


def test_convolution_is_the_layers_own() -> None:
    torch.manual_seed(0)
    layer, h = torch.nn.Conv1d(8, 6, 5, padding=8, dilation=4), torch.randn(3, 8, 1, 12)
    torch.testing.assert_close(convolution.convolve(h, layer)[:, :, 0], layer(h[:, :, 0]))


def test_network_looks_no_farther_than_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of kernel 3 with dilations 1 and 2 after one of kernel 3: 4 positions to either side."""
    monkeypatch.setattr(convolution, "normalize", lambda h, *others: h)  # which looks at all positions
    net = TokenConvolution(4, 3, 8, 3, (1, 2))
    x, label = torch.zeros(1, 12, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    other = x.clone()
    other[0, 6] = 3
    changed = (net(x, label) - net(other, label)).abs().sum(-1)[0] > 1e-7
    assert changed.nonzero()[:, 0].tolist() == list(range(2, 11))


def test_a_prompt_is_a_label_and_the_empty_one_is_none(folder: Path) -> None:
    runs = [guided.sample(folder, sampler="unguided", n=3, prompt=p) for p in (None, "none", "K562")]
    assert runs[0].samples == runs[1].samples != runs[2].samples
    assert all(len(s) == 12 and set(s) <= set("ACGT") for s in runs[2].samples)


def test_guidance_of_weight_one_is_the_prompt_alone(folder: Path) -> None:
    plain, one, two = (
        guided.sample(folder, sampler="unguided", n=8, prompt="K562", guidance=w) for w in (None, 1.0, 4.0)
    )
    assert plain.samples == one.samples != two.samples
    assert one.stats.network_rows == plain.stats.network_rows  # one side only


def test_broken_configuration_is_told(folder: Path, tmp_path: Path) -> None:
    config = {name: entry for name, entry in CONFIG.items() if name != "labels"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no usable entry 'labels'"):
        guided.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "width": 9}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="another architecture: blocks"):
        guided.load(tmp_path)
