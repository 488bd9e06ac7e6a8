"""Laws of workers: the scores of a batch are those without them, and whatever happens to a worker is one clear line."""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from guided.errors import GuidedError, RewardError
from guided.scoring import registry
from guided.scoring.failures import Failures
from guided.scoring.function import Function
from guided.scoring.limits import Stopped
from guided.scoring.objective import Objective, resolve_reward
from guided.scoring.registry import register_reward
from guided.scoring.serving import answer
from guided.scoring.workers import Pool, Spread, shares


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


@given(st.integers(0, 5000), st.integers(1, 64))
def test_parts_cover_a_batch_in_order_and_become_smaller(n: int, workers: int) -> None:
    parts = [range(n)[part] for part in shares(n, workers)]
    assert [i for part in parts for i in part] == list(range(n))
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True) and (not sizes or sizes[-1] == 1)
    if n >= 2 * workers:  # no worker has more than half of its share at the end
        assert max(sizes) <= math.ceil(n / (2 * workers))


def troubled(folder: Path) -> Callable[..., Any]:
    """A reward that does what its samples say, and notes the processes that score. It is sent whole."""
    log = str(folder / "pids")
    once = str(folder / "once")

    def letters(samples: list[str], prompts: Any = None) -> Any:
        import ctypes
        import os
        import subprocess

        child = subprocess.Popen(["sleep", "300"]) if "hang" in samples else None
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {child.pid if child else os.getpid()}\n")
        for sample in samples:
            if sample == "die" or (sample == "once" and not os.path.exists(once)):
                open(once, "w").close()
                os.kill(os.getpid(), 9)
            if sample == "hang":  # in C code that holds Python's lock
                ctypes.PyDLL(None).usleep(2_000_000_000)
            if sample == "raise":
                raise KeyError("bad")
            if sample == "generator":
                return (1.0 for _ in samples)
        return [
            float(len(sample)) + (ord(prompt) if prompt else 0)
            for sample, prompt in zip(samples, prompts or [""] * len(samples), strict=True)
        ]

    return letters


def pids(folder: Path) -> set[int]:
    return {int(pid) for pid in (folder / "pids").read_text().split()}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Objective]]:
    """Makes objectives of a troubled reward with two workers; nothing is left of them."""
    everything = []

    def make(**options: Any) -> Objective:
        everything.append(resolve_reward(troubled(tmp_path), workers=2, **options))
        return everything[-1]

    yield make
    for objective in everything:
        objective.close()
    assert not any(map(runs, pids(tmp_path)))
    assert not [thread for thread in threading.enumerate() if thread.name == "worker"]


def test_scores_are_in_order_with_their_prompts_and_processes_stay(made: Any, tmp_path: Path) -> None:
    texts = ["x" * i for i in range(40)]
    objective = made()
    assert objective(texts).tolist() == [float(i) for i in range(40)]
    first = pids(tmp_path)
    assert 1 <= len(first) <= 2 and os.getpid() not in first
    assert objective(["ab", "ab", "abc"], ["A", "B", "A"]).tolist() == [67.0, 68.0, 68.0]
    assert pids(tmp_path) >= first and len(pids(tmp_path)) <= 2
    assert objective.calls == 43


def test_who_dies_hangs_or_raises_is_blamed_alone(made: Any, tmp_path: Path) -> None:
    """A process that was killed is replaced: what it had is tried once more."""
    objective = made(on_error="worst", time_limit=1.0)
    batch = ["once", "die", "hang", "raise", "generator", "a", "bb"]
    start = time.monotonic()
    assert objective(batch).tolist() == [4.0, *[-math.inf] * 4, 1.0, 2.0]
    assert objective.failures == 4 and time.monotonic() - start < 60
    assert objective.first_failure == "reward 'letters' ended its worker process by SIGKILL, 2 times, for sample 'die'"


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("die", "ended its worker process by SIGKILL, 2 times, for sample 'die'"),
        ("hang", "took longer than 0.5 s, for sample 'hang'"),
        ("generator", "<generator object .* wanted a sequence of 1 numbers, for sample 'generator'"),
    ],
)
def test_a_failure_that_stops_is_one_line(made: Any, sample: str, said: str) -> None:
    with pytest.raises(RewardError, match=f"^reward 'letters' .*{said}$"):
        made(time_limit=0.5)(["a", sample, "bb", "ccc"])


def test_calls_can_be_stopped_from_another_thread(made: Any, tmp_path: Path) -> None:
    objective = made()
    ends: list[BaseException] = []

    def score() -> None:
        try:
            objective(["hang", "a"])
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=score)
    thread.start()
    end = time.monotonic() + 30
    while not (tmp_path / "pids").exists() and time.monotonic() < end:
        time.sleep(0.02)
    objective.cancel()
    thread.join(10)
    assert [type(error) for error in ends] == [Stopped]
    assert objective(["aaa"]).tolist() == [3.0]  # and it can be used again


def test_what_cannot_be_sent_is_refused_at_once() -> None:
    lock = threading.Lock()
    with pytest.raises(GuidedError, match="cannot be sent to worker processes: TypeError: cannot pickle"):
        resolve_reward(lambda samples: [float(lock.locked()) for _ in samples], workers=2)
    for workers in (-1, 1.5, "two", True):
        with pytest.raises(GuidedError, match="workers is"):
            resolve_reward("gc", workers=workers)  # type: ignore[arg-type]
    with pytest.raises(GuidedError, match="Objective already"):
        resolve_reward(resolve_reward("gc"), workers=2)


def on_threads(n: int, reward: Callable[..., Any], on_error: str = "stop") -> tuple[Pool, Spread]:
    pool = Pool(n)
    return pool, Spread("r", Function(reward, {}), on_error, pool, processes=False)


def test_the_first_sample_at_fault_is_named_whichever_fails_first() -> None:
    def reward(samples: list[int]) -> list[float]:
        for sample in samples:
            if sample in (3, 17):
                time.sleep(0.3 if sample == 3 else 0.0)
                raise ValueError(str(sample))
        return [float(sample) for sample in samples]

    pool, spread = on_threads(4, reward)
    with pytest.raises(RewardError, match="for sample 3"):
        spread(list(range(20)))
    assert spread(list(range(4, 17))) == [float(i) for i in range(4, 17)]
    pool.close()


def test_threads_get_copies_of_images_and_tensors() -> None:
    seen = []

    def reward(samples: Any) -> list[float]:
        seen.append(threading.current_thread().name)
        if isinstance(samples, torch.Tensor):
            values = samples[:, 0].tolist()
            samples.zero_()
            return values
        return [float(sample.size[0]) for sample in samples]

    pool, spread = on_threads(3, reward)
    x = torch.arange(10.0)[:, None]
    assert spread(x) == list(range(10)) and x[:, 0].tolist() == list(range(10))
    assert spread([Image.new("L", (i, 1)) for i in range(1, 9)]) == list(range(1, 9))
    assert set(seen) == {"worker"}
    pool.close()


def test_a_registered_reward_says_where_it_is_scored() -> None:
    with pytest.raises(GuidedError, match="workers is 'gpu'; it is one of 'processes', 'threads', 'none'"):
        register_reward("nowhere", workers="gpu")
    where = {name: resolve_reward(name).terms[0].source.workers for name in ("qed", "compressibility")}
    assert where == {"qed": "processes", "compressibility": "threads"}


def test_a_worker_answers_whatever_it_is_asked() -> None:
    """The errors of a function, and of a function that cannot be read, come back as texts."""
    import pickle

    tasks: dict[int, Any] = {}
    kind, *said = pickle.loads(answer(tasks, pickle.dumps(("load", 0, b"nothing"))))
    assert kind == "raised" and said[1] == "UnpicklingError"
    assert pickle.loads(answer(tasks, pickle.dumps(("load", 0, pickle.dumps((len, {}, False)))))) == ("done", None)
    assert pickle.loads(answer(tasks, pickle.dumps(("score", 0, ["a", "b"], None)))) == ("done", 2)
    kind, what, name, text, trace = pickle.loads(answer(tasks, pickle.dumps(("score", 0, 7, None))))
    assert (kind, what, name) == ("raised", "TypeError", "TypeError") and "has no len" in text and "Traceback" in trace
    for error, kind in ((ImportError, "import"), (MemoryError, "memory"), (RewardError, "reward")):
        tasks[1] = (lambda samples, error=error: (_ for _ in ()).throw(error("x")), {}, False)
        assert pickle.loads(answer(tasks, pickle.dumps(("score", 1, [], None))))[1] == kind


@given(st.integers(1, 64), st.integers(1, 64))
def test_out_of_memory_halves_the_batches_of_a_reward_and_is_remembered(n: int, most: int) -> None:
    sizes = []

    def reward(samples: list[int], prompts: Any = None) -> list[float]:
        sizes.append(len(samples))
        if len(samples) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [float(sample) for sample in samples]

    judged = Failures("r", Function(reward, {}))
    assert judged(list(range(n))) == list(range(n))
    before = len(sizes)
    assert judged(list(range(n))) == list(range(n))
    assert all(size <= most for size in sizes[before:])
    assert (judged.most is None) == (n <= most)


def test_parts_that_began_before_do_not_forget_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of parts that are scored side by side, one is out of memory while another, small enough, is still scored."""
    monkeypatch.setattr(registry, "_table", dict(registry._table))
    largest, second = [part.stop - part.start for part in shares(20, 2)][:2]
    sizes: list[int] = []

    @register_reward("sized", workers="threads")
    def sized(samples: list[int]) -> list[float]:
        sizes.append(len(samples))
        if len(samples) == largest:
            time.sleep(0.1)
            raise torch.OutOfMemoryError("CUDA out of memory")
        if len(samples) == second:
            time.sleep(0.5)
        return [float(sample) for sample in samples]

    assert largest > second
    objective = resolve_reward("sized", workers=2)
    for _ in range(2):
        assert objective(list(range(20))).tolist() == list(range(20))
        objective.clear()
    assert sizes.count(largest) == 1
    objective.close()


def test_a_file_that_changes_is_not_scored_as_what_it_was(tmp_path: Path) -> None:
    """A process that starts late, or again, would give another reward's scores under the name of this one."""
    file, weights = tmp_path / "r.py", tmp_path / "w.txt"
    weights.write_text("1")
    file.write_text(
        "import os, pathlib\n"
        "def scaled(samples, weights):\n"
        "    if 'die' in samples and not pathlib.Path(weights + '.died').exists():\n"
        "        pathlib.Path(weights + '.died').touch()\n"
        "        os._exit(1)\n"
        "    return [float(pathlib.Path(weights).read_text())] * len(samples)\n"
    )
    for changed in (file, weights):
        objective = resolve_reward(f"{file}:scaled?weights={weights}", workers=1, on_error="worst")
        assert objective(["a"]).tolist() == [float(weights.read_text())]
        changed.write_text(changed.read_text() + "\n")
        assert objective(["b"]).tolist() == [1.0]  # the process that runs has read it
        Path(f"{weights}.died").unlink(missing_ok=True)
        with pytest.raises(RewardError, match="was changed while the run went on"):
            objective(["die"])
        objective.close()


def test_a_sample_that_alone_takes_too_much_memory_is_at_fault() -> None:
    def reward(samples: list[int]) -> list[float]:
        if 3 in samples:
            raise MemoryError
        return [1.0] * len(samples)

    objective = resolve_reward(reward, on_error="worst")
    assert objective([1, 2, 3, 4]).tolist() == [1.0, 1.0, -math.inf, 1.0] and objective.failures == 1


def test_programs_run_once_for_each_worker(tmp_path: Path) -> None:
    from tests.scoring.test_external import WITH_PID, program

    body = "time.sleep(0.2)\n" + WITH_PID.replace('s == "pid"', 's.startswith("pid")')
    objective = resolve_reward(program(tmp_path, body), workers=2)
    found = {int(pid) for pid in objective([f"pid{i}" for i in range(6)]).tolist()}
    assert len(found) == 2 and all(map(runs, found))
    assert objective(["a", "bb", "ccc"]).tolist() == [1.0, 2.0, 3.0]
    objective.close()
    assert not any(map(runs, found))
