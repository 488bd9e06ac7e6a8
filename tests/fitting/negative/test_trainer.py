"""Updates: what each row draws, and that neither parts, processes nor a kill change what is learned."""

import json
import threading
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from guided.core.random import Streams
from guided.fitting.negative.dpo import FlippedDPO
from guided.fitting.negative.job import NegativeTraining
from guided.fitting.negative.self_npo import SelfNPO
from guided.fitting.negative.trainer import Trainer, conditions, student_of, teacher_of
from tests.toys.small import tokens, vectors

METHOD = SelfNPO(K=4, j=1, T=8)


class Alone:
    """What the trainer takes of accelerate, in one process."""

    process_index, num_processes, is_main_process, device = 0, 1, True, torch.device("cpu")
    scaler = None

    def prepare(self, optimizer):
        return optimizer

    def backward(self, loss):
        loss.backward()

    def clip_grad_norm_(self, weights, bound):
        return nn.utils.clip_grad_norm_(weights, bound)

    def autocast(self):
        return torch.autocast("cpu", enabled=False)

    def reduce(self, tensor, how):
        assert how == "sum"
        return tensor


class Together(Alone):
    """One of several processes, which are threads here."""

    def __init__(self, index, slots, barrier):
        self.process_index, self.num_processes, self.is_main_process = index, len(slots), index == 0
        self.slots, self.barrier = slots, barrier

    def reduce(self, tensor, how):
        self.slots[self.process_index] = tensor
        self.barrier.wait()
        total = sum(self.slots)
        self.barrier.wait()
        return total


def trainer(model, accelerator=None, method=METHOD, n=12, **settings):
    training = NegativeTraining(**{"steps": 5, "batch": 6, "lr": 2e-3, "warmup": 2, "seed": 3, **settings})
    generator = torch.Generator().manual_seed(0)
    event = model.process.event
    x = torch.randint(0, 3, (n, 4), generator=generator) if model.process.tokens else None
    x = torch.randn(n, *event, generator=generator) if x is None else x
    prompts = [None] * n if not model.prompting.conditional else ["ab"[i % 2] for i in range(n)]
    run = Trainer(model, student_of(model, training), method, training, x, prompts, accelerator or Alone())
    for group in run.loop.optimizers[0].param_groups:
        group["eps"] = 1e-3  # or else a gradient that is 0 but for rounding moves a weight as far as any other
    return run


def together(make, folder, processes=2):
    """Runs what `make` makes of each of several accelerators, at once."""
    slots, barrier = [None] * processes, threading.Barrier(processes, timeout=60)
    trainers = [make(Together(i, slots, barrier)) for i in range(processes)]
    errors = []

    def run(i):
        try:
            trainers[i].run(folder / "training")
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return trainers


def weights_of(trainer):
    return {name: p.detach().clone() for name, p in trainer.weights.items()}


def close(one, other, atol=1e-5):
    for name, w in weights_of(one).items():
        torch.testing.assert_close(w, other.weights[name], rtol=0, atol=atol)
        torch.testing.assert_close(one.average[name], other.average[name], rtol=0, atol=atol)
    losses = [[loss for _, loss in run.history] for run in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


MODELS = {"vectors": vectors, "tokens": tokens}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("lora", [0, 2])
def test_parts_and_processes_change_nothing_but_rounding(kind, lora, tmp_path):
    start = trainer(MODELS[kind](), lora=lora)
    before = weights_of(start)
    start.run(tmp_path / "one")
    moved = max(float((w - before[name]).abs().max()) for name, w in weights_of(start).items())
    assert moved > 1e-3
    parts = trainer(MODELS[kind](), lora=lora, accumulate=3)
    parts.run(tmp_path / "parts")
    close(start, parts)
    for run in together(lambda a: trainer(MODELS[kind](), a, lora=lora, accumulate=2), tmp_path):
        close(start, run)


def test_more_processes_than_rows(tmp_path):
    """One that has no rows takes part with gradients of 0."""
    start = trainer(vectors(), batch=2)
    start.run(tmp_path / "one")
    for run in together(lambda a: trainer(vectors(), a, batch=2), tmp_path, 3):
        close(start, run)


class Recorder:
    """A method that notes what each row was given."""

    w, pairs = 1.0, False

    def __init__(self):
        self.rows, self.lock = [], threading.Lock()

    def losses(self, process, student, teacher, x, cond, streams):
        drawn = streams.normal(2)
        with self.lock:
            self.rows += [tuple(row) for row in torch.cat([x, cond.positive["c"], drawn], 1).tolist()]
        return student(x, drawn[:, 0], c=cond.positive["c"]).square().mean(1)


def test_what_a_row_draws_depends_on_the_seed_the_step_and_its_own_number(tmp_path):
    """Not on the parts of a batch, on processes, on the batch's other rows or on a resumption."""
    runs = {}
    for name, settings in {"one": {}, "parts": {"accumulate": 4}, "seed": {"seed": 4}}.items():
        method = Recorder()
        trainer(vectors(), method=method, n=5, **settings).run(tmp_path / name)
        runs[name] = method.rows
    method = Recorder()
    together(lambda a: trainer(vectors(), a, method=method, n=5), tmp_path)
    assert runs["parts"] == runs["one"] and sorted(method.rows) == sorted(runs["one"])
    assert len(set(runs["one"])) == 5 * 6  # each has numbers of its own
    assert not {row[-2:] for row in runs["seed"]} & {row[-2:] for row in runs["one"]}
    assert len({row[:2] for row in runs["one"]}) == 5  # every clean row comes up
    prompts = {row[:2]: row[2] for row in runs["one"]}
    assert all(prompts[row[:2]] == row[2] for row in runs["one"])  # with its own prompt


def test_rows_are_drawn_uniformly(tmp_path):
    method = Recorder()
    trainer(vectors(), method=method, n=4, steps=2, batch=2000).run(tmp_path / "training")
    counts = torch.tensor([sum(row[0] == x for row in method.rows) for x in {row[0] for row in method.rows}])
    assert len(counts) == 4
    assert ((counts - 1000).abs() < 4.5 * (4000 * 0.25 * 0.75) ** 0.5).all()


@pytest.mark.parametrize("ema", [0.0, 0.5, 0.99])
def test_the_average_is_the_exponential_one_with_a_warm_start(ema, tmp_path):
    """Its decay is min(ema, (1 + u) / (10 + u)) after update u, and 0 keeps the last weights."""
    run, seen = trainer(vectors(), ema=ema), []
    wanted = weights_of(run)
    run.run(tmp_path / "training", lambda step, loss: seen.append(weights_of(run)))
    for u, weights in enumerate(seen, 1):
        decay = min(ema, (1 + u) / (10 + u))
        wanted = {name: decay * mean + (1 - decay) * weights[name] for name, mean in wanted.items()}
    for name, mean in wanted.items():
        torch.testing.assert_close(run.average[name], mean, rtol=1e-5, atol=1e-6)
    assert ema or all(torch.equal(run.average[name], w) for name, w in seen[-1].items())
    kept = dict(run.averaged().named_parameters())
    assert all(torch.equal(kept[name], mean) for name, mean in run.average.items())


def test_the_rate_grows_and_the_progress_is_told(tmp_path):
    run, rates, reports = trainer(vectors(), warmup=3, lr=0.4), [], []

    def progress(step, loss):
        rates.append(run.loop.optimizers[0].param_groups[0]["lr"])
        reports.append((step, loss))

    run.run(tmp_path / "training", progress)
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    losses = [loss for _, loss in run.history]
    assert reports == [(u, pytest.approx(sum(losses[:u]) / u)) for u in range(1, 6)]


def test_the_gradient_is_clipped(tmp_path):
    """Of plain gradient descent a step is at most lr clip long."""
    run = trainer(vectors(), clip=1e-3, steps=1, warmup=0, lr=1.0)
    run.loop.optimizers = [torch.optim.SGD(list(run.weights.values()), 1.0)]
    before = weights_of(run)
    run.run(tmp_path / "training")
    length = sum((w - before[name]).square().sum() for name, w in weights_of(run).items()).sqrt()
    assert float(length) == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    class Broken(Recorder):
        def losses(self, *given):
            return super().losses(*given) / 0.0

    with pytest.raises(ValueError, match="the loss is not finite at update 0"):
        trainer(vectors(), method=Broken()).run(tmp_path / "training")


def test_a_training_does_not_draw_the_numbers_that_its_samples_were_drawn_by(tmp_path):
    class Listener(Recorder):
        def losses(self, process, student, teacher, x, cond, streams):
            drawn.append(streams.uniform(4))
            return super().losses(process, student, teacher, x, cond, streams)

    drawn: list[torch.Tensor] = []
    run = trainer(vectors(), method=Listener(), steps=1)
    run.run(tmp_path / "training")
    of_samples = Streams(run.training.seed, range(run.training.batch))
    of_samples.uniform()  # what chose the rows
    assert not (drawn[0] == of_samples.uniform(4)).any()


@pytest.mark.parametrize("w", [0.0, 1.0, 0.3, -1.0])
def test_the_teacher_is_guided(w):
    """y_- + w (y_+ - y_-); at 0 and 1 one side is all that is asked."""
    model = vectors()
    x, t = torch.randn(3, 2), torch.rand(3)
    cond = conditions(model, ["a", "b", "a"])
    assert cond.positive["c"].tolist() == [[1], [-1], [1]] and cond.negative["c"].tolist() == [[0]] * 3
    plus, minus = (model.denoiser(x, t, **side) for side in (cond.positive, cond.negative))
    torch.testing.assert_close(cond.ask(teacher_of(model, w), x, t), minus + w * (plus - minus))
    plain = vectors(conditional=False)
    assert torch.equal(teacher_of(plain, w)(x, t), plain.denoiser(x, t))


def test_the_student_begins_as_the_model_and_leaves_it_alone(tmp_path):
    model, (x, t, c) = vectors(), (torch.randn(3, 2), torch.rand(3), torch.ones(3, 1))
    before = model.denoiser(x, t, c=c)
    for lora in (0, 2):
        run = trainer(model, lora=lora)
        assert torch.equal(run.student(x, t, c), before)
        run.run(tmp_path / str(lora))
        assert torch.equal(model.denoiser(x, t, c=c), before)
        assert not torch.allclose(run.student(x, t, c), before, atol=1e-5)
        assert all(p.grad is None for p in model.network.bare.parameters())


def test_a_student_forgets_its_prompt_where_samples_do_not_depend_on_it(tmp_path):
    """The teacher gets no prompt, so that the prompt says nothing about the target beyond what the state does."""
    model, method = vectors(), SelfNPO(K=4, j=1, T=8, loss="squared")
    run = trainer(model, method=method, n=512, steps=150, batch=48, lr=1e-2)
    x, t = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), torch.full((200,), 0.75)

    def said(net):
        with torch.no_grad():
            plus, minus = (net(x, t, torch.full((200, 1), c)) for c in (1.0, -1.0))
        return (plus - minus).square().mean()

    before = said(run.student)
    run.run(tmp_path / "training")
    assert said(run.student) < 0.1 * before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"n": 1}, "n is 1"),
        ({"lora": -1}, "lora is -1"),
        ({"seed": True}, "seed is True"),
        ({"lr": 0.0}, "lr is 0"),
        ({"clip": float("nan")}, "clip is nan"),
        ({"ema": 1.0}, "ema is 1"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"precision": "fp8"}, "precision is 'fp8'; it is one of no, bf16, fp16"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message):
        NegativeTraining(**setting)


def test_rates_and_ranks_of_themselves():
    """LoRA weights on a pipeline only; masked models are small and learn faster."""
    of = NegativeTraining()
    assert (of.rank(vectors()), of.rate(vectors()), of.rate(tokens())) == (0, 1e-6, 1e-4)
    assert NegativeTraining(lora=4).rate(vectors()) == 1e-4 and NegativeTraining(lr=3e-4).rate(tokens()) == 3e-4


def test_numbers_of_other_libraries_are_pythons_own():
    """As they come out of arrays; the card is JSON."""
    given = NegativeTraining(steps=np.int64(3), lr=np.float32(0.5), n=torch.tensor(4), ema=np.float64(0.5))
    assert json.loads(json.dumps(asdict(given)))["steps"] == 3 and type(given.lr) is float
    assert json.dumps(asdict(SelfNPO(K=np.int64(4), w=torch.tensor(0.5)))).startswith('{"K": 4, "j": 5, "w": 0.5')
    assert json.dumps(asdict(FlippedDPO(beta=np.float32(2))))[:12] == '{"beta": 2.0'
