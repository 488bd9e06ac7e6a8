"""Laws of turns: two blocks at a time are drawn as one after the other, and nothing of them is left behind."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import guided
from guided.core.particles import Particles
from guided.errors import GuidedError, RewardError
from guided.runs.engine import Batch
from guided.runs.sample import stream
from guided.runs.turns import in_turns
from guided.samplers import SVDD
from guided.scoring.limits import Stopped
from guided.scoring.objective import Objective, resolve_reward
from guided.scoring.registry import register_reward
from guided.scoring.turns import waiting
from guided.values.posterior_mean import PosteriorMean
from tests.runs.test_sample import dna

CPU = torch.device("cpu")


def gc(samples: list[str]) -> list[float]:
    return [(s.count("G") + s.count("C")) / len(s) for s in samples]


@register_reward("turns", workers="threads")
def turns(samples: list[str], fails: str = "") -> list[float]:
    """Share of G and C, in threads; fails at a sample that contains a text."""
    time.sleep(0.001)
    if fails and any(fails in sample for sample in samples):
        raise ValueError("no")
    return gc(samples)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"block", "worker"}


def drawn(workers: int, reward: Any = "turns", **options: Any) -> tuple[list[Batch], list[Any]]:
    seen: list[Any] = []
    given = {"n": 22, "batch_size": 4, "seed": 3, **options}
    batches = list(stream(dna(), reward, SVDD(4, alpha=0.05), workers=workers, progress=seen.append, **given))
    return batches, [(state.done, state.step, state.mean, state.best) for state in seen]


def plain(batch: Batch) -> tuple[Any, ...]:
    stats = (batch.stats.network_rows, batch.stats.network_calls, batch.stats.reward_calls, batch.stats.cached)
    return batch.requests, batch.samples, batch.rewards, batch.columns, batch.path, stats


def test_samples_counters_and_progress_are_those_of_one_block_after_the_other() -> None:
    (one, seen), (two, shown) = drawn(0), drawn(3)
    assert list(map(plain, one)) == list(map(plain, two)) and len(one) == 6
    assert seen == shown


def test_two_blocks_are_drawn_at_once_and_one_of_them_at_a_time() -> None:
    """The denoiser is called in turn, although it is made for one thread; the other block begins before the end."""
    model, inside, order = dna(), threading.Lock(), []

    def denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert inside.acquire(blocking=False)
        order.append(threading.current_thread())
        time.sleep(0.002)
        inside.release()
        return model.denoiser(x, t)

    watched = guided.Diffusion(denoiser, model.process, model.codec, timed=False)
    for batch in stream(watched, "turns", SVDD(4), n=12, batch_size=4, workers=2):
        with inside:  # the caller has the turn
            time.sleep(0.01)
        assert torch.is_grad_enabled() and len(batch.samples) == 4
    assert len(set(order)) == 3
    first, second = (order.index(thread) for thread in list(dict.fromkeys(order))[:2])
    assert second < len(order) - 1 - order[::-1].index(order[first])


def test_a_block_that_fails_keeps_what_was_before_it() -> None:
    whole, _ = drawn(0)
    bad = whole[2].samples[1]
    found = []
    with pytest.raises(RewardError, match="reward 'turns' raised ValueError: no"):
        for batch in stream(dna(), f"turns?fails={bad}", SVDD(4, alpha=0.05), n=22, batch_size=4, seed=3, workers=2):
            found.append(batch)
    assert [plain(batch)[:2] for batch in found] == [plain(batch)[:2] for batch in whole[: len(found)]]
    assert len(found) <= 2


def test_a_stream_that_is_left_ends_its_threads() -> None:
    batches = stream(dna(), "turns", SVDD(4), n=40, batch_size=4, workers=2)
    assert next(batches).requests == [0, 1, 2, 3]
    batches.close()  # type: ignore[attr-defined]


def test_an_error_of_the_caller_ends_the_run() -> None:
    class Enough(Exception):
        pass

    def progress(state: Any) -> None:
        if state.done and state.step == 3:
            raise Enough

    with pytest.raises(Enough):
        guided.sample(dna(), "turns", SVDD(4), n=12, batch_size=4, workers=2, progress=progress)


def test_an_objective_of_the_callers_counts_and_can_be_used_again() -> None:
    objective = resolve_reward("turns", workers=2)
    run = guided.sample(dna(), objective, SVDD(4), n=12, batch_size=4)
    assert objective.calls == run.stats.reward_calls > 12
    assert objective(["GA"]).tolist() == [0.5]
    objective.close()


def test_a_folder_that_cannot_be_written_ends_the_threads_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("guided.storage.tables.append_csv", fails)
    monkeypatch.setattr("guided.runs.folder.append_csv", fails)
    with pytest.raises(OSError, match="No space") as caught:
        guided.sample(dna(), "turns", SVDD(4), n=20, batch_size=4, workers=2, out=tmp_path)
    assert caught.value.__traceback__ is not None  # which holds the frames
    assert "block" not in {thread.name for thread in threading.enumerate()}


class Own:
    """A value of the user's, which holds the objective."""

    def __init__(self, objective: Objective) -> None:
        self.inner, self.threads = PosteriorMean(objective), set[int]()

    def __call__(self, particles: Particles, alpha: float) -> torch.Tensor:
        self.threads.add(threading.get_ident())
        return self.inner(particles, alpha)


def test_a_value_of_the_users_is_not_shared_by_two_blocks() -> None:
    objective = resolve_reward("turns", workers=2)
    value = Own(objective)
    run = guided.sample(dna(), objective, SVDD(4), n=12, batch_size=4, value=value)
    assert value.threads == {threading.get_ident()}
    assert run.samples == guided.sample(dna(), "turns", SVDD(4), n=12, batch_size=4).samples
    assert run.stats.reward_calls == objective.calls
    objective.close()


def test_results_are_in_order_and_errors_wait_for_their_turn() -> None:
    def slow(step: Any) -> str:
        with waiting():
            time.sleep(0.1)
        return "slow"

    def fails(step: Any) -> str:
        raise GuidedError("second")

    got = []
    with pytest.raises(GuidedError, match="second"):
        for result in in_turns([slow, fails, slow, slow], lambda: None, lambda: None, CPU):
            got.append(result)
    assert got == ["slow"]


def test_what_waits_is_cancelled() -> None:
    cancelled, ends = threading.Event(), []

    def fails(step: Any) -> None:
        raise GuidedError("first")

    def waits(step: Any) -> None:
        try:
            with waiting():
                assert cancelled.wait(30)
            step()
        except BaseException as error:
            ends.append(type(error))
            raise

    with pytest.raises(GuidedError, match="first"):
        list(in_turns([fails, waits], lambda: None, cancelled.set, CPU))
    assert ends in ([Stopped], [])  # it may not have begun


def test_threads_have_the_settings_of_the_caller() -> None:
    def settings(step: Any) -> Any:
        return torch.get_num_threads(), torch.is_autocast_enabled("cpu"), torch.get_default_device().type

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            [found] = in_turns([settings], lambda: None, lambda: None, CPU)
        assert found == (3, True, "meta")
    finally:
        torch.set_num_threads(before)
