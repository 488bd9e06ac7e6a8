"""The hash of rows: equal rows share it, rows that differ do not, and groups keep rows apart."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.core.hashing import row_hash


def as_written(row: list[int], weights: list[int], group: int) -> int:
    """The definition, in Python's whole numbers."""
    total = (sum(w * x for w, x in zip(weights[1:], row, strict=True)) + weights[0] * group) % 2**64
    return total - 2**64 if total >= 2**63 else total


@given(st.lists(st.lists(st.integers(0, 60_000), min_size=5, max_size=5), min_size=1, max_size=20), st.data())
def test_it_is_the_sum_of_the_module_s_docstring(rows, data):
    from guided.core.hashing import _multipliers

    groups = data.draw(st.lists(st.integers(0, 1000), min_size=len(rows), max_size=len(rows)))
    weights = _multipliers(6, torch.device("cpu")).tolist()
    assert all(w % 2 == 1 for w in weights)
    found = row_hash(torch.tensor(rows), torch.tensor(groups)).tolist()
    assert found == [as_written(row, weights, group) for row, group in zip(rows, groups, strict=True)]


def test_rows_that_differ_in_one_place_by_one_all_differ():
    rows = torch.cat([torch.zeros(1, 200, dtype=torch.long), torch.eye(200, dtype=torch.long)])
    assert len(row_hash(rows).unique()) == 201


def test_neither_the_width_of_the_numbers_nor_the_shape_of_a_row_matters():
    x = torch.randint(0, 100, (7, 3, 4), generator=torch.Generator().manual_seed(1))
    assert torch.equal(row_hash(x), row_hash(x.to(torch.uint8).flatten(1)))
    assert torch.equal(row_hash(x), row_hash(x.to(torch.int32)))


def test_a_group_keeps_equal_rows_apart():
    x = torch.zeros(50, 4, dtype=torch.long)
    assert len(row_hash(x).unique()) == 1
    assert len(row_hash(x, torch.arange(50)).unique()) == 50


def test_rows_without_numbers_differ_by_their_group_only():
    assert row_hash(torch.zeros(2, 0, dtype=torch.long)).tolist() == [0, 0]
