"""In-silico mutagenesis: exact for a reward that is a sum over positions, 3 L rewards, and no more time than it may."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.errors import GuidedError
from guided.report import mutagenesis
from guided.report.mutagenesis import TooSlow, changes, effect_map, mean_effect


def additive(weights, letters="ACGT"):
    """A reward that is a sum over positions."""
    return lambda batch: [sum(weights[i, letters.index(a)] for i, a in enumerate(s)) for s in batch]


@given(st.text("ACGU", min_size=1, max_size=40), st.integers(0, 100))
def test_an_additive_reward_changes_by_its_weights(sequence, seed):
    weights = np.random.default_rng(seed).normal(size=(len(sequence), 4))
    own = ["ACGU".index(letter) for letter in sequence]
    expected = weights - weights[np.arange(len(own)), own][:, None]
    table = changes(sequence, additive(weights, "ACGU"), "ACGU")
    assert np.isnan(table[np.arange(len(own)), own]).all()
    expected[np.arange(len(own)), own] = np.nan
    np.testing.assert_allclose(table, expected, atol=1e-9)
    np.testing.assert_allclose(mean_effect(table), np.nansum(expected, axis=1) / 3, atol=1e-9)


def test_it_asks_for_each_single_change_once_in_growing_batches():
    sequence, batches = "ACGT" * 75, []
    changes(sequence, lambda batch: batches.append(list(batch)) or np.zeros(len(batch)), "ACGT")
    asked = [s for batch in batches for s in batch]
    assert len(asked) == len(set(asked)) == 3 * len(sequence) + 1 and asked[0] == sequence
    assert all(sum(a != b for a, b in zip(s, sequence, strict=True)) == 1 for s in asked[1:])
    assert [len(batch) for batch in batches] == [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 133]


def test_it_gives_up_when_the_time_is_over(monkeypatch):
    clock, batches = [0.0], []
    monkeypatch.setattr(mutagenesis, "monotonic", lambda: clock[0])

    def slow(batch):
        clock[0] += len(batch)  # a second each
        batches.append(len(batch))
        return np.zeros(len(batch))

    with pytest.raises(TooSlow, match="16 of 181 rewards took 10 s"):
        changes("A" * 60, slow, "ACGT", seconds=10)
    assert sum(batches) == 16
    clock[0] = 0
    assert changes("A" * 60, slow, "ACGT", seconds=181).shape == (60, 4)


def test_changes_that_fail_are_minus_infinity():
    table = changes("AC", lambda batch: [-np.inf if s.endswith("T") else len({*s}) for s in batch], "ACGT")
    np.testing.assert_array_equal(table, [[np.nan, -1, 0, 0], [-1, np.nan, 0, -np.inf]])
    assert mean_effect(table).tolist() == [-1 / 3, -1 / 2]


def test_a_sequence_without_a_reward_has_no_changes():
    with pytest.raises(GuidedError, match="itself has the reward -inf"):
        changes("AC", lambda batch: [-np.inf] * len(batch), "ACGT")


@pytest.mark.parametrize("fill", [0.0, -np.inf, 1.0])
def test_a_map_is_drawn_of_any_changes(fill):
    table = np.where(np.eye(4, dtype=bool), np.nan, fill)
    table[0, 1] = -3.0 if fill else 0.0
    assert ET.fromstring(effect_map("ACGU", table, "ACGU", "r")).tag.endswith("svg")


def test_a_long_sequence_takes_several_rows(monkeypatch):
    monkeypatch.setattr(mutagenesis, "ROW", 4)
    heights = []
    for length in (4, 5):
        table = np.where(np.arange(4) == 0, np.nan, np.ones((length, 1)))
        heights.append(float(ET.fromstring(effect_map("A" * length, table, "ACGT", "r")).get("height")[:-2]))
    assert heights[1] > 1.5 * heights[0]
