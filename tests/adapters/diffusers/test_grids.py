"""Grids and noise levels: those of the scheduler, whatever its options."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import guided
from guided.adapters.diffusers import wrap
from guided.adapters.diffusers.solvers import solver_of
from guided.errors import GuidedError
from tests.adapters.diffusers.pipelines import build
from tests.adapters.diffusers.pipelines.parity import K, compare, expected, posed, rescheduled, solved, wrapped

diffusers = pytest.importorskip("diffusers")

SCHEDULES = [
    ("sd-v", "ddim", {"timestep_spacing": "leading"}),
    ("sd-v", "ddim", {"rescale_betas_zero_snr": False, "set_alpha_to_one": False}),
    ("sd-v", "ddim", {"prediction_type": "sample"}),
    ("sdxl", "euler", {"timestep_spacing": "linspace"}),
    ("sdxl", "euler", {"timestep_spacing": "trailing", "steps_offset": 0}),
    ("sdxl", "euler", {"beta_schedule": "linear", "prediction_type": "v_prediction"}),
    ("pixart", "dpm", {"timestep_spacing": "trailing"}),
    ("pixart", "dpm", {"timestep_spacing": "leading", "steps_offset": 1}),
    ("pixart", "dpm", {"final_sigmas_type": "sigma_min"}),
    ("sd3", "flow", {"shift": 1.0}),
    ("sd3", "flow", {"shift": 6.0}),
    ("sd3", "flow", {"use_dynamic_shifting": True, "base_shift": 0.7}),
    ("sd3", "flow", {"use_karras_sigmas": True}),
    ("sd3", "flow", {"use_exponential_sigmas": True}),
    ("flux", "flow", {"use_dynamic_shifting": False}),
    ("flux", "flow", {"time_shift_type": "linear"}),
    ("flux", "flow", {"shift_terminal": 0.1}),
    ("cogvideox", "ddim", {"snr_shift_scale": 1.0}),
]


@pytest.mark.parametrize(("name", "solver", "changes"), SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_other_schedules(name: str, solver: str, changes: dict[str, Any], eta: float) -> None:
    ours, theirs = rescheduled(name, changes), rescheduled(name, changes)
    model = posed(wrapped(ours, name, eta=eta), name, 2, 3.0)
    compare(model, expected(model, solved(theirs, solver, eta), name, 2, 3.0))


def test_the_second_scheduler_of_cogvideox() -> None:
    ours, theirs = (rescheduled("cogvideox", {}, diffusers.CogVideoXDPMScheduler) for _ in range(2))
    model = posed(wrapped(ours, "cogvideox", eta=1.0), "cogvideox", 2, 3.0)
    compare(model, expected(model, solved(theirs, "ddim", 1.0), "cogvideox", 2, 3.0))


@pytest.mark.parametrize("changes", [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}])
def test_sigmas_between_the_times(changes: dict[str, Any]) -> None:
    model = posed(wrapped(rescheduled("sdxl", changes), "sdxl", eta=0.0), "sdxl", 2, 3.0)
    compare(model, expected(model, rescheduled("sdxl", changes), "sdxl", 2, 3.0))


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [3, 7])
def test_steps_that_do_not_divide_the_times(spacing: str, steps: int) -> None:
    pipeline = rescheduled("ddpm", {"timestep_spacing": spacing})
    model = wrap(pipeline, eta=1.0, steps=steps)
    compare(model, expected(model, pipeline, "ddpm", 2, None))


GRIDS = [
    (diffusers.DDIMScheduler, {"timestep_spacing": spacing, "steps_offset": offset, "set_alpha_to_one": True})
    for spacing, offset in (("leading", 1), ("trailing", 0), ("linspace", 0))
] + [
    (kind, changes)
    for kind in (
        diffusers.EulerDiscreteScheduler,
        diffusers.DPMSolverMultistepScheduler,
        diffusers.UniPCMultistepScheduler,
    )
    for changes in (
        {"timestep_spacing": "leading", "steps_offset": 1},
        {"timestep_spacing": "trailing"},
        {"timestep_spacing": "linspace"},
        {"use_karras_sigmas": True},
    )
]


@pytest.mark.parametrize(("kind", "changes"), GRIDS)
@pytest.mark.parametrize("steps", [1, 4, 11, 50])
def test_the_grid_is_that_of_the_scheduler(kind: Any, changes: dict[str, Any], steps: int) -> None:
    pipeline = rescheduled("sd", changes, kind)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(steps)
    if scheduler.timesteps[0] < 100:  # as of leading and linspace with one step
        with pytest.raises(ValueError, match="less noise than data"):
            wrap(pipeline, steps=steps)
        return
    process: Any = wrap(pipeline, steps=2).with_steps(steps).process
    times = scheduler.timesteps.double()
    assert process.steps == steps == len(times)
    torch.testing.assert_close(torch.tensor(process.times[:-1]).double(), times, rtol=0, atol=0.51)  # some round them
    if changes.get("use_karras_sigmas"):
        ratios = scheduler.sigmas.double()
    else:
        assert list(process.times[:-1]) == times.tolist() or times.frac().any()
        kept = torch.from_numpy(np.interp(times, np.arange(1000), ((1 / scheduler.alphas_cumprod) - 1).sqrt()))
        last = getattr(scheduler, "final_alpha_cumprod", torch.ones(()))
        ratios = torch.cat([kept, (1 / last.double() - 1).sqrt()[None]])
    torch.testing.assert_close(torch.tensor(process.ratios).double(), ratios, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [diffusers.DPMSolverMultistepScheduler, diffusers.UniPCMultistepScheduler])
def test_the_grid_of_a_flow_keeps_the_fractions_that_solvers_drop(kind: Any) -> None:
    changes = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 2.0}
    pipeline = rescheduled("pixart", changes, kind)
    process: Any = wrap(pipeline, steps=K).process
    pipeline.scheduler.set_timesteps(K)
    sigmas = pipeline.scheduler.sigmas.double()
    torch.testing.assert_close(torch.tensor(process.sigmas).double(), sigmas, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.tensor(process.alphas).double(), 1 - sigmas, rtol=0, atol=1e-6)
    behind = torch.tensor(process.times[:-1]) - pipeline.scheduler.timesteps
    assert behind.min() >= 0
    assert behind.max() < 1


@pytest.mark.parametrize("loop", [False, True])
def test_a_solver_whose_steps_are_not_taken_is_named(loop: bool) -> None:
    """Unless somebody has said which share of noise the steps have."""
    with pytest.warns(UserWarning, match=r"^PNDMScheduler takes each step .*\(eta=1\); give eta.*DDIMScheduler$"):
        model = wrap(build("sd"), steps=K, loop=loop)
    assert model.process.eta == 1  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        wrap(build("sd"), steps=K, loop=loop, eta=1)
        wrap(build("sd-v"), steps=K, loop=loop)
        wrap(build("sd3"), steps=K, loop=loop)


FIRST, FLOW = {"solver_order": 1}, {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize(
    ("kind", "config", "reason"),
    [
        ("DDIMScheduler", {}, ""),
        ("DDPMScheduler", {}, ""),
        ("EulerDiscreteScheduler", {}, ""),
        ("EulerAncestralDiscreteScheduler", {}, ""),
        ("FlowMatchEulerDiscreteScheduler", {}, ""),
        ("LCMScheduler", {}, ""),
        ("PNDMScheduler", {}, "several predictions"),
        ("LMSDiscreteScheduler", {}, "several predictions"),
        ("DEISMultistepScheduler", {}, "several predictions"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "several predictions"),
        ("DPMSolverMultistepScheduler", FIRST, ""),
        ("DPMSolverSinglestepScheduler", {}, "several predictions"),
        ("UniPCMultistepScheduler", FLOW, "several predictions"),
        ("UniPCMultistepScheduler", FIRST, "several predictions"),
        ("CogVideoXDPMScheduler", {}, "several predictions"),
    ],
)
def test_the_steps_of_a_scheduler(kind: str, config: dict[str, Any], reason: str) -> None:
    found = solver_of(getattr(diffusers, kind)(**config))
    assert reason in found and bool(reason) == bool(found)


def test_a_solver_that_is_asked_for_by_name_is_refused(tmp_path: Path) -> None:
    build("sd-v").save_pretrained(tmp_path)
    load: Any = lambda **options: guided.load(tmp_path, device="cpu", steps=5, **options)  # noqa: E731
    for scheduler in (
        "DPMSolverMultistepScheduler",
        {"class": "UniPCMultistepScheduler", "timestep_spacing": "trailing"},
    ):
        with pytest.raises(
            GuidedError, match=r"several predictions, and candidates branch; give eta.*as DDIMScheduler"
        ):
            load(scheduler=scheduler)
        assert load(scheduler=scheduler, eta=0.5).process.eta == 0.5
    load(scheduler={"class": "DPMSolverMultistepScheduler", "solver_order": 1})


def test_the_command_line_says_so_in_a_note(guided: Any, tmp_path: Path) -> None:
    build("sd").save_pretrained(tmp_path / "sd")
    words = ("--sampler", "unguided", "-n", 1, "--steps", 2, "--prompt", "red cat", "--no-report", "--out")
    code, _, err = guided("sample", tmp_path / "sd", *words, tmp_path / "run")
    assert code == 0 and "note: PNDMScheduler takes each step from several predictions" in err
    code, _, err = guided("sample", f"{tmp_path / 'sd'}?eta=1", *words, tmp_path / "other")
    assert code == 0 and "note: " not in err
