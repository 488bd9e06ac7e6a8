"""Stable Audio's scheduler: its steps of the first order are those of the Gaussian process, on another scale."""

import importlib.util
import math
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from guided.adapters.diffusers import wrap
from guided.adapters.diffusers.levels import Levels, grid_of
from guided.adapters.diffusers.prediction import Prediction, target_of
from guided.core.gaussian import Gaussian
from guided.errors import GuidedError
from tests.adapters.diffusers.loops.cases import CASES

pytest.importorskip("diffusers")
K = 6


def scheduler(**config: Any) -> Any:
    """It draws by torchsde, which is not needed here."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("torchsde") is None:
            patch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))
        found = importlib.import_module("diffusers.schedulers.scheduling_cosine_dpmsolver_multistep")
    return found.CosineDPMSolverMultistepScheduler(solver_order=1, **config)


def set_steps(given: Any, z: torch.Tensor) -> Any:
    """The scheduler with `K` steps and this noise in each."""
    given.set_timesteps(K)
    given.noise_sampler = lambda *sigmas: z
    return given


@pytest.mark.parametrize("config", [{}, {"sigma_schedule": "karras"}, {"sigma_max": 80.0}])
def test_steps_are_the_schedulers(config: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(0)
    z, raw, x = (torch.randn(1, 3, 8, generator=draw, dtype=torch.float64) for _ in range(3))
    theirs = set_steps(scheduler(**config), z)
    levels = Levels.of(theirs)
    process = Gaussian((3, 8), *grid_of(theirs, levels, K))
    denoiser = Prediction(lambda x, t: raw, levels, target_of(theirs, levels))
    for k, t in enumerate(theirs.timesteps):
        torch.testing.assert_close(torch.tensor(process.time(k)), t)
        y = denoiser(x, torch.tensor([process.time(k)], dtype=torch.float64))
        (a_t, a_s), (s_t, s_s), std = process.alphas[k : k + 2], process.sigmas[k : k + 2], process.std(k)
        ours = a_s * y + (s_s**2 - std**2) ** 0.5 * (x - a_t * y) / s_t + std * z
        wanted = theirs.step(raw, t, x * float(1 + theirs.sigmas[k].double() ** 2) ** 0.5).prev_sample
        torch.testing.assert_close(
            ours, wanted / float(1 + theirs.sigmas[k + 1].double() ** 2) ** 0.5, rtol=2e-4, atol=1e-5
        )
        x = ours


def test_times_and_levels_are_each_others_inverse() -> None:
    levels = Levels.of(scheduler())
    t = torch.linspace(0.01, 0.999, 50, dtype=torch.float64)
    alpha, sigma = levels(t)
    torch.testing.assert_close(alpha, (t * math.pi / 2).cos().float())
    torch.testing.assert_close(sigma, (t * math.pi / 2).sin().float())
    torch.testing.assert_close(torch.from_numpy(levels.times(levels.between(t).numpy())), t)


@pytest.mark.parametrize("config", [{"sigma_data": 0.5}, {"prediction_type": "epsilon"}])
def test_another_preconditioning_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(GuidedError, match=r"has no usable grid: .* must be"):
        Levels.of(scheduler(**config))


def test_predictions_are_those_of_the_pipeline_with_its_own_scheduler() -> None:
    case = CASES["stable-audio"]
    pipeline = case.build()
    pipeline.scheduler = scheduler()
    pipeline.set_progress_bar_config(disable=True)
    seen: list[tuple[torch.Tensor, float, torch.Tensor]] = []

    def step(prediction: torch.Tensor, t: torch.Tensor, x: torch.Tensor, **options: Any) -> Any:
        k = len(seen)
        scale = float(1 + pipeline.scheduler.sigmas[k] ** 2) ** 0.5
        seen.append((x / scale, float(t), prediction))
        after = float(1 + pipeline.scheduler.sigmas[k + 1] ** 2) ** 0.5
        pipeline.scheduler._step_index = k + 1
        return type("Stepped", (), {"prev_sample": x / scale * after})

    pipeline.scheduler.step = step
    pipeline("red apple", guidance_scale=3.0, num_inference_steps=K, **case.args)
    del pipeline.scheduler.step
    model = wrap(pipeline, steps=K, pipe_args=case.args).prompted(["red apple"], 3.0)
    assert model.process.std(0) > 0
    for k, (x, t, prediction) in [*enumerate(seen)][::-1]:  # in any order
        assert model.process.time(k) == pytest.approx(t, abs=1e-6)
        time = torch.tensor([model.process.time(k)])
        raw = model.denoiser.network(x, time, **model.requests.conditions.positive)
        torch.testing.assert_close(raw, prediction, rtol=1e-4, atol=1e-4)
    model.close()
