"""Hyperparameters as text, of the command line: `--set name=value`."""

from typing import Any

import pytest

from guided.runs.files import assembled
from guided.samplers import Refine, sampler_from_dict

WRITTEN: list[tuple[str, Any]] = [
    (".5", 0.5),
    ("-1e-3", -0.001),
    ("True", True),
    ("true", True),
    ("None", None),
    ("null", None),
    ("()", ()),
    ("(0.0, .5)", (0.0, 0.5)),
    ("0,.5", (0, 0.5)),
    ("[1, 2]", [1, 2]),
    ("suffix", "suffix"),
    ("CC(=O)O", "CC(=O)O"),
    ("ACGT", "ACGT"),
    ("{1: 2}", "{1: 2}"),
    ("1j", "1j"),
    ("yes", "yes"),
    ("(" * 500, "(" * 500),
]


@pytest.mark.parametrize(("text", "value"), WRITTEN)
def test_values_are_read_as_json_or_python_writes_them(text: str, value: Any) -> None:
    config = assembled({"model": "molecules", "reward": "qed", "sampler": "refine", "set": [f"sample={text}"]})
    found = config.search.sampler["sample"]  # type: ignore[index,call-overload]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["maybe", "yes", "1", "no"])
def test_a_flag_is_true_or_false(text: str) -> None:
    config = assembled({"model": "molecules", "reward": "qed", "sampler": "refine", "set": [f"best={text}"]})
    with pytest.raises(ValueError, match=r"best is .*; it must be true or false"):
        sampler_from_dict(config.search.sampler)  # type: ignore[arg-type]
    assert Refine(best=True).best and not Refine(best=False).best
