"""An error in a file of our formats is one line that names the file, the entry, and what is accepted."""

import json
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import guided
from guided.checkpoints import FOLDER
from guided.checkpoints.schemas import Selfies, validated
from guided.errors import GuidedError
from guided.nets.mdlm_dit import MaskedDiT
from guided.nets.values import build

DEEP = "[" * 100_000 + "]" * 100_000
MDLM = {
    "model_type": "mdlm",
    "vocab_size": 11,
    "hidden_dim": 8,
    "n_heads": 2,
    "n_blocks": 1,
    "cond_dim": 4,
    "model_length": 6,
}
VALUE = {
    "kind": "value",
    "network": {"kind": "sequence", "event": [12], "tokens": 5, "prompts": 1, "width": 8},
    "model": {"name": "m", "identity": "", "event": [12], "process": {}, "prompts": [], "guidance": None},
    "reward": {"terms": [{"reward": "gc"}], "aggregate": "mean"},
    "target": "mean",
    "alpha": None,
    "times": [1.0, 0.0],
    "shift": 0.5,
    "scale": 0.1,
    "metrics": {},
}


def write(folder: Path, config: Any, weights: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    return folder


class Folders:
    """A whole folder of each format, made when it is asked for, and what reads it."""

    names = ("molecules", "molecules_selfies", "rna", "mdlm", "value", "negative")

    def __init__(self, place: Path) -> None:
        self.place = place

    def __getitem__(self, name: str) -> tuple[Path, Callable[[Path], Any]]:
        folder = self.place / name
        if name == "mdlm":
            write(folder, MDLM, MaskedDiT(11, 8, 2, 1, 4).state_dict())
        elif name == "value":
            write(folder, VALUE, build("sequence", (12,), 5, 1, width=8).state_dict())
        else:
            shutil.copytree(FOLDER / ("negatives/rna" if name == "negative" else name), folder)
        return folder, {"value": guided.load_value, "negative": against}.get(name, guided.load)


def against(path: Path) -> Any:
    return guided.attach(rna(), path)


@cache
def rna() -> Any:
    return guided.load("rna")


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def put(config: Any, place: str, entry: Any) -> Any:
    """The configuration with another entry in some place, as "network.event"; it is removed for `...`."""
    *outer, last = place.split(".")
    inner = config
    for key in outer:
        inner = inner[key]
    if entry is ...:
        del inner[last]
    else:
        inner[last] = entry
    return config


WRONG = [
    *[
        ("molecules_selfies", name, entry)
        for name in ("length", "width", "depth", "heads")
        for entry in ("20", None, -1, 10**9)
    ],
    *[
        ("molecules_selfies", "merges", entry)
        for entry in ([5], [[1, 2, 3]], [["a", "b"]], [[1, 10**9]], [[-1, 1]], {}, None)
    ],
    ("molecules_selfies", "merges", [[1, 1], *[[27 + i, 27 + i] for i in range(60)]]),
    *[("molecules_selfies", "symbols", entry) for entry in ("[C]", ["C"], [5], [None], ["[C]", "[C]"], [], None)],
    *[("molecules_selfies", "temperature", entry) for entry in ("hot", 0, -1.0, None)],
    *[("molecules_selfies", "heads", 7), ("molecules_selfies", "symbols", ...), ("molecules_selfies", "length", True)],
    *[
        ("molecules", name, entry)
        for name in ("sites", "length", "width", "depth", "heads")
        for entry in ("20", -1, None)
    ],
    *[("molecules", "fragments", entry) for entry in ("C", [5], [None], [], None, ...)],
    *[("molecules", "nodes", entry) for entry in ([5], [[1]], [["a", 0]], [[10**9, 0]], [[0, 10**9]], {}, ...)],
    *[("molecules", "merges", entry) for entry in ([5], [[1, 2, 3]], [["a", "b"]], [[1, 10**9]], {}, None)],
    *[("molecules", "activation", entry) for entry in ("tanh", None, 5)],
    *[("rna", name, entry) for name in ("length", "width", "kernel", "steps") for entry in ("50", None, 0, 10**9, 2.5)],
    *[("rna", "alphabet", entry) for entry in (None, "", "AA", "acgu", "ACGÜ", "A" * 300, 5, ["A", "C"], ...)],
    ("rna", "alphabet", "".join(map(chr, range(0x100, 0x100 + 300)))),
    *[("rna", "labels", entry) for entry in ("none", [], [1], ["a", "A"], {"a": 1}, ...)],
    *[("rna", "dilations", entry) for entry in ([], 3, ["1"], [0], [10**9], [[1]])],
    *[("rna", "kernel", 4), ("rna", "temperature", "1")],
    *[
        ("mdlm", name, entry)
        for name in ("vocab_size", "hidden_dim", "cond_dim")
        for entry in ("8", None, -1, 10**9, [8])
    ],
    *[
        ("mdlm", name, entry)
        for name in ("n_blocks", "n_heads", "model_length")
        for entry in ("1", None, -1, 10**9, ...)
    ],
    *[("value", name, entry) for name in ("shift", "scale") for entry in ("0", None, ..., [1.0], float("nan"))],
    *[("value", "times", entry) for entry in ([], [1.0], ["1", "0"], 1.0, ...)],
    *[("value", "alpha", entry) for entry in ("1", -1.0, 0.5, ...)],
    *[("value", "target", entry) for entry in ("median", None, 5, ...)],
    *[("value", "network", entry) for entry in (None, [], "sequence", ...)],
    *[
        ("value", f"network.{name}", entry)
        for name in ("event", "tokens", "prompts")
        for entry in ("5", -1, 10**9, ...)
    ],
    *[("value", "network.event", entry) for entry in ([], [0], [10**9], [10**6] * 8, [[12]])],
    *[("value", f"network.{name}", entry) for name in ("width", "depth", "kernel") for entry in ("5", 0, 10**9)],
    *[("value", "network.kernel", 4), ("value", "network.dropout", 1.5), ("value", "network.colour", "red")],
    *[("value", "network.kind", entry) for entry in (None, 5, "image", "no such", ["sequence"])],
    *[("value", "model", entry) for entry in (None, [], "dna", ...)],
    *[
        ("value", f"model.{name}", entry)
        for name in ("prompts", "event", "process", "name")
        for entry in (5, None, ...)
    ],
    *[("value", "reward", entry) for entry in ("gc", {}, {"terms": []}, {"terms": ["gc"]}, ...)],
    *[("negative", "base", entry) for entry in (None, [], "rna", {}, ...)],
    *[("negative", "base.name", 5), ("negative", "base.network", [])],
    *[("negative", "base.network.dtype", entry) for entry in ("complex64", "nn", 5, ...)],
    *[("negative", "base.network.entries", entry) for entry in (5, ["a"], [None], ...)],
    *[("negative", "base.network.layers", entry) for entry in (5, None, ...)],
]


@pytest.mark.parametrize(("name", "place", "entry"), WRONG, ids=[f"{a}-{b}-{str(c)[:20]}" for a, b, c in WRONG])
def test_a_wrong_entry_is_named(folders: Folders, name: str, place: str, entry: Any) -> None:
    folder, load = folders[name]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(put(config, place, entry)))
    start = time.perf_counter()
    with pytest.raises(GuidedError) as caught:
        load(folder)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 600 and time.perf_counter() - start < 5
    if place not in ("network.kind", "network.colour") and entry != [10**6] * 8:
        assert "config.json" in said and place.split(".")[-1].removeprefix("model_") in said


@pytest.mark.parametrize("name", ["molecules", "molecules_selfies", "rna", "mdlm", "value", "negative"])
@pytest.mark.parametrize("content", [DEEP, "", "{", "[]", "5", "null", '{"kind": ["value"]}', '{"kind": null}', "\x00"])
def test_what_is_no_object_of_a_kind_is_told(folders: Folders, name: str, content: str) -> None:
    folder, load = folders[name]
    (folder / "config.json").write_text(content)
    with pytest.raises(GuidedError, match=r"config\.json") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["molecules", "molecules_selfies", "rna", "mdlm", "value", "negative"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folders: Folders, name: str, number: float) -> None:
    folder, load = folders[name]
    file = next(folder.glob("*.safetensors"))
    weights = load_file(file)
    key = max(weights, key=lambda key: weights[key].numel() if weights[key].is_floating_point() else 0)
    weights[key].flatten()[-1] = number
    save_file(weights, file)
    with pytest.raises(GuidedError, match=r"safetensors has numbers in .* that are not finite"):
        load(folder)


def test_no_network_is_made_before_its_shapes_are_the_files(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration of 2^40 weights, beside a small file, takes no memory."""
    folder, load = folders["rna"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "width": 2**20}))
    with pytest.raises(GuidedError, match="of another architecture"):
        load(folder)


def test_whole_folders_are_read(folders: Folders) -> None:
    for folder, load in map(folders.__getitem__, Folders.names):
        load(folder)


def test_entries_that_are_not_known_are_let_be(folders: Folders) -> None:
    for folder, load in map(folders.__getitem__, Folders.names):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "note": [1, {"a": None}]}))
        load(folder)


def test_pieces_of_selfies_grow_as_they_are_learned() -> None:
    """A piece has at most a thousand symbols; they are counted without making the piece."""
    config = {"symbols": ["[C]"], "length": 4, "width": 4, "depth": 1, "heads": 1}
    merges = [[1, 1], *[[2 + i, 2 + i] for i in range(8)]]  # of 2, 4, ... 512 symbols
    validated(Selfies, config | {"merges": merges}, Path("config.json"))
    with pytest.raises(GuidedError, match=r"merges\[9\] makes a token of 1024 symbols; 1000 are allowed"):
        validated(Selfies, config | {"merges": [*merges, [10, 10]]}, Path("config.json"))
