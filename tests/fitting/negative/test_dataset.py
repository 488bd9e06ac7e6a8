"""The model's own samples in blocks: a damaged block is drawn again, and has the same bytes then."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from guided.fitting.negative.dataset import draw_dataset
from guided.runs.prompts import Prompts
from guided.scoring.objective import resolve_reward
from tests.toys.small import tokens, vectors

N, SEED, SIZE = 6, 5, 4
MODELS = {"tokens": tokens, "vectors": lambda: vectors(conditional=False)}


def first(samples):
    return [float(len(str(sample))) for sample in samples]


def drawn(kind, folder, scored=False):
    model = MODELS[kind]()
    objective = resolve_reward(first) if scored else None
    return draw_dataset(model, Prompts.of(model, N), N, SEED, SIZE, folder, objective)


def changed(name, change):
    return lambda block: {**block, name: change(block[name])}


DAMAGE = {
    "no rows": lambda block: {"rewards": block["rewards"]},
    "no rewards": lambda block: {"x": block["x"]},
    "another kind": lambda block: {"weight": torch.zeros(3)},
    "one more": lambda block: {**block, "weight": torch.zeros(3)},
    "a row less": lambda block: {name: entry[1:] for name, entry in block.items()},
    "rows twice": lambda block: {name: torch.cat([entry, entry]) for name, entry in block.items()},
    "a shorter row": changed("x", lambda x: x[:, 1:]),
    "another type": changed("x", lambda x: x.half()),
    "a row that is no sample": changed("x", lambda x: x * torch.nan if x.is_floating_point() else x + 3),
    "a row below all samples": changed("x", lambda x: x - torch.inf if x.is_floating_point() else x - 9),
    "a reward where there is none": changed("rewards", torch.zeros_like),
    "rewards in double precision": changed("rewards", lambda r: r.double()),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_block_of_other_samples_is_drawn_again(tmp_path, kind, damage):
    """Never read as it is: the training would learn from it, or the network be given a token that it does not have."""
    before = drawn(kind, tmp_path)
    file = tmp_path / "000000.safetensors"
    whole = file.read_bytes()
    save_file({name: entry.contiguous().clone() for name, entry in damage(load_file(file)).items()}, file)
    after = drawn(kind, tmp_path)
    assert file.read_bytes() == whole and torch.equal(after.x, before.x)


@pytest.mark.parametrize("reward", [torch.nan, torch.inf])
def test_a_block_without_usable_rewards_is_scored_again(tmp_path, reward):
    before = drawn("tokens", tmp_path, scored=True)
    file = tmp_path / "000000.safetensors"
    block = load_file(file)
    block["rewards"][-1] = reward
    save_file(block, file)
    assert torch.equal(drawn("tokens", tmp_path, scored=True).rewards, before.rewards)


def huge(data):
    """The file, whose header names a tensor of 8 TB."""
    size = struct.unpack("<Q", data[:8])[0]
    entries = json.loads(data[8 : 8 + size])
    entries["x"] = {"dtype": "I64", "shape": [10**12], "data_offsets": [0, 8 * 10**12]}
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


TORN = {
    "empty": lambda data: b"",
    "torn": lambda data: data[: len(data) // 2],
    "a page": lambda data: b"<html>not found</html>" * 20,
    "a header of 7 TB": lambda data: struct.pack("<Q", 7 * 10**12) + data[8:],
    "a tensor of 8 TB": huge,
}


@pytest.mark.parametrize("tear", TORN.values(), ids=TORN)
def test_a_torn_block_is_drawn_again(tmp_path, tear):
    drawn("tokens", tmp_path)
    file = tmp_path / "000004.safetensors"
    whole = file.read_bytes()
    file.write_bytes(tear(whole))
    drawn("tokens", tmp_path)
    assert file.read_bytes() == whole


def test_whole_blocks_are_kept(tmp_path, monkeypatch):
    drawn("tokens", tmp_path)
    monkeypatch.setattr(Prompts, "block", lambda *given: pytest.fail("a block was drawn"))
    drawn("tokens", tmp_path)
