"""The training loop: what an update does, how far a training goes, and that stopping it changes nothing."""

import copy
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from guided.errors import GuidedError
from guided.fitting import state as states
from guided.fitting.loop import Alone, Loop, cool_down, decaying, warm_up
from guided.fitting.state import drop_state, read_state, write_state


class Net(nn.Module):
    """One with a buffer that moves, a frozen weight, and weights that are trained."""

    def __init__(self):
        super().__init__()
        self.layer, self.frozen = nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return self.frozen(self.layer(x))


def loop(clip=1.0, rate=lambda update, progress: 0.1, decay=0.5, **options):
    torch.manual_seed(0)
    net = Net()
    averaged = copy.deepcopy(net)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1.0)
    return Loop(net, [optimizer], rate=rate, share=decaying(decay), clip=clip, averaged=averaged, **options), averaged


def loss_of(made, rows=slice(None)):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(made.step))
    return made.forward(x[rows]).square().sum() / 8


def train(made, folder, stop=None, updates=6, **options):
    for _ in made.run(folder, updates=updates, **options):
        made.update(loss_of(made))
        if made.step == stop:
            return made
    return made


def weights(made):
    return {name: t.clone() for name, t in (*made.net.state_dict().items(), *made.average.items())}


def equal(one, other):
    return all(torch.equal(t, other[name]) for name, t in one.items())


def test_shares_of_the_rate_and_of_the_average():
    assert [warm_up(u, 4) for u in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert [cool_down(p, 0.5) for p in (0, 0.5, 0.75, 1, 2)] == [1, 1, 0.5, 0, 0]
    assert [decaying(0.5)(u) for u in (1, 100)] == [1 - 2 / 11, 0.5]


def test_the_parts_of_a_batch_are_the_batch_and_are_made_one_by_one(tmp_path):
    one, other = loop()[0], loop()[0]
    live = []

    def parts():
        for rows in (slice(0, 3), slice(3, 8)):
            live.append(other.step)
            yield loss_of(other, rows)

    for _ in range(3):
        assert one.update(loss_of(one)) == pytest.approx(other.update(parts()))
    for name, w in one.weights.items():
        torch.testing.assert_close(w, other.weights[name])
    assert live == [0, 0, 1, 1, 2, 2]


def test_rate_clip_and_average_are_those_that_are_given():
    made, averaged = loop(clip=1e-3, rate=lambda update, progress: 0.25 * (update + progress))
    made.optimizers = [torch.optim.SGD(made.weights.values(), 1.0)]
    made.update(loss_of(made), progress=0.0)  # at a rate of 0
    before, mean = weights(made), {name: t.clone() for name, t in averaged.state_dict().items()}
    made.update(loss_of(made), progress=1.0)
    moved = sum((made.weights[name] - before[name]).square().sum() for name in made.weights).sqrt()
    assert moved.item() == pytest.approx(0.5 * 1e-3, rel=1e-3)
    for name, p in made.weights.items():
        torch.testing.assert_close(averaged.state_dict()[name], mean[name].lerp(p, 1 - min(0.5, 3 / 12)))
    assert averaged.seen == made.net.seen == 2 and torch.equal(averaged.frozen.weight, made.net.frozen.weight)


def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_are():
    made, _ = loop()
    before = weights(made)
    with pytest.raises(GuidedError, match="the loss is not finite at update 0"):
        made.update(loss_of(made) * float("nan"))
    before["seen"] = made.net.seen
    assert equal(before, made.net.state_dict())


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_training_that_goes_on_ends_as_one_that_was_not_stopped(tmp_path, stop):
    whole = train(loop()[0], tmp_path / "whole")
    train(loop()[0], tmp_path / "torn", stop, due=lambda seconds: True)
    torn = loop()[0]
    torn.load(tmp_path / "torn")
    assert torn.step in (stop - 1, stop)
    train(torn, tmp_path / "torn")
    assert equal(weights(whole), weights(torn)) and torn.step == 6


def test_time_and_updates_are_counted_over_all_sessions(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("guided.fitting.loop.time.monotonic", lambda: 3.0 * next(clock))
    made, seen, saves = loop()[0], [], []
    for progress in made.run(tmp_path, minutes=0.5, due=lambda s: s >= 6, saved=lambda: saves.append(made.step)):
        seen.append(progress)
        made.update(loss_of(made), progress)
    assert seen == pytest.approx([i / 10 for i in range(10)]) and made.seconds == 30
    assert saves == [2, 4, 6, 8, 10]
    again = loop()[0]
    again.load(tmp_path)
    assert list(again.run(tmp_path, minutes=0.5)) == [] == list(again.run(tmp_path, updates=10))
    assert [round(p, 1) for p, _ in zip(again.run(tmp_path, minutes=1), range(1), strict=False)] == [0.5]


def test_sessions_add_up_to_one_training(tmp_path, monkeypatch):
    """A session ends after its own time with its state saved; together they make the training of one long session."""
    clock = iter(range(1_000_000))
    monkeypatch.setattr("guided.fitting.loop.time.monotonic", lambda: 15.0 * next(clock))  # an update takes 15 s
    whole = train(loop()[0], tmp_path / "whole", updates=None, minutes=2.0)
    steps = []
    for _ in range(3):
        made = loop()[0]
        made.load(tmp_path / "torn")
        train(made, tmp_path / "torn", updates=None, minutes=2.0, session=0.75)
        steps.append(made.step)
    assert steps == [3, 6, 8] and whole.step == 8
    assert equal(weights(whole), weights(made))


def test_what_else_belongs_to_the_state_comes_back(tmp_path):
    more = {"history": [(1, 0.5), (2, float("inf"))], "none": None, "best": {3: torch.arange(4)}, "empty": {}}
    made = loop(more=lambda: more)[0]
    assert made.load(tmp_path) is None
    made.save(tmp_path)
    found = made.load(tmp_path)
    assert torch.equal(found["best"].pop(3), more["best"].pop(3)) and found == more


def test_a_state_is_of_small_files_and_a_kill_leaves_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "MOST", 300_000)
    old = {"w": [torch.full((20_000,), float(i)) for i in range(9)], "half": torch.ones(3).half(), "step": 1}
    write_state(tmp_path, old)
    assert len(list(tmp_path.glob("*.safetensors"))) > 5
    assert max(file.stat().st_size for file in tmp_path.iterdir()) < 300_000
    with monkeypatch.context() as patch:
        patch.setattr(states, "write_json", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_state(tmp_path, {**old, "step": 2, "w": [t + 1 for t in old["w"]]})
    found = read_state(tmp_path)
    assert found["step"] == 1 and all(torch.equal(a, b) for a, b in zip(found["w"], old["w"], strict=True))
    assert found["half"].dtype == torch.float16
    write_state(tmp_path, {"step": 3})
    assert read_state(tmp_path) == {"step": 3} and len(list(tmp_path.iterdir())) == 1
    (tmp_path.with_suffix(".pt")).touch()
    drop_state(tmp_path)
    assert not tmp_path.exists() and not tmp_path.with_suffix(".pt").exists()


@pytest.mark.parametrize("harm", ["torn", "gone", "text", "other", "list", "another network"])
def test_a_damaged_state_is_named(tmp_path, harm):
    made = loop()[0]
    made.save(tmp_path)
    [file] = tmp_path.glob("*.safetensors")
    index = tmp_path / "state.json"
    if harm == "torn":
        file.write_bytes(file.read_bytes()[:200])
    elif harm == "gone":
        file.unlink()
    elif harm == "text":
        index.write_text("{")
    elif harm == "other":
        index.write_text('{"turn": 0, "files": [], "state": {"dict": [["step", {"tensor": "5"}]]}}')
    elif harm == "list":
        index.write_text("[1]")
    else:
        write_state(tmp_path, {**read_state(tmp_path), "weights": {"layer.weight": torch.ones(7)}})
    with pytest.raises(GuidedError, match="remove the folder to begin again") as error:
        made.load(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_state_holds_nothing_that_must_be_unpickled(tmp_path):
    with pytest.raises(GuidedError, match="a state holds a Net"):
        write_state(tmp_path, {"net": Net()})


def test_mixed_precision_is_asked_for():
    x = torch.ones(2, 2)
    with Alone(precision="bf16").autocast():
        assert (x @ x).dtype == torch.bfloat16
    with Alone().autocast():
        assert (x @ x).dtype == torch.float32
    with pytest.raises(ValueError, match="precision is 'fp8'; it is one of no, bf16"):
        Alone(precision="fp8")


PROGRAM = """
    import os, signal, sys
    from pathlib import Path
    from tests.fitting.test_loop import loop, loss_of
    made, folder = loop()[0], Path(sys.argv[1])
    made.load(folder)
    for _ in made.run(folder, updates=6):
        if made.step == 3 and len(sys.argv) > 2:
            os.kill(os.getpid(), getattr(signal, sys.argv[2]))
        made.update(loss_of(made))
    print("finished")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are other signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_waits_for_the_update_and_its_state(tmp_path, name):
    """It comes in the middle of the fourth update, which is on disk when the process ends by the signal."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "torn")]
    done = subprocess.run([*command, name], capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode in (-getattr(signal, name), 130, 1) and "finished" not in done.stdout
    assert ("KeyboardInterrupt" in done.stderr) == (name == "SIGINT")
    torn = loop()[0]
    torn.load(tmp_path / "torn")
    assert torn.step == 4
    assert equal(weights(train(torn, tmp_path / "torn")), weights(train(loop()[0], tmp_path / "whole")))
