"""The queue of blocks: whatever ends or fails, each needed block is drawn once, and no other is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.distributed.blocks import Blocks
from guided.errors import GuidedError


def queue(n):
    return Blocks([[10 * i, 10 * i + 1] for i in range(n)])


@given(st.data(), st.integers(1, 12), st.integers(1, 5))
def test_each_block_is_drawn_once_although_workers_are_lost(data, n, workers):
    blocks, drawn, lost = queue(n), [], set()
    while not blocks.finished:
        for worker in range(workers):
            if worker not in blocks.drawn_by:
                blocks.next(worker)
        worker = data.draw(st.sampled_from(sorted(blocks.drawn_by)))
        place = blocks.drawn_by[worker]
        if place not in lost and data.draw(st.booleans()):
            lost.add(place)
            blocks.lost(worker, "with SIGKILL")
        else:
            drawn.append(blocks.done(worker))
    assert sorted(drawn) == list(range(n)) and blocks.error is None


@given(st.data(), st.integers(1, 12), st.integers(1, 5))
def test_after_failures_exactly_the_blocks_before_the_first_are_drawn(data, n, workers):
    """As by one process, which stops at the first."""
    bad = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
    blocks, drawn = queue(n), set()
    while not blocks.finished:
        for worker in range(workers):
            if worker not in blocks.drawn_by:
                blocks.next(worker)
        worker = data.draw(st.sampled_from(sorted(blocks.drawn_by)))
        place = blocks.drawn_by[worker]
        if place in bad:
            blocks.failed(worker, ValueError(place))
        else:
            drawn.add(blocks.done(worker))
    assert str(blocks.error) == str(min(bad))
    assert {place for place in drawn if place is not None} >= set(range(min(bad)))
    assert max((place for place in drawn if place is not None), default=0) < max(n, 1)


def test_no_block_after_a_failed_one_is_begun():
    blocks = queue(5)
    assert [blocks.next(worker) for worker in "abc"] == [0, 1, 2]
    blocks.failed("b", ValueError("b"))
    assert blocks.next("b") is None and not blocks.finished
    assert blocks.error is None  # block 0 may still fail
    assert blocks.done("c") is None  # not needed any more
    assert blocks.done("a") == 0 and blocks.finished and str(blocks.error) == "b"


def test_a_lost_block_is_the_next_to_be_drawn_and_is_given_up_when_it_is_lost_again():
    blocks = queue(3)
    blocks.next("a"), blocks.next("b")
    blocks.lost("a", "with SIGKILL")
    blocks.lost("c", "with SIGKILL")  # had no block
    assert blocks.next("c") == 0
    blocks.lost("c", "with SIGSEGV")
    with pytest.raises(GuidedError, match=r"requests 0 to 1 were given up: .* ended, the last one with SIGSEGV"):
        raise blocks.error


def test_a_block_that_is_given_up_is_an_error_like_others_the_first_of_which_counts():
    blocks = queue(4)
    assert [blocks.next(worker) for worker in "abc"] == [0, 1, 2]
    for worker in ("c", "d"):
        blocks.lost(worker, "with SIGKILL")
        assert blocks.error is None  # blocks before it are still drawn
        blocks.next("d")
    assert not blocks.finished and blocks.next("e") is None
    blocks.failed("b", ValueError("b"))
    assert blocks.done("a") == 0 and str(blocks.error) == "b"
