"""Parts that fit into memory: every row once and in order, half as many after an error of memory, others pass."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from guided.rewards.support.parts import Parts


def limited(rows: int, error: Callable[[], Exception], calls: list[int]) -> Callable[[slice], Tensor]:
    """The numbers of the rows, for at most so many at a time."""

    def function(part: slice) -> Tensor:
        calls.append(part.stop - part.start)
        if calls[-1] > rows:
            raise error()
        return torch.arange(part.start, part.stop)

    return function


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_rows_come_once_and_in_order(m: int, size: int, rows: int) -> None:
    calls: list[int] = []
    parts = Parts(size)
    assert parts(limited(rows, MemoryError, calls), m).tolist() == [*range(m)]
    assert parts.size <= max(1, rows) or max(calls) <= rows
    calls.clear()
    parts(limited(rows, MemoryError, calls), m)
    assert max(calls) <= rows  # it is remembered


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError,
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        lambda: RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_every_error_of_memory_is_one(error: Callable[[], Exception]) -> None:
    parts = Parts(8)
    assert parts(limited(3, error, []), 9).tolist() == [*range(9)] and parts.size == 2


def test_one_row_that_does_not_fit_and_other_errors_are_raised() -> None:
    with pytest.raises(MemoryError):
        Parts(8)(limited(0, MemoryError, []), 5)
    calls: list[int] = []
    with pytest.raises(RuntimeError, match="another"):
        Parts(8)(limited(0, lambda: RuntimeError("another"), calls), 5)
    assert calls == [5]
