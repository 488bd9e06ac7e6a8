"""Laws of the cache: scores are kept by all that they depend on, a second run calls nothing, no run depends on it."""

import math
import os
import pickle
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import pytest
import torch
from PIL import Image

import guided
from guided.errors import GuidedError, RewardError
from guided.samplers import SVDD
from guided.scoring.cache import Cache, Cached
from guided.scoring.failures import Failures
from guided.scoring.function import Function
from guided.scoring.objective import Objective, resolve_reward
from tests.runs.test_sample import dna


class Counted:
    """Makes objectives of one function, which notes what it is called with."""

    def __init__(self, folder: Path) -> None:
        self.log, self.path = folder / "log", folder / "scores"
        (folder / "r.py").write_text(
            "import time\n"
            "def letters(samples, prompts=None, power=1.0):\n"
            f"    with open({str(self.log)!r}, 'a') as file:\n"
            "        for s in samples:\n"
            "            file.write(f'{s}\\n')\n"
            "    for s in samples:\n"
            "        if s == 'bad': raise ValueError('bad')\n"
            "        if s == 'slow': time.sleep(1)\n"
            "    return [-float('inf') if s == 'worst' else float(len(s)) ** power + len(p or '')\n"
            "            for s, p in zip(samples, prompts or [''] * len(samples))]\n"
        )
        self.spec = f"{folder}/r.py:letters"

    def make(self, query: str = "", **options: Any) -> Objective:
        return resolve_reward(self.spec + query, **{"cache": self.path, "on_error": "worst", **options})

    def calls(self) -> list[str]:
        found = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return found


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


def test_what_was_scored_once_is_not_scored_again(counted: Counted) -> None:
    batch = ["a", "bb", "worst", "bad", "a"]
    first, second = counted.make(), counted.make()
    expected = [1.0, 2.0, -math.inf, -math.inf, 1.0]
    assert first(batch).tolist() == expected and counted.calls()
    assert second(batch).tolist() == expected and counted.calls() == []
    assert (first.calls, first.cached, first.failures) == (4, 0, 1)
    assert (second.calls, second.cached, second.failures) == (4, 4, 1)
    assert first.first_failure == second.first_failure
    assert second(["a", "ccc"]).tolist() == [1.0, 3.0] and counted.calls() == ["ccc"]
    assert (second.calls, second.cached) == (5, 4)


def test_a_score_is_kept_by_all_that_it_depends_on(counted: Counted) -> None:
    counted.make()(["aa"], ["p"])
    assert counted.calls() == ["aa"]
    assert counted.make()(["aa"], ["pp"]).tolist() == [4.0] and counted.calls() == ["aa"]
    assert counted.make()(["aa"]).tolist() == [2.0] and counted.calls() == ["aa"]
    assert counted.make("?power=2")(["aa"], ["p"]).tolist() == [5.0] and counted.calls() == ["aa"]
    assert counted.make("?weight=3&linear=0,6")(["aa"], ["p"]).tolist() == [0.5] and counted.calls() == []
    file = Path(counted.spec.partition(":")[0])
    file.write_text(file.read_text() + "\n# changed\n")
    assert counted.make()(["aa"], ["p"]).tolist() == [3.0] and counted.calls() == ["aa"]


def test_failures_are_kept_where_they_would_happen_again(counted: Counted) -> None:
    options = {"time_limit": 0.3}
    assert counted.make(**options)(["slow", "bad"]).tolist() == [-math.inf] * 2
    counted.calls()
    assert counted.make()(["slow", "bad"]).tolist() == [4.0, -math.inf] and counted.calls() == ["slow"]
    with pytest.raises(RewardError, match="raised ValueError: bad, for sample 'bad'"):
        counted.make(on_error="stop")(["bad"])
    assert counted.calls() == ["bad"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_answer_that_is_none_may_be_one_another_time(tmp_path: Path, workers: int) -> None:
    """A server's page in place of JSON is no fault of the sample; what the sample itself raises is, by workers too."""
    (tmp_path / "r.py").write_text(
        "import json, pathlib\n"
        "def web(samples):\n"
        "    if 'CC' in samples: raise KeyError('CC')\n"
        f"    return [json.loads(pathlib.Path({str(tmp_path / 'page')!r}).read_text()) for _ in samples]\n"
    )
    (tmp_path / "page").write_text("502 Bad Gateway")
    options = {"cache": tmp_path / "kept", "on_error": "worst", "workers": workers}
    found = []
    for answer in ("502 Bad Gateway", "3.5"):
        (tmp_path / "page").write_text(answer)
        made = resolve_reward(f"{tmp_path}/r.py:web", **options)
        found.append((made(["C", "CC"]).tolist(), made.cached))
        made.close()
    assert found == [([-math.inf, -math.inf], 0), ([3.5, -math.inf], 1)]


def test_the_key_has_what_a_program_or_a_default_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of options, folders, modules and programs on the path, and files that parameters name by default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for folder in ("bin", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "f.py").write_text("def f(samples, weights='w.txt'):\n    return [1.0] * len(samples)\n")
    (tmp_path / "bin" / "onpath").touch(0o755)
    for changes, spec in {
        "w.txt": "exec:python f.py --weights=w.txt",
        "data/w.txt": "exec:python f.py data",
        "f.py": "exec:python -m f",
        "bin/onpath": "exec:onpath",
    }.items():
        keys = set()
        for text in ("", "# more\n"):
            with (tmp_path / changes).open("a") as file:
                file.write(text)
            keys.add(resolve_reward(spec, cache=tmp_path / "kept").terms[0].cached.reward)
        assert len(keys) == 2, spec
    before = resolve_reward("f.py:f", cache=tmp_path / "kept").terms[0].cached.reward
    (tmp_path / "w.txt").write_text("others")
    assert resolve_reward("f.py:f", cache=tmp_path / "kept").terms[0].cached.reward != before
    for spec in ("exec:sh -c 'python f.py'", "exec:python -m json.tool"):
        with pytest.raises(GuidedError, match="cannot be known what the program"):
            resolve_reward(spec, cache=tmp_path / "kept")


def test_the_key_has_the_version_of_a_functions_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for version in ("1.0", "2.0"):
        monkeypatch.setattr("importlib.metadata.version", lambda name, version=version: version)
        keys.add(resolve_reward("diskcache.core:full_name", cache=tmp_path).terms[0].cached.reward)
    assert len(keys) == 2


def test_a_second_run_calls_no_reward_and_draws_the_same(tmp_path: Path) -> None:
    def run(**options: Any) -> Any:
        spec = f"{tmp_path}/gc.py:gc"
        return guided.sample(dna(), spec, SVDD(4, alpha=0.1), n=10, batch_size=4, seed=1, **options)

    (tmp_path / "gc.py").write_text(
        f"def gc(s):\n    open({str(tmp_path / 'log')!r}, 'a').write('x')\n    return [x.count('G') / 3 for x in s]\n"
    )
    plain = run()
    first, second = (run(cache=tmp_path / "scores", out=tmp_path / f"{i}", report=False) for i in range(2))
    before = (tmp_path / "log").stat().st_size
    third = run(cache=tmp_path / "scores", workers=2)
    assert (tmp_path / "log").stat().st_size == before
    assert (tmp_path / "0" / "samples.csv").read_bytes() == (tmp_path / "1" / "samples.csv").read_bytes()
    for other in (first, second, third):
        assert other.samples == plain.samples and torch.equal(other.rewards, plain.rewards)
        assert other.stats.reward_calls == plain.stats.reward_calls
    assert 0 <= first.stats.cached < first.stats.reward_calls == second.stats.cached == third.stats.cached
    assert guided.open_run(tmp_path / "1").stats.cached == second.stats.cached


def key(sample: Any, prompt: str | None = None, prompted: bool = False) -> bytes | None:
    return Cached(Cache("unused"), Failures("r", Function(len, {})), {"reward": "r"}, prompted).key(sample, prompt)


def test_equal_samples_have_equal_keys_and_others_have_others() -> None:
    red = Image.new("RGB", (2, 3), "red")
    palette = red.convert("P")
    other = palette.copy()
    other.putpalette([9] * 768)
    everything: list[Any] = [
        None, "None", "", "a", "aa", ("a", "a"), ["a", "a"], ["aa"], ["a", ["a"]], red, Image.new("RGB", (3, 2), "red"),
        Image.new("RGB", (2, 3), "blue"), Image.new("L", (6, 3), 0), Image.new("L", (3, 6), 0), palette, other, [red],
        [red, red], np.zeros(2), np.zeros(2, np.float32), np.zeros((2, 1)), np.ones(2), torch.zeros(2),
        torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.int32), torch.ones(2), torch.zeros(0),
        torch.tensor(0.0),
    ]  # fmt: skip
    keys = [key(sample) for sample in everything]
    assert None not in keys and len(set(keys)) == len(everything)
    assert key(red.copy()) == key(red) and key(torch.ones(4)[::2]) == key(torch.ones(2))
    assert key({"a": 1}) is None and key(np.array([object()])) is None and key([{"a": 1}]) is None
    assert key("a", "p") == key("a") and len({key("a", p, prompted=True) for p in ("p", "q", "", None)}) == 4


def test_an_opaque_reward_needs_trust(tmp_path: Path) -> None:
    table = {"a": 1.0}
    reward = lambda samples: [table.get(s, 0.0) for s in samples]  # noqa: E731
    with pytest.raises(GuidedError, match=r"its scores cannot be kept; .* trust_rewards=True"):
        resolve_reward(reward, cache=tmp_path / "scores")
    made = resolve_reward(reward, cache=tmp_path / "scores", trust_rewards=True)
    assert made(["a"]).tolist() == [1.0]


def full(path: Path) -> None:
    """A disk that is full, as SQLite sees it."""


def damaged(path: Path) -> None:
    for file in path.iterdir():
        file.write_bytes(b"nothing that a database would begin with" * 1000)


def a_file(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    path.write_text("")


@pytest.mark.parametrize("harm", [damaged, full, a_file])
def test_a_run_goes_on_without_a_cache_that_does_not_work(
    counted: Counted, harm: Callable[[Path], None], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted.make()(["a"])
    made = counted.make()
    if harm is full:

        def limited(*arguments: Any, **options: Any) -> Any:
            store = original(*arguments, **options)
            store._sql("PRAGMA max_page_count = 1")
            return store

        original = diskcache.Cache
        monkeypatch.setattr(diskcache, "Cache", limited)
    harm(counted.path)
    many = ["x" * i for i in range(3000)]
    assert made(many).tolist() == made(many).tolist() == [float(i) for i in range(3000)]
    assert made(["a", "bb"]).tolist() == [1.0, 2.0]
    made.close()
    err = capsys.readouterr().err
    said = {damaged: "file is not a database", full: "database or disk is full", a_file: ""}[harm]
    assert err.startswith(f"note: the run goes on without the cache {str(counted.path)!r}: ") and said in err
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_no_cache(counted: Counted, capsys: pytest.CaptureFixture) -> None:
    made = counted.make(cache="/proc/scores")
    assert made(["a", "bb"]).tolist() == [1.0, 2.0] and capsys.readouterr().err.count("\n") == 1
    counted.path.write_text("")
    with pytest.raises(GuidedError, match="which is a file; give a folder"):
        counted.make()


def test_no_code_of_a_shared_folder_is_run(counted: Counted, tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    made = counted.make()
    made(["a"])
    made.close()
    with sqlite3.connect(counted.path / "cache.db") as database:
        [entry] = (database.execute("SELECT count(*) FROM Cache").fetchone(),)
        assert entry == (1,)
        database.execute("UPDATE Cache SET mode = 4, value = ?", (pickle.dumps(Bad()),))
    database.close()
    counted.calls()
    assert counted.make()(["a"]).tolist() == [1.0] and counted.calls() == ["a"]
    assert not (tmp_path / "ran").exists()


def test_threads_share_a_cache(counted: Counted) -> None:
    made, ends = counted.make(), []

    def score(i: int) -> None:
        session = made.session()
        ends.append([session([f"{'x' * j}" for j in range(i, 200)]).tolist(), i])

    threads = [threading.Thread(target=score, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(end[1] for end in ends) == [0, 1, 2, 3]
    assert all(end[0] == [float(j) for j in range(end[1], 200)] for end in ends)
    counted.calls()
    assert counted.make()(["x" * j for j in range(200)]).tolist() == [float(j) for j in range(200)]
    assert counted.calls() == []
