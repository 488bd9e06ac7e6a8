"""Micro-batches: filled up to the least size, counted without the copies, halved out of memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.core import batching
from guided.core.batching import Evaluator, distinct
from guided.errors import GuidedError


@given(n=st.integers(0, 40), size=st.integers(1, 16), data=st.data())
def test_filling_changes_no_output_and_is_not_counted(n, size, data):
    least = data.draw(st.integers(1, size))
    x, sizes, counted = torch.arange(n), [], []

    def fn(part):
        sizes.append(len(x[part]))
        return 2 * x[part]

    assert torch.equal(Evaluator(size, least=least)(fn, n, counted.append), 2 * x)
    assert sum(counted) == n
    assert all(least <= rows <= size for rows in sizes) or n == 0


def test_with_one_size_the_function_never_sees_another():
    sizes = []
    for n in (1, 3, 4, 5, 9):
        Evaluator(4, least=4)(lambda part, n=n: sizes.append(len(torch.zeros(n)[part])) or torch.zeros(n)[part], n)
    assert set(sizes) == {4}


def test_out_of_memory_halves_the_least_size_too():
    x = torch.arange(5)

    def fn(part):
        if len(x[part]) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return x[part]

    evaluator = Evaluator(8, least=8)
    counted = []
    assert torch.equal(evaluator(fn, 5, counted.append), x)
    assert (evaluator.size, evaluator.least) == (2, 2) and counted == [2, 2, 1]


def test_another_error_is_raised():
    def fn(part):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Evaluator(8, least=8)(fn, 5)


@pytest.mark.parametrize(("size", "least"), [(4, 5), (4, 0), (None, 0)])
def test_sizes_out_of_range_are_refused(size, least):
    with pytest.raises(GuidedError, match="micro-batches have at least"):
        Evaluator(size, least=least)


@given(n=st.integers(1, 2000), size=st.integers(1, 16).map(lambda k: 16 * k))
def test_even_micro_batches_have_no_small_rest(n, size):
    x, sizes = torch.arange(n), []

    def fn(part):
        sizes.append(len(x[part]))
        return 2 * x[part]

    assert torch.equal(Evaluator(size, even=True)(fn, n), 2 * x)
    assert len(sizes) == -(-n // size) and max(sizes) <= size
    assert all(rows % 16 == 0 for rows in sizes[:-1])
    assert sizes[-1] > size / 2 - 16 or len(sizes) == 1


ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1), st.booleans()), max_size=12)


@given(ROWS, st.booleans(), st.booleans(), st.booleans())
def test_distinct_rows_are_those_of_a_set(rows, grouped, some, collide):
    """Also where all hashes are equal, and the comparison has to find it out."""
    x = torch.tensor([row[:2] for row in rows], dtype=torch.long).view(-1, 2)
    group = torch.tensor([row[2] for row in rows], dtype=torch.long) if grouped else None
    among = torch.tensor([row[3] for row in rows], dtype=torch.bool) if some else None
    kinds = [row[: 3 if grouped else 2] for row in rows]
    counted = [row[3] or not some for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr(batching, "row_hash", lambda x, group=None: torch.full((len(x),), -1))
        first, inverse = distinct(x, group, among)
    assert sorted(kinds[i] for i in first.tolist()) == sorted({k for k, c in zip(kinds, counted, strict=True) if c})
    assert all(counted[i] for i in first.tolist())
    for kind, count, i in zip(kinds, counted, inverse.tolist(), strict=True):
        assert not count or kinds[first[i]] == kind
