"""A damaged state of a training: named in one line, never trained on from there."""

import math
from typing import Any

import pytest
import torch

from guided.errors import GuidedError
from guided.fitting.state import check_history, read_state, write_state
from tests.fitting.test_loop import loop, train


def put(state: dict[str, Any], place: str, entry: Any) -> dict[str, Any]:
    """The state with another entry in some place, as "weights.layer/weight"; it is removed for `...`."""
    *outer, last = [int(key) if key.isdigit() else key.replace("/", ".") for key in place.split(".")]
    inner: Any = state
    for key in outer:
        inner = inner[key]
    if entry is ...:
        del inner[last]
    else:
        inner[last] = entry
    return state


WEIGHT = (torch.ones(7), torch.ones(1), torch.ones(2, 3).long(), torch.ones(2, 3).half(), torch.full((2, 3), math.nan))
DAMAGE = [
    *[("step", entry) for entry in ("x", None, -1, 1.5, math.nan, [1], ...)],
    *[("seconds", entry) for entry in ("x", None, -1.0, math.inf, ...)],
    *[(name, entry) for name in ("weights", "others", "average", "more") for entry in (None, 5, "x", ...)],
    *[("weights.layer/weight", entry) for entry in (*WEIGHT, None, "x", ...)],
    *[("average.layer/weight", entry) for entry in (*WEIGHT, None, "x", ...)],
    *[("optimizers", entry) for entry in (None, 5, [], [5], [{}], ...)],
    *[("optimizers.0.param_groups", entry) for entry in (None, [], [5], [{}])],
    *[("optimizers.0.param_groups.0.params", entry) for entry in (None, [9], [0])],
    *[("optimizers.0.param_groups.0.lr", entry) for entry in (None, "x", math.nan)],
    *[("optimizers.0.state", entry) for entry in (None, 5, {9: {"exp_avg": torch.ones(2)}})],
    *[("optimizers.0.state.0.exp_avg", entry) for entry in (*WEIGHT, None, 5)],
]


@pytest.mark.parametrize(("place", "entry"), DAMAGE, ids=[f"{a}={str(b)[:25]}" for a, b in DAMAGE])
def test_a_state_with_a_wrong_entry_is_named(tmp_path, place, entry):
    """Broadcast, cast or skipped entries would go on to other weights without a word."""
    made = loop()[0]
    train(made, tmp_path, updates=2)
    state = read_state(tmp_path)
    assert state is not None
    write_state(tmp_path, put(state, place, entry))
    fresh = loop()[0]
    before = {name: weight.clone() for name, weight in fresh.weights.items()}
    with pytest.raises(GuidedError, match="remove the folder to begin again") as caught:
        fresh.load(tmp_path)
    said = str(caught.value)
    assert str(tmp_path) in said and "\n" not in said and "Error" not in said
    assert fresh.step == 0 and all(torch.equal(before[name], weight) for name, weight in fresh.weights.items())


FILES = ["{", "[]", "5", "null", '{"files": 5}', '{"files": [5]}', '{"files": []}', '{"files": [], "state": 5}']
FILES += ['{"files": [], "state": {"list": 5}}', '{"files": [], "state": {"a": [], "b": []}}', "[" * 100_000]
FILES += ['{"files": ["gone.safetensors"]}', '{"files": [], "state": {"dict": [["step", {"tensor": "7"}]]}}', "\x00"]


@pytest.mark.parametrize("text", FILES, ids=[text[:30] for text in FILES])
def test_a_damaged_index_is_named(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(GuidedError, match="remove the folder to begin again") as caught:
        read_state(tmp_path)
    assert "\n" not in str(caught.value) and "Error" not in str(caught.value)


@pytest.mark.parametrize("turn", ["x", None, 7, -1, 0, 1])
def test_a_state_is_written_whatever_turn_the_last_one_names(tmp_path, turn):
    write_state(tmp_path, {"step": 1})
    index = tmp_path / "state.json"
    index.write_text(
        index.read_text().replace('"turn": 0', f'"turn": {"null" if turn is None else repr(turn)}').replace("'", '"')
    )
    write_state(tmp_path, {"w": torch.ones(2)})
    found = read_state(tmp_path)
    assert found is not None and torch.equal(found["w"], torch.ones(2))


@pytest.mark.parametrize(
    "found", [None, 5, [5], [(1,)], [("a", 1.0)], [(1, "a")], [(1, math.nan)], [(9, 1.0)], [(-1, 1.0)]]
)
def test_a_history_is_of_updates_and_losses(found):
    assert check_history([(1, 0.5), (2, 0.25)], 2) == [(1, 0.5), (2, 0.25)]
    with pytest.raises(GuidedError, match="history"):
        check_history(found, 2)
