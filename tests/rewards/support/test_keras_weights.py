"""Weights in HDF5: a file says what it holds, and nothing is read before that is as expected, or from elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from guided.errors import GuidedError
from guided.rewards.support.keras_weights import read_weights

SHAPES = {"the kernel": (3, 4, 8), "the bias": (8,)}


def fill(file: Any, kernel: tuple[int, ...] = (3, 4, 8), names: tuple[str, ...] = ("k", "b"), **how: Any) -> None:
    file.attrs["layer_names"] = [b"a"]
    group = file.create_group("a")
    group.attrs["weight_names"] = [name.encode() for name in names]
    group.create_dataset("k", kernel, "f4", **how)
    group.create_dataset("b", (8,), "f4")


DAMAGE: dict[str, Callable[[Any], None]] = {
    "terabytes of a fill": lambda file: fill(file, (10**12,), fillvalue=1.0),
    "bytes of another file": lambda file: fill(file, external=[("/etc/hostname", 0, 384)]),
    "a thousand names of one array": lambda file: fill(file, names=("k",) * 1000),
    "one array less": lambda file: fill(file, names=("k",)),
    "a name of no array": lambda file: fill(file, names=("k", "c")),
    "a fill of nan": lambda file: fill(file, fillvalue=float("nan")),
    "no names": lambda file: None,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_line(tmp_path: Path, damage: str) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        DAMAGE[damage](file)
    with pytest.raises(GuidedError, match=r"w\.h5") as caught:
        read_weights(tmp_path / "w.h5", "Toy", SHAPES)
    assert "\n" not in str(caught.value)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        fill(file, fillvalue=2.0)
    kernel, bias = read_weights(tmp_path / "w.h5", "Toy", SHAPES)
    assert kernel.shape == (3, 4, 8) and (kernel == 2).all() and (bias == 0).all()
