"""Laws of external rewards: the protocol, one process kept running, and what happens when it breaks."""

import math
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from guided.errors import RewardError
from guided.scoring.objective import Objective, resolve_reward

PREAMBLE = """\
import json, os, sys, time
print("hello from", os.getpid(), file=sys.stderr, flush=True)
for line in sys.stdin:
    request = json.loads(line)
    samples = request["samples"]
    answer = {"version": 1, "id": request["id"], "scores": [0.0 if s is None else float(len(s)) for s in samples]}
"""
ANSWER = "\nprint(json.dumps(answer), flush=True)"


def program(folder: Path, body: str = "", name: str = "letters.py") -> str:
    """The specification of a program that scores letters, with something of its own between reading and answering."""
    path = folder / name
    path.write_text(PREAMBLE + textwrap.indent(textwrap.dedent(body) + ANSWER, "    ") + "\n")
    return f"exec:{sys.executable} {path}"


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(objective: Objective) -> int:
    return int(objective(["pid"]).item())


WITH_PID = 'answer["scores"] = [os.getpid() if s == "pid" else float(len(s)) for s in samples]'


def test_a_program_scores_and_is_started_once(tmp_path: Path) -> None:
    made = resolve_reward(program(tmp_path, WITH_PID))
    pid = pid_of(made)
    assert made(["a", "bcd", "a", "é\n∞"]).tolist() == [1, 3, 1, 3]
    made.clear()
    assert pid_of(made) == pid and made.name == "letters" and made.calls == 5
    made.close()
    assert not runs(pid)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_program_that_dies_once_is_started_again(tmp_path: Path, workers: int) -> None:
    """As a worker process is; the sample is to blame only if it ends the program each time."""
    body = f"""
        once = {str(tmp_path / "once")!r}
        if "always" in samples or ("once" in samples and not os.path.exists(once)):
            open(once, "w").close()
            os._exit(3)
    """
    made = resolve_reward(program(tmp_path, body), workers=workers, on_error="worst")
    assert made(["once"]).tolist() == [4.0] and made.failures == 0
    assert made(["always", "ab"]).tolist() == [-math.inf, 2.0] and made.failures == 1
    made.close()


def test_an_invalid_sample_is_sent_as_null(tmp_path: Path) -> None:
    assert resolve_reward(program(tmp_path))([None, "ab"]).tolist() == [0, 2]


def test_a_large_batch_passes_through_the_pipes(tmp_path: Path) -> None:
    batch = [f"{i:01000d}" for i in range(1000)]
    assert resolve_reward(program(tmp_path))(batch).tolist() == [1000.0] * 1000


def test_an_executable_file_is_a_reward_and_takes_weight_and_transform(tmp_path: Path) -> None:
    program(tmp_path, name="dock")
    path = tmp_path / "dock"
    path.write_text(f"#!{sys.executable}\n" + path.read_text())
    with pytest.raises(ValueError, match="not executable"):
        resolve_reward(str(path))
    path.chmod(0o755)
    made = resolve_reward([f"{path}?linear=0,4", f"exec:{path}?weight=3&linear=4,0"])
    assert made.columns(["a"]) == {
        "dock_raw": [1],
        "dock": [0.25],
        "dock#2_raw": [1],
        "dock#2": [0.75],
        "reward": [0.625],
    }


def test_a_question_mark_of_the_command_stays_in_the_command(tmp_path: Path) -> None:
    spec = program(tmp_path, 'answer["scores"] = [float(len(sys.argv[1])) for s in samples]')
    assert resolve_reward(spec + " http://x?y=1")(["a"]).tolist() == [len("http://x?y=1")]


def test_the_spec_rebuilds_and_notices_a_changed_program(tmp_path: Path) -> None:
    spec = program(tmp_path)
    made = resolve_reward(spec)
    assert resolve_reward(made.spec).spec == made.spec
    program(tmp_path, "pass")
    assert resolve_reward(spec).spec != made.spec


BROKEN = {
    'answer = {**answer, "version": 2}': "speaks version 2 of the protocol, wanted 1",
    'del answer["version"]': "speaks version None of the protocol, wanted 1",
    'answer["id"] += 1': "answered request 2, asked was 1",
    'del answer["scores"]': "without 'scores' or 'error'",
    'print("a banner")': "not JSON on its standard output: 'a banner'",
    "answer = [1]": "not an object: '[1]'",
    'answer["scores"] = [1.0]': "returned 1 score for 2 samples",
    'answer["scores"] = 1.0': "returned 1.0, wanted a sequence",
    'answer["error"] = "no licence"': "no licence",
    'sys.exit("bad luck")': "the program ended with exit code 1, saying: hello from",
    "os.kill(os.getpid(), 9)": "the program ended with exit code -9",
}


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_protocol_is_one_clear_line(body: str, tmp_path: Path) -> None:
    made = resolve_reward(program(tmp_path, f"if len(samples) > 1:\n    {body}"))
    with pytest.raises(RewardError, match="reward 'letters'") as caught:
        made(["a", "bb"])
    assert BROKEN[body] in str(caught.value) and "\n" not in str(caught.value)
    assert made(["a"]).tolist() == [1]  # and it goes on
    made.close()


def test_a_crash_is_blamed_on_its_sample_and_the_program_starts_again(tmp_path: Path) -> None:
    body = 'if "bad" in samples:\n    sys.exit("cannot dock")\n'
    with pytest.raises(RewardError, match=r"exit code 1, saying: .*cannot dock, for sample 'bad'"):
        resolve_reward(program(tmp_path, body))(["a", "bad", "bb"])
    made = resolve_reward(program(tmp_path, body), on_error="worst")
    assert made(["a", "bad", "bb"]).tolist() == [1, -math.inf, 2] and made.failures == 1
    made.close()


def test_an_error_and_a_bad_score_are_blamed_on_their_samples(tmp_path: Path) -> None:
    body = """\
        if "bad" in samples:
            answer["error"] = "no such atom"
        special = {"none": None, "worst": float("-inf")}
        answer["scores"] = [special.get(s, len(s)) for s in samples]
        """
    made = resolve_reward(program(tmp_path, body), on_error="worst")
    assert made(["a", "bad", "none", "worst"]).tolist() == [1, -math.inf, -math.inf, -math.inf]
    assert made.failures == 2 and made.first_failure is not None and "no such atom" in made.first_failure
    made.close()


@pytest.mark.parametrize("child", [False, True])
def test_a_hang_kills_the_program_and_what_it_started(child: bool, tmp_path: Path) -> None:
    hang = '__import__("subprocess").run(["sleep", "60"])' if child else "time.sleep(60)"
    body = f'open({str(tmp_path / "pids")!r}, "a").write(f"{{os.getpid()}} ")\nif "bad" in samples:\n    {hang}'
    start = time.monotonic()
    made = resolve_reward(program(tmp_path, body), on_error="worst", time_limit=0.5)
    assert made(["a", "bad"]).tolist() == [1, -math.inf]
    assert "took longer than 0.5 s, for sample 'bad'" in str(made.first_failure)
    made.close()
    assert time.monotonic() - start < 10
    assert not any(runs(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_program_that_reads_nothing_hangs_too(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text("import time\ntime.sleep(60)\n")
    made = resolve_reward(f"exec:{sys.executable} {tmp_path}/deaf.py", time_limit=0.3)
    with pytest.raises(RewardError, match=r"took longer than 0\.3 s"):
        made(["x" * 1_000_000])


def test_arrays_are_refused(tmp_path: Path) -> None:
    made = resolve_reward(program(tmp_path), on_error="worst")
    with pytest.raises(RewardError, match="takes text samples only, given Tensor"):
        made([torch.zeros(3)])


def test_the_program_ends_with_the_interpreter(tmp_path: Path) -> None:
    spec = program(tmp_path, WITH_PID)
    script = (
        f"from guided.scoring.objective import resolve_reward\nprint(int(resolve_reward({spec!r})(['pid']).item()))"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert not runs(int(done.stdout))


def test_a_program_that_ignores_the_end_of_its_input_is_killed(tmp_path: Path) -> None:
    spec = program(tmp_path, WITH_PID)
    path = tmp_path / "letters.py"
    path.write_text(path.read_text() + "time.sleep(60)\n")
    made = resolve_reward(spec)
    pid = pid_of(made)
    start = time.monotonic()
    made.close()
    assert not runs(pid) and time.monotonic() - start < 5


def test_a_line_without_an_end_is_bounded(tmp_path: Path) -> None:
    made = resolve_reward(program(tmp_path, 'while True:\n    sys.stdout.write("x" * 100_000)'), time_limit=60)
    start = time.monotonic()
    with pytest.raises(RewardError, match=r"a line of more than 1,001,000 bytes"):
        made(["a"])
    assert time.monotonic() - start < 20


def test_a_standard_error_without_an_end_is_bounded(tmp_path: Path) -> None:
    body = 'for _ in range(100):\n    sys.stderr.write("x" * 100_000)\nsys.exit("at last")'
    with pytest.raises(RewardError, match=r"exit code 1, saying: .*at last") as caught:
        resolve_reward(program(tmp_path, body))(["a"])
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("n", [1, 20])
def test_a_program_that_writes_before_it_reads_does_not_deadlock(n: int, tmp_path: Path) -> None:
    """More than a pipe holds is on its way in both directions."""
    (tmp_path / "eager.py").write_text(
        "import json, sys\n"
        f"sys.stdout.write(' ' * {n * 100_000}); sys.stdout.flush()\n"
        "for line in sys.stdin:\n"
        "    r = json.loads(line)\n"
        "    print(json.dumps({'version': 1, 'id': r['id'], 'scores': [1.0] * len(r['samples'])}), flush=True)\n"
    )
    made = resolve_reward(f"exec:{sys.executable} {tmp_path}/eager.py", time_limit=30)
    assert made([f"{i:01000d}" for i in range(3000)]).tolist() == [1.0] * 3000
    made.close()


def test_escape_codes_are_not_printed(tmp_path: Path) -> None:
    red = "\\x1b[31mred\\x1b[0m\\x1b]0;title\\x07\\x07"
    for body in (f'sys.exit("{red}")', f'print("{red}")', f'answer["error"] = "{red}"'):
        with pytest.raises(RewardError, match="red") as caught:
            resolve_reward(program(tmp_path, body))(["a"])
        assert str(caught.value).isprintable() and "title" not in str(caught.value)


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    body = 'import subprocess\nanswer["scores"] = [subprocess.Popen(["sleep", "60"]).pid for s in samples]'
    made = resolve_reward(program(tmp_path, body))
    pid = int(made(["a"]).item())
    assert runs(pid)
    made.close()
    end = time.monotonic() + 5
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not runs(pid) or "Z" in Path(f"/proc/{pid}/stat").read_text()


def test_a_neighbour_of_a_program_is_part_of_its_identity(tmp_path: Path) -> None:
    spec = program(tmp_path)
    assert set(resolve_reward(spec).identity["terms"][0]) == {"reward", "sha256", "weight", "transform"}
