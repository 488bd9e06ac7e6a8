"""What the adapter of diffusers costs, what its samples depend on, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import guided
from guided.adapters.diffusers import FAMILIES, wrap
from guided.adapters.diffusers.levels import Levels
from guided.adapters.diffusers.micro_batches import network_batches
from guided.adapters.diffusers.pixels import Decoder
from guided.adapters.diffusers.prediction import PREDICTIONS, Prediction
from guided.core.batching import Evaluator
from guided.core.diffusion import Diffusion
from guided.core.editing import Editing
from guided.core.random import Streams
from guided.samplers import SVDD, BestOfN, Unguided
from guided.scoring.objective import resolve_reward
from guided.values.posterior_mean import PosteriorMean
from tests.adapters.diffusers.pipelines import parts
from tests.adapters.diffusers.pipelines.families import build

K, M = 4, 5


def bright(images: list[Image.Image]) -> list[float]:
    return [float(np.asarray(image).mean()) for image in images]


class Counting(nn.Module):
    """Counts the rows that a network is given."""

    def __init__(self, net: Any, method: str) -> None:
        super().__init__()
        self.net, self.rows, self.calls = net, 0, 0
        call = getattr(net, method)

        def counted(x: Any = None, *args: Any, **kwargs: Any) -> Any:
            self.rows, self.calls = self.rows + len(x if x is not None else kwargs["hidden_states"]), self.calls + 1
            return call(x, *args, **kwargs) if x is not None else call(*args, **kwargs)

        setattr(net, method, counted)


def small(name: str, **options: Any) -> Diffusion:
    """A model of 16 by 16 pixels."""
    return wrap(build(name), **({"height": 16, "width": 16} if name == "flux" else {}), **options)


def counters(pipeline: Any) -> tuple[Counting, Counting]:
    net = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    return Counting(net, "forward"), Counting(pipeline.vae, "decode")


def tiny_decoder(seed: int = 0, channels: int = 4) -> Any:
    blocks = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    sizes = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1), "latent_channels": channels}
    torch.manual_seed(seed)
    return diffusers.AutoencoderTiny(**blocks, **sizes)


@pytest.mark.parametrize("name", ["sd-v", "sd3", "flux"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_rows_and_decodes_are_at_the_floor(name: str, guidance: float) -> None:
    """1 + M (K - 1) rows a sample, twice that in one doubled call under guidance; M (K - 1) + 1 decodes."""
    pipeline = build(name)
    net, vae = counters(pipeline)
    model = wrap(pipeline, steps=K, micro_batch=1000, **({"height": 16, "width": 16} if name == "flux" else {}))
    run = guided.sample(model, bright, SVDD(M=M), n=2, prompt=["red cat", "blue dog"], guidance=guidance)
    sides = 1 if guidance == 1 else 2
    assert net.rows == run.stats.network_rows == sides * 2 * (1 + M * (K - 1))
    assert net.calls == K and vae.rows == 2 * (M * (K - 1) + 1)
    assert run.stats.reward_calls == vae.rows


def test_steps_without_a_look_ahead_decode_nothing() -> None:
    pipeline = build("sd-v")
    net, vae = counters(pipeline)
    sampler = SVDD(M=M, interval=(0.5, 1.0))  # of the steps 0..3, the last one without noise, only step 2 looks
    guided.sample(wrap(pipeline, steps=K, micro_batch=16), bright, sampler, n=1, prompt="red cat", guidance=1.0)
    assert vae.rows == M + 1 and net.rows == 3 + M


def test_best_of_n_decodes_only_samples() -> None:
    pipeline = build("sd-v")
    net, vae = counters(pipeline)
    guided.sample(wrap(pipeline, steps=K, micro_batch=16), bright, BestOfN(N=3), n=1, prompt="red cat", guidance=1.0)
    assert net.rows == 3 * K and vae.rows == 3 + 1


@pytest.mark.parametrize("name", ["sd-v", "flux", "ddpm"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_depends_on_its_seed_and_index_alone(name: str, eta: float) -> None:
    """The same with other requests beside it, and with any micro-batch."""
    words = ["red cat", "blue dog", "green tree", "red house"] * 2 if name != "ddpm" else None

    def rows(n: int, micro_batch: int) -> Tensor:
        model = small(name, steps=3, eta=eta, micro_batch=micro_batch)
        model = model if words is None else model.prompted(words[:n], 3.0)
        return Unguided()(model, None, Streams(7, range(n), model.device)).x[:, 0]

    whole = rows(8, 8)
    for n, micro_batch in ((1, 1), (1, 8), (8, 1), (8, 3)):
        torch.testing.assert_close(rows(n, micro_batch), whole[:n], atol=1e-5 * float(whole.abs().max()), rtol=0)


def test_small_rows_have_micro_batches_of_one_size() -> None:
    """And convolutions store their kernels with channels last, with the same values."""
    pipeline = build("sd-v")
    before = {key: weight.clone() for key, weight in pipeline.unet.state_dict().items()}
    model = wrap(pipeline, steps=K)
    decoding: Any = model.codec.decode
    assert model.process.event == (4, 8, 8)
    assert (model.evaluator.size, model.evaluator.least) == (16, 16)
    assert (decoding.evaluator.size, decoding.evaluator.least) == (8, 8)
    elsewhere = network_batches((4, 8, 8), None, torch.device("cuda"))
    assert (elsewhere.size, elsewhere.least) == (256, 1)  # launches would take longer than the computation
    compiled = network_batches((4, 8, 8), None, torch.device("cuda"), "graph")
    assert (compiled.size, compiled.least) == (256, 256)
    large = wrap(pipeline, height=1024, width=1024).evaluator
    assert (large.size, large.least) == (16, 1)
    small: Any = wrap(pipeline, micro_batch=3)
    assert small.evaluator.size == small.codec.decode.evaluator.size == 3
    with pytest.raises(ValueError, match="the micro-batch is 0 rows; it must be at least 1"):
        wrap(pipeline, micro_batch=0)
    for key, weight in pipeline.unet.state_dict().items():
        assert torch.equal(weight, before[key])
        assert weight.ndim != 4 or weight.is_contiguous(memory_format=torch.channels_last)


def test_guided_samples_do_not_depend_on_the_batch() -> None:
    model = wrap(build("sd-v"), steps=K)
    options: dict[str, Any] = {"prompt": ["red cat", "blue dog", "green tree"], "n": 3, "seed": 3}
    whole, alone = (guided.sample(model, bright, SVDD(M=3), batch_size=size, **options) for size in (3, 1))
    only = [*guided.stream(model, bright, SVDD(M=3), only=[2], **options)]
    pairs = [*zip(whole.samples, alone.samples, strict=True), (only[0].samples[0], whole.samples[2])]
    for one, other in pairs:  # but for the last bit: threads share rows in other ways
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


def test_no_noise_and_several_candidates_are_refused_with_the_reason() -> None:
    model = wrap(build("sd-v"), steps=K, eta=0.0)
    with pytest.raises(ValueError, match="as with eta = 0: a deterministic step makes equal candidates"):
        guided.sample(model, bright, SVDD(M=2), n=1, prompt="red cat")
    guided.sample(model, bright, SVDD(M=1), n=1, prompt="red cat")


@pytest.mark.parametrize("target", PREDICTIONS)
def test_predictions_are_inverted(target: str) -> None:
    """From the numbers that a prediction type is defined by."""
    levels = (
        Levels(None, 1000, reversed=target == "reversed_flow")
        if "flow" in target
        else Levels.of(diffusers.DDIMScheduler(beta_schedule="scaled_linear"))
    )
    x0, eps, t = torch.randn(3, 2, 4), torch.randn(3, 2, 4), torch.tensor([10.0, 500.0, 990.0])
    alpha, sigma = (level[:, None, None] for level in levels(t))
    raw = {
        "epsilon": eps,
        "v_prediction": alpha * eps - sigma * x0,
        "flow": eps - x0,
        "reversed_flow": x0 - eps,
        "sample": x0,
    }[target]
    prediction = Prediction(lambda x, t: raw, levels, target)
    x = alpha * x0 + sigma * eps
    torch.testing.assert_close(prediction(x, t), x0, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(prediction.raw(x, t, x0), raw, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_levels_between_whole_times(logarithmic: bool) -> None:
    levels = Levels(torch.tensor([1.0, 4.0, 16.0]).double(), 3, logarithmic)
    alpha, sigma = levels(torch.tensor([0.0, 0.5, 2.0]))
    assert (sigma / alpha).tolist() == pytest.approx([1, 2 if logarithmic else 2.5, 16])
    assert (alpha**2 + sigma**2).tolist() == pytest.approx([1, 1, 1])
    assert levels.times(np.array([2.0, 16.0])).tolist() == pytest.approx([0.5 if logarithmic else 1 / 3, 2])


def test_a_last_step_that_would_change_nothing_ends_at_data() -> None:
    pipeline = build("sd")
    config = {**pipeline.scheduler.config, "steps_offset": 0, "set_alpha_to_one": False}
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(config)
    process: Any = wrap(pipeline, steps=K).process
    assert process.times[-2] == 0 and (process.alphas[-1], process.sigmas[-1]) == (1, 0)


def test_clip_bounds_clean_means() -> None:
    particles = wrap(build("ddpm-clipped"), steps=K).start(Streams(0, range(8)))
    assert particles.outputs.y.abs().max() > 1
    assert particles.look_ahead().rows.abs().max() <= 1
    free = wrap(build("ddpm"), steps=K).start(Streams(0, range(8)))
    torch.testing.assert_close(free.look_ahead().rows, free.outputs.y)


def photograph(seed: int = 0, side: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def half(side: int = 16) -> Image.Image:
    """White, that is free, on the right."""
    array = np.zeros((side, side), dtype=np.uint8)
    array[:, side // 2 :] = 255
    return Image.fromarray(array)


@pytest.mark.parametrize("name", ["sd", "sd3"])
def test_starting_from_an_image_is_noising_its_latents(name: str) -> None:
    pipeline = build(name)
    model = wrap(pipeline, steps=10).prompted(["red cat"], 1.0).edited(photograph(), strength=0.35)
    latent = model.encode(photograph())
    particles = model.start(Streams(0, [0]), N=2)
    assert particles.k == 7
    noise = Streams(0, [0]).normal(2, *latent.shape)
    process: Any = model.process
    torch.testing.assert_close(particles.x, process.alphas[7] * latent + process.sigmas[7] * noise)


def test_an_image_alone_is_noised_for_four_steps_of_five() -> None:
    model = wrap(build("sd"), steps=10).prompted(["red cat"], 1.0)
    assert model.edited(photograph()).start(Streams(0, [0])).k == 2
    assert model.edited(photograph(), mask=half()).start(Streams(0, [0])).k == 0
    refused("strength is 1 and there is no mask", lambda: model.edited(photograph(), 1.0))


def test_few_steps_from_an_image_that_have_no_noise_are_refused_with_candidates() -> None:
    options: dict[str, Any] = {"n": 1, "prompt": "red cat", "image": photograph(), "strength": 0.25}
    refused(
        "none of the 1 steps has noise", lambda: guided.sample(build("sd-v"), bright, SVDD(M=2), steps=4, **options)
    )


def test_latents_of_an_image_are_those_of_diffusers() -> None:
    pipeline = build("sd3")
    model = wrap(pipeline)
    side = model.decode(torch.zeros(1, *model.process.output))[0].width
    pixels = pipeline.image_processor.preprocess(photograph(side=side), height=side, width=side)
    config = pipeline.vae.config
    wanted = (pipeline.vae.encode(pixels).latent_dist.mode() - config.shift_factor) * config.scaling_factor
    torch.testing.assert_close(model.encode(photograph(side=side)), wanted[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_kept_region_is_the_image_at_the_end_and_has_its_marginal_on_the_way(eta: float, strength: float) -> None:
    """q(x_k | x) = N(alpha_k x, sigma_k^2) for every k, for any network and any eta."""
    model = wrap(build("sd"), steps=6, eta=eta)
    sides = model.process.output[-2:]
    model = model.prompted(["red cat"] * 40, 1.0).edited(photograph(), strength, half())
    known = model.requests.editing.x[0, ..., : sides[1] // 2]  # type: ignore[union-attr]
    particles, process = model.start(Streams(0, range(40))), model.process
    while not particles.done:
        kept = particles.x[:, 0, ..., : sides[1] // 2]
        noise = (kept - process.alphas[particles.k] * known) / process.sigmas[particles.k]  # type: ignore[attr-defined]
        assert noise.mean().abs() < 0.06 and (noise.std() - 1).abs() < 0.05
        clean = particles.look_ahead().rows
        torch.testing.assert_close(clean[..., : sides[1] // 2], known.expand(len(clean), *known.shape))
        particles = particles.propose()
    process_end: Any = process
    kept = particles.x[:, 0, ..., : sides[1] // 2]
    bound = 5 * process_end.sigmas[-1] + 1e-4 + (1 - process_end.alphas[-1]) * known.abs().max()
    assert (kept - known).abs().max() < bound


def test_a_kept_region_is_inpainted_as_by_diffusers() -> None:
    """With eta = 0, diffusers' blend of the noised image into the latents is the same thing."""
    pipeline = build("sd")
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    model = wrap(pipeline, steps=5, eta=0.0).prompted(["red cat"], 1.0).edited(photograph(), 0.8, half())
    particles = model.start(Streams(0, [0]))
    editing = model.requests.editing
    assert editing is not None and particles.k == 1
    known, free = editing.x[0], editing.free[0]  # type: ignore[index]
    noise = Streams(0, [0]).normal(1, *known.shape)[0, 0]
    scheduler, x = pipeline.scheduler, particles.x[:, 0]
    scheduler.set_timesteps(5)
    text, _ = pipeline.encode_prompt(["red cat"], "cpu", 1, False)
    while not particles.done:
        k = particles.k
        t = scheduler.timesteps[k]
        particles = particles.propose()
        with torch.no_grad():
            raw = pipeline.unet(x, t, encoder_hidden_states=text).sample
        x = scheduler.step(raw, t, x, eta=0.0).prev_sample
        if k < 4:  # the last latents are left as they are
            at = scheduler.add_noise(known[None], noise[None], scheduler.timesteps[k + 1 : k + 2])
            x = torch.where(free, x, at)
            torch.testing.assert_close(particles.x[:, 0], x, atol=1e-4, rtol=0)
        else:
            torch.testing.assert_close(particles.x[:, 0][..., free[0]], x[..., free[0]], atol=1e-4, rtol=0)


def test_images_masks_and_files_from_python(tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.png")
    half().save(tmp_path / "mask.png")
    options: dict[str, Any] = {"n": 2, "prompt": "red cat", "guidance": 1.0, "steps": 4, "strength": 0.5}
    one, other = (
        guided.sample(build("sd"), bright, SVDD(M=2), image=image, mask=mask, **options)
        for image, mask in ((photograph(), half()), (tmp_path / "a.png", str(tmp_path / "mask.png")))
    )
    assert [a.tobytes() for a in one.samples] == [b.tobytes() for b in other.samples]
    assert one.stats.network_rows == 2 * (1 + 2)  # two steps, the first with two candidates


def test_masks_may_differ_between_requests() -> None:
    free = torch.tensor([[True, False], [False, True]])
    editing = Editing(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 1.0, free)
    y = torch.zeros(3, 2)
    assert editing.clamp(y, torch.tensor([1, 0, 1])).tolist() == [[3, 0], [0, 2], [3, 0]]
    assert editing.select([1]).clamp(y, torch.tensor([0, 0, 0])).tolist() == [[3, 0]] * 3


def test_look_aheads_use_the_small_decoder_and_samples_the_full_one() -> None:
    pipeline, cheap = build("sd-v"), tiny_decoder()
    _, full = counters(pipeline)
    counted = Counting(cheap, "decode")
    model = wrap(pipeline, steps=K, lookahead=cheap, micro_batch=16)
    run = guided.sample(model, bright, SVDD(M=M), n=2, prompt="red cat", guidance=1.0)
    assert full.rows == 2 and counted.rows == 2 * M * (K - 1) + 2  # and the samples once more, to compare
    assert run.columns["reward"] == bright(run.samples)
    assert len(run.columns["preview"]) == 2 and run.columns["preview"] != run.columns["reward"]


def test_the_small_decoder_takes_latents_as_the_network_knows_them() -> None:
    tiny, z = tiny_decoder(), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        wanted = (tiny.decode(z).sample / 2 + 0.5).clamp(0, 1)
    images = Decoder(tiny, Evaluator(1), tiny=True)(z)
    got = torch.stack([torch.from_numpy(np.array(image)) for image in images]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(got, wanted, atol=0.5 / 255 + 1e-6, rtol=0)


def test_look_aheads_at_half_the_size() -> None:
    model = wrap(build("sd-v"), lookahead=0.5)
    x = torch.randn(2, *model.process.output)
    assert model.codec.preview is not None
    assert [image.width for image in model.codec.preview(x)] == [image.width // 2 for image in model.decode(x)]
    flat = torch.ones(1, *model.process.output)
    low, high = (np.asarray(decode(flat)[0], dtype=float) for decode in (model.codec.preview, model.codec.decode))
    assert np.abs(low.mean((0, 1)) - high.mean((0, 1))).max() < 16  # the same image, but for its edges


def test_a_folder_gives_the_pipelines_own_samples(tmp_path: Path) -> None:
    pipeline = build("sd")
    pipeline.save_pretrained(tmp_path / "sd")
    tiny_decoder().save_pretrained(tmp_path / "sd" / "vae_tiny")
    loaded = guided.load(tmp_path / "sd", device="cpu", steps=3)
    ready = guided.load(pipeline, steps=3)
    assert loaded.identity == ready.identity and loaded.modality == "images" and loaded.prompting.guidance == 7.5
    one, other = (guided.sample(model, sampler=Unguided(), n=2, prompt="red cat") for model in (loaded, ready))
    assert [a.tobytes() for a in one.samples] == [b.tobytes() for b in other.samples]
    tiny = guided.load(f"{tmp_path / 'sd'}?lookahead=tiny&eta=0.5", device="cpu")
    assert tiny.codec.preview is not None and tiny.process.eta == 0.5  # type: ignore[attr-defined]


def test_schedulers_by_name_and_by_entry(tmp_path: Path) -> None:
    build("sd").save_pretrained(tmp_path)
    karras = {"class": "EulerDiscreteScheduler", "use_karras_sigmas": True}
    model: Any = guided.load(tmp_path, device="cpu", scheduler=karras, steps=5)
    scheduler = diffusers.EulerDiscreteScheduler.from_pretrained(tmp_path / "scheduler", use_karras_sigmas=True)
    scheduler.set_timesteps(5)
    ratios = [s / a for a, s in zip(model.process.alphas, model.process.sigmas, strict=True)]
    assert ratios == pytest.approx(scheduler.sigmas.tolist(), rel=1e-5, abs=1e-9)
    spaced: Any = guided.load(tmp_path, device="cpu", scheduler={"timestep_spacing": "trailing"}, steps=5)
    assert spaced.process.times[0] == 999


def test_half_precision_keeps_particles_in_single(tmp_path: Path) -> None:
    build("sd").save_pretrained(tmp_path)
    model = guided.load(tmp_path, device="cpu", dtype="bfloat16", steps=2)
    x = Unguided()(model.prompted(["red cat"]), None, Streams(0, [0])).x
    assert x.dtype == torch.float32 and x.isfinite().all()
    whole = guided.load(tmp_path, device="cpu", steps=2)
    exact = Unguided()(whole.prompted(["red cat"]), None, Streams(0, [0])).x
    assert 0 < (x - exact).abs().max() < 1


def test_lora_weights_change_the_network_and_its_identity(tmp_path: Path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = build("sd")
    pipeline.save_pretrained(tmp_path / "sd")
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    state = get_peft_model_state_dict(pipeline.unet)
    diffusers.StableDiffusionPipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=state)
    file = str(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    plain = guided.load(tmp_path / "sd", device="cpu")
    none, some = (guided.load(tmp_path / "sd", device="cpu", lora=file, lora_scale=s) for s in (0.0, 1.0))
    assert plain.identity == none.identity != some.identity
    x, t = torch.randn(1, *plain.process.output), torch.tensor([500.0])
    text = plain.prompting.conditions(["red cat"])
    with torch.no_grad():
        wanted = pipeline.unet(x, t, encoder_hidden_states=text["text"]).sample
        raw = some.denoiser.network(x, t, **text)  # type: ignore[attr-defined]
    torch.testing.assert_close(raw, wanted, atol=1e-5, rtol=1e-4)


def test_slicing_and_tiling_do_not_change_images(tmp_path: Path) -> None:
    build("sd").save_pretrained(tmp_path)
    plain = guided.load(tmp_path, device="cpu")
    sliced = guided.load(tmp_path, device="cpu", slicing=True, tiling=True)
    x = torch.randn(3, *plain.process.output)
    for one, other in zip(plain.decode(x), sliced.decode(x), strict=True):
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


def test_equal_prompts_are_encoded_once() -> None:
    pipeline = build("sd")
    encoder = Counting(pipeline.text_encoder, "forward")
    model = wrap(pipeline, steps=2)
    del encoder
    seen: list[int] = []
    inner = model.prompting.encode._encode  # type: ignore[union-attr]
    model.prompting.encode._encode = lambda prompts: (seen.append(len(prompts)), inner(prompts))[1]  # type: ignore
    text = model.prompting.conditions(["red cat", "blue dog", "red cat"])["text"]
    assert seen == [1, 1] and torch.equal(text[0], text[2]) and not torch.equal(text[0], text[1])


def test_videos_are_lists_of_frames() -> None:
    run = guided.sample(build("cogvideox"), lambda v: [bright(frames)[0] for frames in v], SVDD(M=2), n=1, steps=2)
    assert isinstance(run.samples[0], list) and isinstance(run.samples[0][0], Image.Image)


def test_rewards_of_other_samples_are_refused() -> None:
    model = wrap(build("sd"))
    with pytest.raises(ValueError, match="reward 'qed' scores molecules; the samples of this model are images"):
        guided.sample(model, "qed", n=1)
    resolve_reward("brightness").check("videos")
    resolve_reward(bright).check("images")


def test_a_learned_value_takes_latents(tmp_path: Path) -> None:
    """SVDD-MC runs the model on one row a step."""
    model = guided.load(build("sd-v"), steps=3)
    fit: dict[str, Any] = {"n": 16, "updates": 3, "n_check": 0, "prompt": "red cat", "guidance": 1.0, "target": "mean"}
    value = guided.fit_value(model, bright, out=tmp_path, **fit)
    run = guided.sample(model, bright, SVDD(M=4), n=2, prompt="red cat", guidance=1.0, value=value)
    assert run.stats.network_rows == 2 * 3
    for options in (
        {"image": photograph()},
        {"negative_prompt": "dog", "guidance": 2.0},
        {"rescale": 0.5, "guidance": 2.0},
    ):
        options = {"prompt": "red cat", **options}
        refused(
            "a learned value was fitted to runs from noise",
            lambda o=options: guided.sample(model, bright, value=value, **o),
        )  # type: ignore[misc]


def test_prompts_of_an_earlier_call_stay() -> None:
    model = wrap(build("sd"), steps=2).prompted(["red cat", "blue dog"], 3.0)
    again = guided.sample(model, sampler=Unguided(), n=2, guidance=2.0)
    afresh = guided.sample(
        wrap(build("sd"), steps=2), None, Unguided(), n=2, prompt=["red cat", "blue dog"], guidance=2.0
    )
    assert [a.tobytes() for a in again.samples] == [b.tobytes() for b in afresh.samples]
    refused("there are 2 prompts for 3 samples", lambda: guided.sample(model, sampler=Unguided(), n=3, guidance=2.0))


def test_without_a_prompt_one_side_is_run() -> None:
    run = guided.sample(wrap(build("sdxl"), steps=2), sampler=Unguided(), n=1)
    assert run.stats.network_rows == 2


def test_an_empty_prompt_is_one_prompt_or_several() -> None:
    model = wrap(build("sdxl"), steps=2)
    one, several, none = (
        guided.sample(model, sampler=Unguided(), n=2, prompt=prompt, guidance=1.0).samples[0].tobytes()
        for prompt in ("", ["", ""], None)
    )
    assert one == several != none  # without a prompt SDXL gets zeros


def test_a_row_that_is_no_number_is_no_picture() -> None:
    model = wrap(build("sd"))
    refused("rows decode to pixels that are not finite", lambda: model.decode(torch.full((1, 4, 8, 8), torch.nan)))


@pytest.mark.parametrize(
    ("name", "dtype", "upcast", "expected"),
    [
        ("sdxl", torch.float16, True, torch.float32),
        ("sdxl", torch.float16, False, torch.float16),
        ("sdxl", torch.bfloat16, True, torch.bfloat16),
        ("pixart", torch.float16, True, torch.float32),
        ("pixart-alpha", torch.float16, True, torch.float16),
        ("sd", torch.float16, True, torch.float16),
        ("sd3", torch.float16, True, torch.float16),
    ],
)
def test_half_precision_does_not_reach_an_autoencoder_that_overflows(
    name: str, dtype: torch.dtype, upcast: bool, expected: torch.dtype
) -> None:
    """SDXL's, where its configuration says so, and no other, although the entry is true by default."""
    pipeline = build(name)
    pipeline.vae.register_to_config(force_upcast=upcast)
    pipeline.vae.to(dtype)
    model = wrap(pipeline, steps=2)
    decode: Any = model.codec.decode
    assert decode.vae.dtype == expected
    decoded: list[torch.dtype] = []
    decode.vae.decoder.conv_out.register_forward_hook(lambda _, __, y: decoded.append(y.dtype))
    x = torch.randn(2, *model.process.output, generator=torch.Generator().manual_seed(0))
    assert len(model.decode(x)) == 2 and {*decoded} == {expected}


@pytest.mark.parametrize("name", ["sd", "ddpm", "cogvideox"])
def test_pixels_are_those_of_the_images(name: str) -> None:
    """As bytes on the rows' device, by the samples' decoder and by that of look-aheads."""
    model = wrap(build(name), steps=2, **({} if name == "ddpm" else {"lookahead": 0.5}))
    x = torch.randn(3, *model.process.output, generator=torch.Generator().manual_seed(0))
    for decode in filter(None, (model.codec.decode, model.codec.preview)):
        pixels, images = decode.pixels(x), decode(x)  # type: ignore[attr-defined]
        assert pixels.dtype == torch.uint8 and pixels.device == x.device
        assert np.array_equal(pixels.movedim(-3, -1).numpy(), np.stack([np.asarray(image) for image in images]))


def test_pixels_are_rounded() -> None:
    """From [-1, 1] to the nearest of 0 to 255; what is beyond is cut off, and grey is three equal channels."""
    x = torch.tensor([-1.5, -1.0, 0.1, 1.0, 7.0]).view(1, 1, 1, 5)
    assert Decoder(None, Evaluator(1)).pixels(x).tolist() == [[[[0, 0, 140, 255, 255]]] * 3]


def test_the_column_preview_is_for_runs_that_look_ahead() -> None:
    model = wrap(build("sd-v"), steps=2, lookahead=tiny_decoder())
    run = guided.sample(model, bright, BestOfN(N=2), n=1, prompt="red cat", guidance=1.0)
    assert "preview" not in run.columns


def test_the_small_decoder_is_part_of_the_identity() -> None:
    pipeline = build("sd")
    a, b, c = (wrap(pipeline, lookahead=tiny).identity for tiny in ("full", tiny_decoder(0), tiny_decoder(1)))
    assert len({a, b, c}) == 3 and wrap(build("sd")).identity == a


def refused(match: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_wrong_input_is_one_clear_line(tmp_path: Path) -> None:
    pipeline = build("sd")
    folder = tmp_path / "sd"
    pipeline.save_pretrained(folder)
    image = photograph()
    image.save(tmp_path / "a.png")
    (tmp_path / "no.png").write_text("no image")

    def run(**options: Any) -> Any:
        return guided.sample(pipeline, bright, n=1, **options)

    def load(**options: Any) -> Any:
        return guided.load(folder, device="cpu", **options)

    refused("eta is 2; it must be in", lambda: load(eta=2))
    refused("height is 7; it must be a multiple of", lambda: load(height=7))
    refused("frames is 5, but StableDiffusionPipeline makes images", lambda: load(frames=5))
    refused("no option 'etta' .did you mean 'eta'", lambda: load(etta=1))
    refused("diffusers has no such class", lambda: load(scheduler="NoScheduler"))
    refused("has no entry 'timestep_spaceing' .did you mean", lambda: load(scheduler={"timestep_spaceing": 1}))
    refused("noise levels must fall", lambda: load(scheduler="HeunDiscreteScheduler"))
    refused("offload is 'model', but the device is the CPU", lambda: load(offload="model"))
    refused("offload is 'modle' .did you mean 'model'", lambda: load(offload="modle"))
    refused("cannot load the LoRA weights", lambda: load(lora=str(tmp_path / "none.safetensors")))
    refused("lookahead is 'ful'", lambda: load(lookahead="ful"))
    refused("lookahead is 3; as a factor", lambda: load(lookahead=3))
    refused("takes 8 channels of latents; the model has 4", lambda: wrap(pipeline, lookahead=tiny_decoder(0, 8)))
    refused("distilled is 3.5, but StableDiffusionPipeline takes no guidance input", lambda: load(distilled=3.5))
    refused("strength is for runs that start from an image", lambda: run(strength=0.5))
    refused("mask is for runs that start from an image", lambda: run(mask=half()))
    refused("strength is 0; it must be above 0", lambda: run(image=image, strength=0))
    refused("leaves none to take", lambda: run(image=image, strength=0.01, steps=10))
    refused("the mask keeps everything", lambda: run(image=image, mask=Image.new("L", (16, 16))))
    refused("is no image that can be read", lambda: run(image=tmp_path / "no.png"))
    refused("an image is an int", lambda: run(image=3))
    refused("2 prompts for 1 samples", lambda: run(prompt=["a", "b"]))
    refused("2 negative prompts for 1 samples", lambda: run(prompt="a", negative_prompt=["a", "b"]))
    refused("need guidance", lambda: guided.sample(build("flux"), bright, n=1, prompt="a", negative_prompt="b"))
    refused("rescale is 2.0; it must be in", lambda: run(prompt="a", rescale=2.0))
    refused("it is unconditional", lambda: guided.sample(build("ddpm"), bright, n=1, prompt="a"))
    refused("model is an int", lambda: guided.load(3))
    refused("cannot start from a sample", lambda: guided.sample("molecules", "qed", n=1, image=image))


def test_wrong_folders_are_one_clear_line(tmp_path: Path) -> None:
    folder = tmp_path / "sd"
    build("sd").save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    known = ", ".join(sorted(FAMILIES))

    def write(**changes: Any) -> None:
        (folder / "model_index.json").write_text(json.dumps({**index, **changes}))

    write(_class_name="StableDifusionPipeline")
    refused(f"did you mean 'StableDiffusionPipeline'.*; it is one of {known}", lambda: guided.load(folder))
    write(scheduler=["diffusers", "NoScheduler"])
    refused("cannot load the pipeline", lambda: guided.load(folder, device="cpu"))
    (folder / "model_index.json").write_text("{")
    refused("is not the index of a pipeline", lambda: guided.load(folder))
    write()
    (folder / "unet").rename(folder / "gone")
    refused("has no folder 'unet', which its model_index.json names", lambda: guided.load(folder))
    refused("StableDiffusionUpscalePipeline|is one of", lambda: wrap(type("StableDiffusionUpscalePipeline", (), {})()))


def test_a_repository_that_is_not_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(
        "there is no such folder, and it cannot be downloaded as a repository", lambda: guided.load("nobody/nothing")
    )


def test_schedulers_without_levels_are_refused() -> None:
    pipeline = build("sd")
    config, changes = pipeline.scheduler.config, {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipeline.scheduler = diffusers.EDMEulerScheduler()
    refused("EDMEulerScheduler has no usable grid", lambda: wrap(pipeline))
    for kind in (diffusers.DDIMScheduler, diffusers.EulerDiscreteScheduler):
        pipeline.scheduler = kind.from_config(config, **changes)
        refused("the clean mean cannot be computed from it", lambda: wrap(pipeline))
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(config, sigma_max=80.0, use_karras_sigmas=True)
    refused("starts at sigma 80, and the network was trained to 14.6", lambda: wrap(pipeline))
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(config, timestep_type="continuous")
    refused("its network takes noise levels, not times", lambda: wrap(pipeline))
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(config)
    refused("less noise than data; take more steps", lambda: wrap(pipeline, steps=1))
    refused("steps is 0", lambda: wrap(pipeline, steps=0))
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(config, thresholding=True)
    refused("dynamic thresholding is not supported", lambda: wrap(pipeline))


def test_a_latent_of_other_channels_is_refused() -> None:
    pipeline = build("sd")
    pipeline.vae = parts.autoencoder(0, channels=8)
    refused("the network takes 4 channels and a latent has 8", lambda: wrap(pipeline))


def test_the_look_ahead_value_asks_for_previews_only_before_the_end() -> None:
    model = wrap(build("sd-v"), steps=2, lookahead=tiny_decoder()).prompted(["red cat"], 1.0)
    particles = Unguided()(model, None, Streams(0, [0]))
    value = PosteriorMean(bright)
    assert value(particles).item() == pytest.approx(bright(model.decode(particles.x[:, 0]))[0])
