"""However a run ends, no loop stays behind, finished samples are kept, and what is said is the pipeline's own."""

import functools
import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

import guided
from guided.adapters.diffusers import wrap
from guided.adapters.diffusers.loops.call import Request
from guided.adapters.diffusers.loops.thread import Loop
from guided.cli.signals import handled
from guided.samplers import SVDD
from guided.storage import read_rows
from tests.adapters.diffusers.loops.test_loops import bright, model
from tests.adapters.diffusers.pipelines import build, ddim

N = 3


def draw(given: Any, out: Path | None, reward: Any = bright) -> Any:
    prompts = ["red cat", "blue dog", "pink apple"]
    return guided.sample(given, reward, SVDD(M=2), n=N, batch_size=1, prompt=prompts, guidance=3.0, out=out)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [*(folder / "samples").glob("*"), folder / "samples.csv"]}


@functools.cache
def whole() -> dict[str, bytes]:
    """What a run writes that nothing stops."""
    with TemporaryDirectory() as folder:
        draw(model(micro_batch=1), Path(folder, "whole"))
        return files(Path(folder, "whole"))


@functools.cache
def calls(part: str) -> int:
    """How often a part is called in a run."""
    given = model(micro_batch=1)
    with failing(given, part, None) as counted:
        draw(given, None)
    return len(counted)


@contextmanager
def failing(given: Any, part: str, error: BaseException | None, at: int = 0) -> Iterator[list[int]]:
    """A part of the pipeline fails, from one of its calls on."""
    counted: list[int] = []

    def count(*args: Any) -> None:
        counted.append(1)
        if error is not None and len(counted) >= at:
            raise error

    pipeline = given.denoiser.network.call.pipeline
    net = {"network": pipeline.unet, "prompts": pipeline.text_encoder, "decoder": pipeline.vae.decoder}[part]
    hook = net.register_forward_pre_hook(count)
    try:
        yield counted
    finally:
        hook.remove()


@pytest.mark.parametrize("part", ["network", "prompts", "decoder"])
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("of a layer"), torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()]
)
def test_a_part_that_fails_ends_the_run_and_no_finished_sample_is_lost(
    part: str, error: BaseException, tmp_path: Path
) -> None:
    given, before = model(micro_batch=1), set(threading.enumerate())
    with failing(given, part, error, at=calls(part) - 1), pytest.raises(type(error), match=str(error)):
        draw(given, tmp_path / "torn")
    assert set(threading.enumerate()) == before
    rows = read_rows(tmp_path / "torn" / "samples.csv")
    assert 1 <= len(rows) < N and all((tmp_path / "torn" / row["sample"]).is_file() for row in rows)
    draw(given, tmp_path / "torn")
    assert files(tmp_path / "torn") == whole()
    assert set(threading.enumerate()) == before


def test_a_reward_that_fails_ends_the_loops(tmp_path: Path) -> None:
    given, before, seen = model(), set(threading.enumerate()), []

    def late(samples: Any) -> list[float]:
        seen.append(1)
        if len(seen) == 6:
            raise LookupError("of the reward")
        return bright(samples)

    with pytest.raises(Exception, match="of the reward"):
        draw(given, tmp_path / "run", late)
    assert set(threading.enumerate()) == before
    assert 1 <= len(read_rows(tmp_path / "run" / "samples.csv")) < N


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_pipeline_computes_ends_its_thread(number: signal.Signals, tmp_path: Path) -> None:
    given, before, counted = model(micro_batch=1), set(threading.enumerate()), []

    def kill(*args: Any) -> None:
        counted.append(threading.current_thread().name)
        if len(counted) == calls("network") - 1:
            os.kill(os.getpid(), number)

    hook = given.network.module.register_forward_pre_hook(kill)
    with handled() as ended, pytest.raises(KeyboardInterrupt):
        draw(given, tmp_path / "run")
    hook.remove()
    assert (ended.number, set(counted)) == (number, {"pipeline"})
    assert set(threading.enumerate()) == before
    assert 1 <= len(read_rows(tmp_path / "run" / "samples.csv")) < N


def test_a_loop_that_was_never_handed_over_ends() -> None:
    """As at an interrupt just after its thread has started."""
    call = model().denoiser.network.call
    before = set(threading.enumerate())
    loop = Loop(call, Request("cat"), 1, 999.0)
    loop.exchange.told.get()  # it waits for the next question
    [thread] = set(threading.enumerate()) - before
    del loop
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_what_had_no_room_is_let_go_before_it_is_tried_again() -> None:
    """Else there would be room neither for the smaller micro-batch."""
    given, held, kept = model(micro_batch=4), [], []

    def full(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        kept.append([ref() is not None for ref in held])
        if len(args[0]) > 4:  # guided rows are two
            activations = torch.ones(3)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")

    gc.disable()
    hook = given.network.module.register_forward_pre_hook(full, with_kwargs=True)
    try:
        guided.sample(given, bright, SVDD(M=2), n=4, prompt="cat", guidance=3.0)
    finally:
        hook.remove()
        gc.enable()
    assert held and not any(alive for now in kept for alive in now)


def test_a_model_that_could_not_be_made_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    pipeline = ddim(build("sd"))
    for error in (ZeroDivisionError("of the encoder"), KeyboardInterrupt()):

        def fail(*args: Any, error: BaseException = error) -> None:
            raise error

        hook = pipeline.text_encoder.register_forward_pre_hook(fail)
        with pytest.raises(type(error), match=str(error)):
            wrap(pipeline, loop=True, steps=3)
        hook.remove()
    assert set(threading.enumerate()) == before
