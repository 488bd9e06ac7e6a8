"""A training from samples to files: killed, resumed, refused, and of use."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import guided
from guided.adapters.diffusers import wrap
from guided.core.prompting import Prompting
from guided.fitting.negative import job
from guided.fitting.negative import trainer as updates
from guided.fitting.negative.dataset import Dataset
from guided.fitting.negative.dpo import FlippedDPO
from guided.fitting.negative.job import NegativeTraining, train_negative
from guided.fitting.negative.levels import training_levels
from guided.fitting.negative.self_npo import SelfNPO
from guided.fitting.state import read_state
from guided.negatives.attach import attach
from guided.negatives.weights import FULL, LORA
from tests.adapters.diffusers.pipelines.families import build
from tests.toys.small import tokens, vectors

METHOD = SelfNPO(K=4, j=1, T=8)


class Killed(Exception):
    pass


def many_a(samples):
    return [float(sample.count("A")) for sample in samples]


def to_the_right(samples):
    return [float(sample[0]) for sample in samples]


def settings(**more):
    given = {"steps": 6, "batch": 4, "n": 8, "lr": 1e-3, "batch_size": 3, "seed": 2}
    return NegativeTraining(**{**given, **more})


CASES = {
    "full": (vectors, {"method": METHOD, "prompts": ["a", "b"]}, {}),
    "lora": (vectors, {"method": METHOD, "prompts": ["a", "b"]}, {"lora": 2}),
    "masked": (tokens, {"method": METHOD}, {}),
    "dpo": (vectors, {"reward": to_the_right, "prompts": ["a", "b"]}, {"lora": 2, "n": 12}),
    "masked dpo": (tokens, {"reward": many_a}, {}),
}


def weights_in(folder):
    return folder / (LORA if (folder / LORA).exists() else FULL)


@pytest.mark.parametrize("case", CASES)
def test_a_training_that_was_killed_ends_with_the_same_bytes(case, tmp_path, monkeypatch):
    """Once while it draws samples, once after three updates, once at the end, before its files are written."""
    make, given, more = CASES[case]
    monkeypatch.setattr(updates, "SAVING", 0.0)
    train_negative(make(), tmp_path / "whole", training=settings(**more), **given)
    kills = [("samples", 3), ("updates", 3), ("updates", 6)]

    def kill(state):
        if kills and (state.stage, state.done) == kills[0]:
            kills.pop(0)
            raise Killed

    seen = []
    for _ in range(3):
        with pytest.raises(Killed):
            train_negative(make(), tmp_path / "torn", training=settings(**more), progress=kill, **given)
        assert not (tmp_path / "torn" / "README.md").exists()
    train_negative(make(), tmp_path / "torn", training=settings(**more), progress=seen.append, **given)
    assert not [state for state in seen if state.stage == "updates"]  # all were made
    assert weights_in(tmp_path / "torn").read_bytes() == weights_in(tmp_path / "whole").read_bytes()
    assert (tmp_path / "torn/history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()
    assert not (tmp_path / "torn/training").exists()


def test_a_kill_between_two_savings_loses_updates_but_changes_nothing(tmp_path, monkeypatch):
    train_negative(vectors(), tmp_path / "whole", training=settings(), method=METHOD, prompts=["a"])

    def kill(state):
        monkeypatch.setattr(updates, "SAVING", 0.0 if state.done == 2 and state.stage == "updates" else 30.0)
        if state.stage == "updates" and state.done == 5:
            raise Killed

    with pytest.raises(Killed):
        train_negative(vectors(), tmp_path / "torn", training=settings(), method=METHOD, prompts=["a"], progress=kill)
    assert read_state(tmp_path / "torn/training")["step"] == 3
    done = []
    train_negative(
        *(vectors(), tmp_path / "torn"),
        training=settings(accumulate=2),  # which is no other checkpoint
        method=METHOD,
        prompts=["a"],
        progress=lambda state: done.append((state.stage, state.done)),
    )
    assert [step for stage, step in done if stage == "updates"] == [4, 5, 6]
    one, other = (load_file(weights_in(tmp_path / name)) for name in ("whole", "torn"))
    for name, w in one.items():
        torch.testing.assert_close(w.float(), other[name].float(), rtol=1e-3, atol=1e-4)


def test_what_is_kept_is_the_running_average(tmp_path):
    def kill(state):
        if (state.stage, state.done) == ("updates", 6):
            raise Killed

    given = {"training": settings(ema=0.9, lr=0.1), "method": METHOD, "prompts": ["a"]}
    with pytest.raises(Killed):
        train_negative(vectors(), tmp_path / "a", progress=kill, **given)
    state = read_state(tmp_path / "a/training")
    train_negative(vectors(), tmp_path / "a", **given)
    for name, w in load_file(weights_in(tmp_path / "a")).items():
        assert torch.equal(w, state["average"][name].half()) and not torch.equal(w, state["weights"][name].half())


def test_pairs_are_of_one_prompt_and_have_it(tmp_path, monkeypatch):
    """Samples that are their own numbers: those of a pair have the prompt that the pair has, the better one first."""
    n, prompts, seen = 12, ["a", "b", ""], []
    rewards = torch.tensor([5.0, 1.0, 9.0, 2.0, 8.0, 4.0, 3.0, 7.0, 6.0, 0.0, 11.0, 10.0])
    dataset = Dataset(torch.arange(n).view(n, 1).expand(n, 2).float(), rewards)

    def stop(model, student, method, training, x, each, accelerator):
        seen.append((x[..., 0].long(), each))
        raise Killed

    monkeypatch.setattr(job, "draw_dataset", lambda *given: dataset)
    monkeypatch.setattr(job, "Trainer", stop)
    with pytest.raises(Killed):
        train_negative(vectors(), tmp_path / "a", reward=to_the_right, prompts=prompts, training=settings(n=n))
    pairs, each = seen[0]
    assert len(pairs) == len(each) == 6
    for (better, worse), prompt in zip(pairs.tolist(), each, strict=True):
        assert prompts[better % 3] == prompts[worse % 3] == prompt
        assert rewards[better] > rewards[worse]


SCHEDULERS = {
    "sd": ("PNDMScheduler", {"timestep_spacing": "leading", "steps_offset": 1, "skip_prk_steps": True}),
    "sdxl": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    "ddim": ("DDIMScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    "dpm": ("DPMSolverMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_with_the_schedulers_of_published_models_a_student_is_asked_at_every_time(name):
    """Also at those that a grid of so many steps would leave out, or name twice."""
    import diffusers

    kind, options = SCHEDULERS[name]
    pipeline = build("sd")
    pipeline.scheduler = getattr(diffusers, kind).from_config(pipeline.scheduler.config, **options)
    process = wrap(pipeline, steps=4).process
    for method in (SelfNPO(), FlippedDPO()):
        method.check(process)
    levels = training_levels(process, 1000)
    assert levels.times.tolist() == list(range(999, -1, -1))
    kept = pipeline.scheduler.alphas_cumprod.flip(0).double()
    torch.testing.assert_close(levels.alphas.double(), kept.sqrt(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(levels.sigmas.double(), (1 - kept).sqrt(), rtol=1e-5, atol=1e-6)


def test_a_pipeline_is_trained_with_the_letters_of_the_paper(tmp_path):
    given = {"training": NegativeTraining(steps=1, batch=2, n=2), "prompts": ["cat"], "guidance": 2.0}
    out = train_negative(wrap(build("sd"), steps=2), tmp_path / "a", **given)
    assert json.loads((out / "config.json").read_text())["metrics"]["rows"] == 2


def test_a_grid_that_there_is_not_is_told_before_anything_is_drawn(tmp_path):
    model = wrap(build("sd"), steps=2)
    given = {"training": settings(), "prompts": ["cat"], "method": SelfNPO(K=5000)}
    with pytest.raises(ValueError, match="no usable grid of 5000 steps"):
        train_negative(model, tmp_path / "a", **given)
    assert not (tmp_path / "a").exists()


def test_pinned_tokens_are_refused(tmp_path):
    model = tokens().pinned(torch.tensor([0, 3, 3, 3]))
    with pytest.raises(ValueError, match="has pinned tokens or starts from a sample; train from the model without"):
        train_negative(model, tmp_path / "a", training=settings(), method=METHOD)


def test_what_is_done_is_not_done_again(tmp_path):
    given = {"training": settings(), "method": METHOD, "prompts": ["a"]}
    train_negative(vectors(), tmp_path / "a", **given)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "a").rglob("*") if p.is_file()}
    reports = []
    assert train_negative(vectors(), tmp_path / "a", progress=reports.append, **given) == tmp_path / "a"
    assert not reports
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "a").rglob("*") if p.is_file()} == before


def test_a_folder_of_another_training_is_refused(tmp_path):
    given = {"training": settings(), "method": METHOD, "prompts": ["a"]}
    train_negative(vectors(), tmp_path / "a", **given)
    for model, changes, message in (
        (vectors(), {"training": settings(seed=3)}, "seed is 2 there and 3 here"),
        (vectors(), {"method": replace(METHOD, j=2)}, "j is 1 there and 2 here"),
        (vectors(), {"prompts": ["b"]}, "prompts"),
        (vectors(), {"guidance": 3.0}, "guidance is null there and 3.0 here"),
        (vectors(1), {}, 'name is "vectors 0" there and "vectors 1" here'),
        (vectors(1, name="vectors 0"), {}, "base.network"),
        (replace(vectors(), process=replace(vectors().process, eta=0.5)), {}, "eta is 1.0 there and 0.5 here"),
    ):
        with pytest.raises(ValueError, match="holds another negative checkpoint: ") as error:
            train_negative(model, tmp_path / "a", **{**given, **changes})
        assert message in str(error.value)
    train_negative(tokens(), tmp_path / "b", training=settings(), method=METHOD)
    warmer = replace(tokens(), process=replace(tokens().process, temperature=2.0))
    with pytest.raises(ValueError, match=r"temperature is 1\.0 there and 2\.0 here"):
        train_negative(warmer, tmp_path / "b", training=settings(), method=METHOD)


def test_the_card_says_what_it_took(tmp_path):
    out = train_negative(vectors(), tmp_path / "a", training=settings(lora=2), method=METHOD, prompts=["a", "b"])
    card = json.loads((out / "config.json").read_text())
    assert card["kind"] == "negative" and card["base"]["name"] == "vectors 0" and card["reward"] is None
    assert card["method"] == {"name": "Self-NPO", "K": 4, "j": 1, "w": 0.0, "T": 8, "loss": "huber", "c": 1e-3, "p": 0}
    assert card["training"]["lora"] == 2 and card["training"]["lr"] == 1e-3
    assert card["metrics"]["steps"] == 6 and card["metrics"]["rows"] == 24
    lines = (out / "history.csv").read_text().splitlines()
    losses = [float(line.split(",")[1]) for line in lines[1:]]
    assert lines[0] == "step,loss" and len(losses) == 6
    assert card["metrics"]["first loss"] == pytest.approx(sum(losses) / 6)
    text = (out / "README.md").read_text()
    assert "LoRA weights of rank 2" in text and "j = 1" in text and "2 prompts" in text


def test_the_samples_are_the_models_own(tmp_path):
    """Those of a run without a reward, with the same seed; each with the prompt in its turn."""
    out = train_negative(
        vectors(), tmp_path / "a", training=settings(), method=METHOD, prompts=["a", "b"], guidance=3.0
    )
    dataset = torch.cat([load_file(file)["x"] for file in sorted((out / "samples").glob("*.safetensors"))])
    run = guided.sample(vectors(), sampler="unguided", n=8, seed=2, prompt=["a", "b"] * 4, guidance=3.0)
    torch.testing.assert_close(dataset, torch.stack(list(run.samples)))


def test_half_precision_trains_lora_weights_in_single_precision(tmp_path):
    """A base in half precision stays as it is."""
    seen, make = [], updates.Trainer.__init__

    def spy(self, *given, **more):
        make(self, *given, **more)
        seen.append({w.dtype for w in self.weights.values()})

    for lora in (2, 0):
        model = vectors(dtype=torch.bfloat16)
        before = {name: w.clone() for name, w in model.network.bare.state_dict().items()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(updates.Trainer, "__init__", spy)
            out = train_negative(
                model, tmp_path / str(lora), training=settings(lora=lora), method=METHOD, prompts=["a"]
            )
        assert seen.pop() == {torch.float32}
        after = model.network.bare.state_dict()
        assert all(after[name].dtype == torch.bfloat16 and torch.equal(after[name], w) for name, w in before.items())
        assert {w.dtype for w in load_file(weights_in(out)).values()} == {torch.float16}
        both = attach(model, out)
        assert {p.dtype for p in both.network.bare.parameters()} == {torch.bfloat16}
        guided.sample(both, sampler="unguided", n=2, prompt="a", guidance=2.0)


@pytest.fixture
def fresh():
    """The state of accelerate in a new process; it has one precision for all of a process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield AcceleratorState._reset_state
    AcceleratorState._reset_state(reset_partial_state=True)


def test_mixed_precision(tmp_path, fresh):
    """The same losses up to that precision, and weights in single precision; a second one needs another process."""
    losses = []
    for precision in ("no", "bf16"):
        given = {"training": settings(precision=precision, steps=3), "method": METHOD, "prompts": ["a"]}
        out = train_negative(vectors(), tmp_path / precision, **given)
        losses.append([float(line.split(",")[1]) for line in (out / "history.csv").read_text().splitlines()[1:]])
        if precision == "no":
            given["training"] = settings(precision="bf16")
            with pytest.raises(ValueError, match="accelerate was set up for something else in this process"):
                train_negative(vectors(), tmp_path / "other", **given)
            assert not (tmp_path / "other").exists()
        fresh()
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_sheets_of_tokens(tmp_path):
    """Eight samples without the student and eight against it; without it they are always the same."""
    out = train_negative(tokens(), tmp_path / "a", training=settings(sheet=3, lr=0.1), method=METHOD)
    sheets = [file.read_text().split("\n\n") for file in sorted((out / "sheets").iterdir())]
    assert [file.name for file in sorted((out / "sheets").iterdir())] == ["000003.txt", "000006.txt"]
    assert all(len(part.splitlines()) == 9 for sheet in sheets for part in sheet)
    assert sheets[0][0] == sheets[1][0] and sheets[0][1] != sheets[1][1]
    plain = guided.sample(tokens(), sampler="unguided", n=8)
    assert sheets[0][0].splitlines()[1:] == list(plain.samples)


def test_a_pipeline_with_pictures(tmp_path):
    """LoRA weights of themselves, which its own pipeline loads; sheets; sampled against."""
    from PIL import Image

    model = wrap(build("sd"), steps=2)
    out = train_negative(
        *(model, tmp_path / "a"),
        training=NegativeTraining(steps=2, batch=2, n=2, sheet=2, lr=1e-2, ema=0.0),
        method=SelfNPO(K=3, j=1, T=10),
        prompts=["red apple", "cat"],
        guidance=2.0,
    )
    with Image.open(out / "sheets/000002.png") as page:
        assert page.size == (8 * 16, 2 * 16)
        rows = [page.crop((0, 16 * i, 8 * 16, 16 * i + 16)).tobytes() for i in (0, 1)]
    assert rows[0] != rows[1]
    weights = load_file(out / LORA)
    assert all(key.startswith("unet.") for key in weights) and any(w.abs().max() > 0 for w in weights.values())
    pipeline = build("sd")
    pipeline.load_lora_weights(out)
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([500.0])
    cond = model.prompting.conditions(["cat"])
    with torch.no_grad():
        wanted, mine = (
            wrap(pipeline, steps=2).denoiser(x, t, **cond),
            attach(model, out).prompting.negative(x, t, **cond),
        )
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


def test_flipped_dpo_is_of_use(tmp_path):
    """The student makes fewer of what the reward likes, and guidance away from it more."""
    model = tokens()
    training = NegativeTraining(steps=60, batch=16, n=96, lr=1e-2, batch_size=96, ema=0.5, warmup=0)
    out = train_negative(model, tmp_path / "a", reward=many_a, training=training)
    both = attach(model, out)
    student = replace(model, denoiser=both.prompting.negative)
    counts = [
        sum(many_a(guided.sample(m, sampler="unguided", n=300, batch_size=300, **more).samples)) / 1200
        for m, more in ((student, {}), (model, {}), (both, {"guidance": 2.0}))
    ]
    assert counts[0] < counts[1] - 0.08 and counts[2] > counts[1] + 0.08  # six standard errors


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({"network": None}, {}, "does not say which network it has: it cannot be trained"),
        ({"prompting": Prompting(dict, negative=lambda x, t, **cond: x)}, {}, "has a negative side already"),
        ({}, {"prompts": None}, "takes prompts: give some"),
        ({}, {"method": FlippedDPO()}, "needs a reward"),
        ({}, {"reward": to_the_right, "method": METHOD}, "takes no reward"),
        ({"prompting": Prompting(guidance=2.0)}, {}, "takes no prompts: it is unconditional"),
        (
            {"prompting": Prompting(guidance=2.0)},
            {"prompts": None, "guidance": 2.0},
            "takes no guidance: it is unconditional",
        ),
        ({}, {"reward": "no such reward", "method": None}, "no such reward"),
        ({}, {"reward": lambda samples: [1.0] * len(samples), "method": None}, "no two of the 8 samples"),
    ],
)
def test_what_cannot_be_trained(change, given, message, tmp_path):
    model = replace(vectors(), **change)
    with pytest.raises(ValueError, match=message):
        train_negative(model, tmp_path / "a", **{"training": settings(), "method": METHOD, "prompts": ["a"], **given})


def test_a_kill_between_a_state_and_its_sheet_loses_no_sheet(tmp_path, monkeypatch):
    monkeypatch.setattr(updates, "SAVING", 0.0)
    given = {"method": METHOD, "training": settings(steps=4, sheet=2)}
    train_negative(tokens(), tmp_path / "whole", **given)

    write, calls = job.write_sheet, iter([False, True, False, True])

    def killed(*arguments):
        if not next(calls):
            raise Killed
        write(*arguments)

    monkeypatch.setattr(job, "write_sheet", killed)
    for _ in range(2):  # before either sheet
        with pytest.raises(Killed):
            train_negative(tokens(), tmp_path / "torn", **given)
    train_negative(tokens(), tmp_path / "torn", **given)
    names = ["000002.txt", "000004.txt"]
    for folder in ("whole", "torn"):
        assert sorted(file.name for file in (tmp_path / folder / "sheets").iterdir()) == names
    for name in names:
        assert (tmp_path / "torn/sheets" / name).read_bytes() == (tmp_path / "whole/sheets" / name).read_bytes()
