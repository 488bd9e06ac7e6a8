"""What only a GPU can show; nothing here runs without one."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import guided
from guided.core.monitor import Monitor
from guided.core.random import Streams
from guided.samplers import SVDD, samplers
from guided.scoring.objective import resolve_reward
from guided.values.posterior_mean import PosteriorMean

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
CUDA = "cuda:0"
CASES = [
    ("dna", "activity", "HepG2"),
    ("rna", "gc", None),
    ("molecules", "qed", None),
    ("molecules_selfies", "qed", None),
    ("images", "brightness", "red apple"),
]


def test_uniform_numbers_are_numpys_to_the_bit():
    there, here = (Streams(5, range(7), torch.device(device)) for device in (CUDA, "cpu"))
    for n in (1, 3, 1000):
        assert torch.equal(there.uniform(n).cpu(), here.uniform(n))
        torch.testing.assert_close(there.gumbel(n).cpu(), here.gumbel(n), atol=1e-5, rtol=1e-6)
        assert torch.equal(there.normal(n).cpu(), here.normal(n))


@pytest.mark.parametrize(("name", "reward", "prompt"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shipped_models_draw_the_same_twice(name, reward, prompt, dtype):
    model = guided.load(name, device=CUDA, dtype=dtype, steps=6)
    runs = [guided.sample(model, reward, SVDD(3), n=3, prompt=prompt, seed=2, batch_size=2) for _ in range(2)]
    one, other = ([np.asarray(sample) for sample in run.samples] for run in runs)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert runs[0].rewards.isfinite().all()


@pytest.mark.parametrize(("name", "reward", "prompt"), CASES[:4])
def test_tokens_are_those_of_a_cpu(name, reward, prompt):
    """But for a choice that rounding decides, which is rare."""
    here, there = (
        guided.sample(
            guided.load(name, device=device, steps=16), reward, SVDD(4), n=16, prompt=prompt, seed=1, batch_size=16
        ).samples
        for device in ("cpu", CUDA)
    )
    assert sum(a == b for a, b in zip(here, there, strict=True)) >= 14


@pytest.mark.parametrize("name", sorted(samplers()))
def test_each_sampler_runs_on_a_gpu(name):
    model = guided.load("images" if name == "dps" else "dna", device=CUDA, steps=8)
    smooth = {"dps": "brightness", "tds": "activity?target=K562", "classifier-guidance": "activity?target=K562"}
    reward = None if name == "unguided" else smooth.get(name, "gc")
    runs = [guided.sample(model, reward, name, n=2, seed=3) for _ in range(2)]
    if name == "dps":  # torch adds up the gradients of attention in no fixed order
        one, other = (np.stack([np.asarray(image, float) for image in run.samples]) for run in runs)
        assert np.abs(one - other).mean() < 2
    else:
        assert list(runs[0].samples) == list(runs[1].samples)


@pytest.mark.parametrize("how", ["default", "graph"])
def test_compiled_networks_draw_the_same_twice(how):
    model = guided.load("dna", device=CUDA, dtype="bfloat16", steps=6, compile=how)
    one, other = (guided.sample(model, "gc", SVDD(3), n=3, prompt="HepG2", seed=2) for _ in range(2))
    assert list(one.samples) == list(other.samples)


@pytest.mark.parametrize(("name", "reward", "prompt"), [CASES[0], CASES[4]])
def test_a_step_waits_at_most_four_times(name, reward, prompt):
    """Counted by the profiler, after a first run that compiles and fills caches; the end of a run waits, too."""
    K, B = 12, 4
    model = guided.load(name, device=CUDA, steps=K).prompted([prompt] * B)
    value = PosteriorMean(resolve_reward(reward))

    def run():
        with torch.no_grad():
            SVDD(3)(model.with_requests(monitor=Monitor()), value, Streams(1, range(B), torch.device(CUDA)))
        torch.cuda.synchronize()

    run()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run()
    waits = sum(event.count for event in profiler.key_averages() if event.key == "cudaStreamSynchronize")
    assert waits <= 4 * K + 12


def test_a_value_is_fitted_on_a_gpu(tmp_path):
    model = guided.load("dna", device=CUDA, steps=8)
    value = guided.fit_value(model, "gc", n=32, updates=20, out=tmp_path / "value", seed=0)
    run = guided.sample(model, "gc", SVDD(3), n=2, value=value, seed=1)
    assert run.rewards.isfinite().all()
