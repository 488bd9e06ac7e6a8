"""The tiny pipelines do what real ones do: words, noise and guidance matter, and they survive a folder."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers import DiffusionPipeline
from torch import Tensor

from tests.adapters.diffusers.pipelines import FAMILIES, WORDS, build, ddim, draws, reference
from tests.adapters.diffusers.pipelines.parts import clip_tokenizer, t5_tokenizer

K = 4
PROMPTS = ["red", "cat", "dog"]
prompted = pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.guided])
every = pytest.mark.parametrize("name", FAMILIES)


def apart(a: Tensor, b: Tensor) -> float:
    """The difference of two samples relative to their spread."""
    return float((a - b).std() / a.std())


@every
def test_networks_are_tiny_and_samples_are_neither_constant_nor_huge(name: str) -> None:
    pipeline = build(name)
    sizes = [sum(w.numel() for w in c.parameters()) for c in pipeline.components.values() if hasattr(c, "parameters")]
    assert max(sizes) < 100_000
    x, noises = draws(FAMILIES[name].event, 3, K)
    run = reference(pipeline, PROMPTS, x, K, None, 0.0, noises)
    assert 0.5 < run.steps[-1].std() < 20
    assert run.images.std() > 0.1


@every
def test_a_pipeline_survives_a_folder(name: str, tmp_path: Path) -> None:
    pipeline = build(name)
    pipeline.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    x, noises = draws(FAMILIES[name].event, 2, K)
    before, after = (reference(p, PROMPTS[:2], x, K, None, 0.0, noises) for p in (pipeline, again))
    torch.testing.assert_close(after.images, before.images)


@prompted
def test_words_and_guidance_matter(name: str) -> None:
    pipeline, (x, _) = build(name), draws(FAMILIES[name].event, 1, 0)
    plain, other, guided, more = (
        reference(pipeline, [word], x, K, weight).steps[-1]
        for word, weight in (("red", None), ("dog", None), ("red", 3.0), ("red", 6.0))
    )
    for a, b in ((plain, other), (plain, guided), (guided, more)):
        assert apart(a, b) > 0.05


@pytest.mark.parametrize("name", ["sd", "sd-v", "sd2", "sdxl", "pixart", "pixart-alpha", "dit", "ddpm", "cogvideox"])
def test_the_noise_is_the_given_one(name: str) -> None:
    pipeline, (x, noises) = ddim(build(name)), draws(FAMILIES[name].event, 2, 2 * K)
    prompts = PROMPTS[:2]
    still, same, first, second = (
        reference(pipeline, prompts, x, K, None, eta, z).steps
        for eta, z in ((0.0, noises[:K]), (0.0, noises[K:]), (1.0, noises[:K]), (1.0, noises[K:]))
    )
    torch.testing.assert_close(still, same)
    assert apart(first[-1], second[-1]) > 0.05
    scheduler = pipeline.scheduler  # what is drawn at the first step is tau times the difference of the noises
    times = [int(t) for t in scheduler.timesteps]
    tau = scheduler._get_variance(times[0], times[0] - scheduler.config.num_train_timesteps // K) ** 0.5
    torch.testing.assert_close(first[0] - second[0], tau * (noises[0] - noises[K]), rtol=1e-4, atol=1e-5)


@every
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    pipeline, (x, noises) = build(name), draws(FAMILIES[name].event, 3, K)
    weight = 3.0 if FAMILIES[name].guided else None
    whole = reference(pipeline, PROMPTS, x, K, weight, 0.0, noises).steps[-1]
    alone = reference(pipeline, PROMPTS[1:2], x[1:2], K, weight, 0.0, [z[1:2] for z in noises]).steps[-1]
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-4, atol=1e-4)


def test_tokenizers_know_the_words_and_spell_others() -> None:
    for tokenizer, special in ((clip_tokenizer(), 2), (t5_tokenizer(), 1)):
        rows = tokenizer([*WORDS, "tacdog"])["input_ids"]
        assert {len(row) - special for row in rows[:-1]} == {1}
        assert len({tuple(row) for row in rows}) == len(rows)
        assert len(rows[-1]) > special + 1
        assert tokenizer.unk_token_id not in rows[-1] or tokenizer.unk_token_id == tokenizer.eos_token_id
