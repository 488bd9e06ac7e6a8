"""TF32 is off inside the networks of rewards, whatever the process has, and as before afterwards."""

from collections.abc import Iterator
from threading import Barrier, Thread
from typing import Any

import pytest
import torch

from guided.rewards.support.settings import own_settings

BACKENDS: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]


def switches() -> list[bool]:
    return [backend.allow_tf32 for backend in BACKENDS]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = switches()
    yield
    for backend, value in zip(BACKENDS, before, strict=True):
        backend.allow_tf32 = value


@pytest.mark.parametrize("given", [[True, True], [False, True], [True, False], [False, False]])
def test_tf32_is_off_inside(given: list[bool]) -> None:
    for backend, value in zip(BACKENDS, given, strict=True):
        backend.allow_tf32 = value
    assert own_settings(switches)() == [False, False]
    assert switches() == given
    nested = own_settings(lambda: [own_settings(switches)(), switches()])
    assert nested() == [[False, False]] * 2 and switches() == given
    with pytest.raises(ZeroDivisionError):
        own_settings(lambda: 1 / 0)()
    assert switches() == given


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="newer names came with torch 2.9")
def test_tf32_by_its_newer_name() -> None:
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = conv.fp32_precision
    try:
        matmul.fp32_precision, conv.fp32_precision = "tf32", "ieee"
        inside = own_settings(lambda: (matmul.fp32_precision, conv.fp32_precision))
        assert inside() == ("ieee", "ieee")
        assert (matmul.fp32_precision, conv.fp32_precision) == ("tf32", "ieee")
    finally:
        matmul.fp32_precision, conv.fp32_precision = "none", before
        matmul.allow_tf32 = False


def test_the_last_thread_out_restores() -> None:
    torch.backends.cudnn.allow_tf32 = True
    first_in, second_in, first_out = Barrier(2), Barrier(2), Barrier(2)
    seen: list[list[bool]] = []

    @own_settings
    def first() -> None:
        first_in.wait(10)
        second_in.wait(10)

    @own_settings
    def second() -> None:
        second_in.wait(10)
        first_out.wait(10)
        seen.append(switches())

    def one() -> None:
        first()
        first_out.wait(10)

    def other() -> None:
        first_in.wait(10)
        second()

    threads = [Thread(target=one), Thread(target=other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [[False, False]] and switches()[1]
