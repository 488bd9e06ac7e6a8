"""Loops in threads: they end with the run, an error or an interrupt, and what cannot be a denoiser says why."""

import gc
import re
import threading
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

import guided
from guided.adapters.diffusers import wrap
from guided.core.gradient import check_gradients
from guided.errors import GuidedError
from guided.negatives.attach import attach
from guided.samplers import SVDD
from tests.adapters.diffusers.loops.cases import CASES, picture
from tests.adapters.diffusers.pipelines import build, ddim
from tests.adapters.diffusers.pipelines.parts import autoencoder


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pipeline"]


def bright(samples: Any) -> list[float]:
    return [float(sample.convert("L").resize((1, 1)).getpixel((0, 0))) for sample in samples]


def model(**options: Any) -> Any:
    return wrap(ddim(build("sd")), loop=True, steps=3, **options)


def draw(given: Any, **options: Any) -> Any:
    return guided.sample(given, bright, SVDD(M=2), **{"n": 2, "prompt": "cat", "guidance": 3.0, **options})


def test_loops_end_with_the_run_and_the_cost_is_exact() -> None:
    run = draw(model())
    assert run.stats.network_rows == 2 * (2 + 2 * 2 * 2)  # both sides of B + B M (K - 1)
    assert running() == []


def test_samples_are_those_of_the_family() -> None:
    pipeline = ddim(build("sd"))
    ours, theirs = (draw(wrap(pipeline, loop=loop, steps=3)) for loop in (True, False))
    for a, b in zip(ours.samples, theirs.samples, strict=True):
        apart = torch.tensor(list(a.tobytes())).int() - torch.tensor(list(b.tobytes())).int()
        assert apart.abs().max() <= 1


def test_a_loop_that_nobody_holds_ends() -> None:
    given = model().prompted(["cat"], 3.0)
    given.denoiser(torch.zeros(1, 4, 8, 8), torch.tensor([999.0]))
    assert len(running()) == 1
    del given
    gc.collect()
    assert running() == []


@pytest.mark.parametrize("error", [ZeroDivisionError("of the network"), KeyboardInterrupt()])
def test_an_error_in_the_pipeline_is_the_runs_and_ends_it(error: BaseException) -> None:
    given, calls = model(), []

    def fail(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise error

    hook = given.network.module.register_forward_pre_hook(fail)
    with pytest.raises(type(error), match=str(error)):
        draw(given)
    hook.remove()
    assert running() == []
    assert len(draw(given).samples) == 2


def test_finished_samples_are_kept(tmp_path: Path) -> None:
    calls: list[int] = []

    def late(samples: Any) -> list[float]:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return bright(samples)

    with pytest.raises(KeyboardInterrupt):
        guided.sample(model(), late, SVDD(M=2), n=4, batch_size=1, prompt="cat", out=tmp_path / "run")
    assert running() == []
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) >= 1


def test_out_of_memory_makes_micro_batches_smaller() -> None:
    given, sizes = model(micro_batch=4), []

    def full(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 4:  # guided rows are two
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = given.network.module.register_forward_pre_hook(full, with_kwargs=True)
    assert len(draw(given, n=4).samples) == 4
    hook.remove()
    assert max(sizes) > 4 and sizes[-1] <= 4
    assert running() == []


def odd(change: Any) -> Any:
    """A pipeline of a class of its own, on the parts of a tiny one."""
    base = ddim(build("sd"))
    kind = type("Odd", (type(base),), {"__call__": change, "__module__": __name__})
    return kind(**base.components, requires_safety_checker=False)


def never(self: Any, prompt: str = "", num_inference_steps: int = 3, latents: Any = None) -> None:
    self.scheduler.set_timesteps(num_inference_steps)
    for t in self.scheduler.timesteps:
        latents = t if latents is None else latents


def native(self: Any, prompt: str = "", num_inference_steps: int = 3, num_images_per_prompt: int = 1) -> None:
    self.scheduler.set_timesteps(num_inference_steps)
    x = torch.zeros(num_images_per_prompt, 4, 8, 8)
    for i in range(num_inference_steps):
        x = self.scheduler.step(x, self.scheduler.timesteps[i], x)[0]


def twice(self: Any, prompt: str = "", num_inference_steps: int = 3, num_images_per_prompt: int = 1) -> None:
    self.scheduler.set_timesteps(num_inference_steps)
    x = torch.zeros(num_images_per_prompt, 4, 8, 8)
    for t in self.scheduler.timesteps:
        x = self.scheduler.step(x, t, x)[0]
        x = self.scheduler.step(x, t, x)[0]


def turns(self: Any, prompt: str = "", num_inference_steps: int = 3, num_images_per_prompt: int = 1) -> None:
    self.scheduler.set_timesteps(num_inference_steps)
    x, asked = torch.ones(num_images_per_prompt, 4, 8, 8), []
    for t in self.scheduler.timesteps:
        asked.append(t)
        x = self.scheduler.step(x * len(asked), t, x)[0]


def moves(self: Any, prompt: str = "", num_inference_steps: int = 3, num_images_per_prompt: int = 1) -> None:
    self.scheduler.set_timesteps(num_inference_steps)
    x = torch.ones(num_images_per_prompt, 4, 8, 8)
    for t in self.scheduler.timesteps:
        x = self.scheduler.step(x, t, x)[0] + 1


def mixes(self: Any, prompt: str = "", num_inference_steps: int = 3, num_images_per_prompt: int = 1) -> None:
    self.scheduler.set_timesteps(num_inference_steps)
    x = torch.ones(num_images_per_prompt, 4, 8, 8)
    for t in self.scheduler.timesteps:
        x = self.scheduler.step(x - x.mean(0), t, x)[0]


def late(self: Any, prompt: str = "", num_inference_steps: int = 3, num_images_per_prompt: int = 1) -> None:
    self.scheduler.set_timesteps(num_inference_steps)
    x, kept = torch.ones(num_images_per_prompt, 4, 8, 8), torch.tensor(0.0)
    for i, t in enumerate(self.scheduler.timesteps):
        kept = kept + 1 if i > 1 else kept
        x = self.scheduler.step(x + kept, t, x)[0]


def doubles(self: Any, prompt: str = "", num_inference_steps: int = 3, num_images_per_prompt: int = 1) -> None:
    self.scheduler.set_timesteps(num_inference_steps)
    x = torch.ones(2, 4, 8, 8)
    for t in self.scheduler.timesteps:
        x = torch.cat([x[:1], x[:1]])  # with and without a condition
        x = self.scheduler.step(x, t, x)[0]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (never, "does not call the scheduler's step"),
        (native, "does not run over the times of its scheduler"),
        (twice, "several times at one time"),
        (turns, "predicts something else"),
        (late, "predicts something else"),
        (mixes, "from row to row"),
        (doubles, "changes its latents between the steps"),
        (moves, "changes its latents between the steps"),
    ],
)
def test_what_cannot_be_a_denoiser_says_why(call: Any, reason: str) -> None:
    with pytest.raises(GuidedError, match=f"Odd cannot be a model by its own loop: .*{reason}"):
        wrap(odd(call), loop=True, steps=3)
    assert running() == []


def test_a_scheduler_without_a_grid_names_one_that_has() -> None:
    pipeline = build("sd")
    pipeline.scheduler = diffusers.HeunDiscreteScheduler.from_config(pipeline.scheduler.config)
    with pytest.raises(GuidedError, match=r"HeunDiscreteScheduler has no usable grid.*DDIMScheduler"):
        wrap(pipeline, loop=True, steps=3)


def test_without_noise_there_are_no_candidates_to_choose_from() -> None:
    with pytest.raises(GuidedError, match="eta = 0: a deterministic step makes equal candidates"):
        draw(model(eta=0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipe_args": {"guidance_rescal": 1}}, "no argument 'guidance_rescal' (did you mean 'guidance_rescale'?)"),
        ({"pipe_args": {"latents": 1}}, "noise is drawn by the run"),
        ({"pipe_args": {"clip_skip": "two"}}, "is given clip_skip 'two' by pipe_args; it must be a whole number"),
        ({"pipe_args": {"cross_attention_kwargs": [1]}}, "is given cross_attention_kwargs a list by pipe_args"),
        ({"pipe_args": 3}, "it must be a mapping"),
        ({"pipe_args": {"height": 16}, "height": 16}, "height is given twice"),
        ({"frames": 3}, "takes no num_frames"),
        ({"distilled": 3.0}, "has no option 'distilled'"),
        ({"lookahead": 2.0}, "as a factor it must be above 0"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GuidedError, match=re.escape(message)):
        model(**options)


def test_guidance_that_would_be_set_over_is_refused() -> None:
    given = model(pipe_args={"guidance_scale": 4.0, "guidance_rescale": 0.5})
    assert given.prompted(["cat"]).requests.conditions.positive
    for options, own in (({"guidance": 2.0}, "guidance_scale"), ({"rescale": 0.2}, "guidance_rescale")):
        with pytest.raises(GuidedError, match=f"{own} is given twice, as .* and by pipe_args"):
            given.prompted(["cat"], **options)
    with pytest.raises(GuidedError, match=r"guidance_scale is given by pipe_args, but beside a negative checkpoint"):
        given.with_negative(given.denoiser).prompted(["cat"])
    given.close()


def test_an_ip_adapter_needs_its_image_and_the_image_counts() -> None:
    case = CASES["sd-ip-adapter"]
    with pytest.raises(GuidedError, match=r"has an IP-Adapter, whose image is missing; give ip_adapter_image"):
        wrap(case.build(), steps=3)
    predictions = []
    for image in (picture(16, 0), picture(16, 1), picture(16, 0)):
        given = wrap(case.build(), steps=3, pipe_args={"ip_adapter_image": image}).prompted(["cat"], 3.0)
        x, t = torch.ones(1, 4, 8, 8), torch.tensor([334.0])
        predictions.append(given.denoiser(x, t, **given.requests.conditions.positive))
        given.close()
    assert torch.equal(predictions[0], predictions[2])
    assert (predictions[0] - predictions[1]).abs().max() > 1e-3


def test_look_aheads_are_smaller_or_by_a_small_decoder() -> None:
    tiny = diffusers.AutoencoderTiny(
        latent_channels=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    )  # fmt: skip
    for lookahead, side in ((0.5, 8), (tiny, 16)):
        given = model(lookahead=lookahead)
        x = torch.zeros(3, 4, 8, 8)
        assert given.codec.preview(x)[0].size == (side, side)
        assert given.decode(x)[0].size == (16, 16)
        given.close()
    assert autoencoder(0).config.latent_channels == 4


def test_the_model_with_other_steps_has_their_times() -> None:
    given = model().with_steps(5)
    assert given.steps == 5 and given.denoiser.network.call.steps == 5
    assert len(draw(given).samples) == 2


def test_a_pipeline_that_changes_its_attention_does_so_for_its_loops_only() -> None:
    pipeline = CASES["sd-pag"].build()
    before = pipeline.unet.attn_processors
    given = wrap(pipeline, steps=3, pipe_args={"pag_scale": 2.0}).prompted(["cat"], 3.0)
    x, t = torch.ones(1, 4, 8, 8), torch.tensor([334.0])
    y = given.denoiser(x, t, **given.requests.conditions.positive)
    given.decode(x), given.decode(x)
    torch.testing.assert_close(given.denoiser(x, t, **given.requests.conditions.positive), y)
    given.close()
    assert all(pipeline.unet.attn_processors[name] is processor for name, processor in before.items())


def test_a_published_lora_is_the_negative_side_as_of_the_family(tmp_path: Path) -> None:
    pipeline = ddim(build("sd"))
    draw_ = torch.Generator().manual_seed(0)
    layers = [name for name, part in pipeline.unet.named_modules() if name.endswith(("to_q", "to_v"))]
    weights = {}
    for layer in layers:
        out, inner = pipeline.unet.get_submodule(layer).weight.shape
        for half, shape in (("down", (2, inner)), ("up", (out, 2))):
            name = f"lora_unet_{layer.replace('.', '_')}.lora_{half}.weight"  # as kohya's scripts call it
            weights[name] = 0.3 * torch.randn(shape, generator=draw_)
        weights[f"lora_unet_{layer.replace('.', '_')}.alpha"] = torch.tensor(2.0)
    save_file(weights, tmp_path / "lora.safetensors")
    x, outputs = torch.ones(1, 4, 8, 8), []
    for loop in (True, False):
        given = attach(wrap(pipeline, loop=loop, steps=3), tmp_path / "lora.safetensors").prompted(["cat"], 3.0)
        outputs.append(given.evaluate(x[None], 1).y)
        given.close()
    plain = wrap(pipeline, loop=False, steps=3).prompted(["cat"], 3.0).evaluate(x[None], 1).y
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    assert (outputs[0] - plain).abs().max() > 1e-2


def test_gradients_are_refused_where_they_would_be_wrong() -> None:
    given = model().prompted(["cat"], 3.0)
    x = torch.ones(1, 4, 8, 8, requires_grad=True)
    with pytest.raises(GuidedError, match="by its own loop has no gradients"):
        given.denoiser(x, torch.tensor([334.0]), **given.requests.conditions.positive)
    with pytest.raises(GuidedError, match=r"by its own loop has no gradients; its class.*loop=false"):
        check_gradients(given)
    check_gradients(wrap(ddim(build("sd")), loop=False, steps=3))
    given.close()


def test_a_negative_checkpoint_cannot_be_trained_through_a_loop(tmp_path: Path) -> None:
    with pytest.raises(GuidedError, match=r"by its own loop cannot be trained: no gradients.*loop=false"):
        guided.train_negative(model(), tmp_path / "negative", prompts=["cat"])
    assert running() == [] and not (tmp_path / "negative").exists()
