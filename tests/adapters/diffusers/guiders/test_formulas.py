"""Guiders of diffusers as guidance: predictions are those of their formula, called by hand on the network's own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import guiders as library
from diffusers.hooks import HookRegistry, LayerSkipConfig
from diffusers.hooks.layer_skip import _apply_layer_skip_hook
from diffusers.hooks.smoothed_energy_guidance_utils import (
    SmoothedEnergyGuidanceConfig,
    _apply_smoothed_energy_guidance_hook,
)
from PIL import Image
from torch import Tensor

from guided.adapters.diffusers import wrap
from guided.adapters.diffusers.guiders.names import described, read_guider
from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.values.rollout import Rollout
from tests.adapters.diffusers.pipelines import build

K = 6

#: Guiders by name and parameters, and those of the class.
PLAIN: dict[str, Mapping[str, Any]] = {
    "classifier-free": {"guidance_scale": 3.0, "guidance_rescale": 0.4},
    "adaptive-projected": {"guidance_scale": 4.0, "eta": 0.3, "adaptive_projected_guidance_rescale": 2.0},
    "adaptive-projected-mix": {
        "adaptive_projected_guidance_momentum": None,
        "adaptive_projected_guidance_start_step": 2,
        "adaptive_projected_guidance_rescale": 2.0,
    },
    "classifier-free-zero-star": {"guidance_scale": 3.0, "zero_init_steps": 2},
    "magnitude-aware": {"guidance_scale": 5.0, "alpha": 2.0},
    "tangential-classifier-free": {"guidance_scale": 3.0, "start": 0.3, "stop": 0.7},
    "frequency-decoupled": {"guidance_scales": [4.0, 2.0], "parallel_weights": [0.5, 1.0]},
}
SKIPPED = {"indices": [0], "fqn": "transformer_blocks"}
PERTURBED = {**SKIPPED, "skip_attention": False, "skip_attention_scores": True, "skip_ff": False}
LAYERS: dict[str, Mapping[str, Any]] = {
    "skip-layer": {"skip_layer_guidance_layers": [0], "skip_layer_guidance_stop": 0.7},
    "perturbed-attention": {"perturbed_guidance_layers": [0], "perturbed_guidance_stop": 0.7},
    "smoothed-energy": {"seg_guidance_layers": [0], "seg_guidance_stop": 0.7},
    "auto": {"auto_guidance_layers": [0], "dropout": 1.0, "guidance_scale": 2.0},
}


def guider_of(name: str) -> Any:
    if name == "frequency-decoupled":
        pytest.importorskip("kornia")
    return read_guider({"name": name, **{**PLAIN, **LAYERS}[name]})


def posed(pipeline: Any, n: int = 1, **options: Any) -> Diffusion:
    return wrap(pipeline, steps=K, **options).prompted(["red cat"] * n)


def raws(model: Diffusion, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The predictions of the network with the prompt, and without."""
    conditions = model.requests.conditions
    assert conditions.negative is not None
    network: Any = model.denoiser.network  # type: ignore[attr-defined]
    return network(x, t, **conditions.positive), network(x, t, **conditions.negative)


def rows(model: Diffusion, step: int, n: int = 1) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, *model.process.event, generator=torch.Generator().manual_seed(step))
    return x, torch.full((n,), model.process.time(step))


def by_hand(model: Diffusion, guider: Any, step: int, x: Tensor, t: Tensor, **more: Tensor) -> Tensor:
    """The clean mean of the guider's formula."""
    guider = read_guider(guider)
    cond, uncond = raws(model, x, t)
    guider.set_state(step, K, t)
    flat = type(guider).__name__ == "MagnitudeAwareGuidance"  # its norm fails on four axes
    given = {"pred_cond": cond, "pred_uncond": more.pop("uncond", uncond), **more}
    found = guider(
        [_batch(name, raw.flatten(1)[:, None] if flat else raw) for name, raw in _asked(guider, given).items()]
    ).pred
    return model.denoiser.clean(x, t, found.view(x.shape))  # type: ignore[attr-defined,no-any-return]


def _asked(guider: Any, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    order = list(given.items())
    if guider.num_conditions < len(order) and len(order) == 3:
        order = order[:2]
    return dict(order[: guider.num_conditions])


def _batch(name: str, raw: Tensor) -> Any:
    from diffusers.modular_pipelines.modular_pipeline import BlockState

    return BlockState(**{"__guidance_identifier__": name, "noise_pred": raw})


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max().clamp(min=1))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("family", ["sd-v", "sd3", "pixart"])
def test_predictions_are_those_of_the_formula(family: str, name: str) -> None:
    guider, pipeline = guider_of(name), build(family)
    model = posed(pipeline, guider=guider)
    differs = 0
    for step in range(K):
        x, t = rows(model, step)
        found = model.predict(x, t, model.requests.conditions)
        assert close(found, by_hand(model, guider, step, x, t))
        differs += not close(found, model.denoiser(x, t, **model.requests.conditions.positive))
    assert differs >= 2
    assert guider._step is None  # the given one is left as it was


@pytest.mark.parametrize("family", ["sd-v", "sd3", "dit"])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_classifier_free_is_the_guidance_by_a_weight(family: str, rescale: float) -> None:
    pipeline, prompt = build(family), ["red"]
    guider = library.ClassifierFreeGuidance(guidance_scale=3.0, guidance_rescale=rescale)
    ours = wrap(pipeline, steps=K).prompted(prompt, 3.0, rescale=rescale)
    theirs = wrap(pipeline, steps=K, guider=guider).prompted(prompt)
    for step in range(K):
        x, t = rows(ours, step)
        assert close(theirs.predict(x, t, theirs.requests.conditions), ours.predict(x, t, ours.requests.conditions))
    assert theirs.cost == ours.cost == 2


def changed(net: Any, name: str) -> Any:
    """Changes layers of a network by the library's own functions; the returned function puts them back."""
    if name == "smoothed-energy":
        config = SmoothedEnergyGuidanceConfig(indices=[0], fqn="transformer_blocks")
        _apply_smoothed_energy_guidance_hook(net, config, 9999999.0, name="hand")
    else:
        config = LayerSkipConfig(**(PERTURBED if name == "perturbed-attention" else SKIPPED))
        _apply_layer_skip_hook(net, config, name="hand")
    return lambda: HookRegistry.check_if_exists_or_initialize(net).remove_hook("hand", recurse=True)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_layers_are_changed_for_one_prediction(name: str, scale: float) -> None:
    """At the weight 1 too, where diffusers calls the network twice, changes nothing, and leaves out the prompt."""
    if name == "auto" and scale == 1:
        return
    guider, pipeline = read_guider({"name": name, **LAYERS[name], "guidance_scale": scale}), build("pixart")
    model = posed(pipeline, guider=guider)
    apart = 0.0
    for step in range(K):
        x, t = rows(model, step)
        cond, uncond = raws(model, x, t)
        back, conditions = changed(pipeline.transformer, name), model.requests.conditions
        assert conditions.negative is not None
        side = conditions.negative if name == "auto" else conditions.positive
        other = model.denoiser.network(x, t, **side)  # type: ignore[attr-defined]
        back()
        found = model.predict(x, t, conditions)
        inside = 0 < step < int(0.7 * K)
        apart = max(apart, float((other - cond).abs().max()))
        if name == "auto":
            wanted = other + scale * (cond - other)
        elif not inside:
            wanted = uncond + scale * (cond - uncond)
        elif scale == 1:
            wanted = other + guider_scale(guider) * (cond - other)
        else:
            wanted = uncond + scale * (cond - uncond) + guider_scale(guider) * (cond - other)
        assert close(found, model.denoiser.clean(x, t, wanted))  # type: ignore[attr-defined]
        assert torch.equal(raws(model, x, t)[0], cond)  # the layers are as before
    assert apart > 1e-2


def guider_scale(guider: Any) -> float:
    return float(getattr(guider, "seg_guidance_scale", None) or guider.skip_layer_guidance_scale)


def test_a_unet_has_layers_by_their_full_name() -> None:
    pipeline = build("sd-v")
    config = {**PERTURBED, "fqn": "down_blocks.0.attentions.0.transformer_blocks"}
    text = (
        'perturbed-attention?guidance_scale=3&perturbed_guidance_stop=1&perturbed_guidance_config={"indices": [0], '
        '"fqn": "down_blocks.0.attentions.0.transformer_blocks"}'
    )
    model = posed(pipeline, guider=text)
    x, t = rows(model, 2)
    cond, uncond = raws(model, x, t)
    _apply_layer_skip_hook(pipeline.unet, LayerSkipConfig(**config), name="hand")
    other = raws(model, x, t)[0]
    HookRegistry.check_if_exists_or_initialize(pipeline.unet).remove_hook("hand", recurse=True)
    wanted = uncond + 3 * (cond - uncond) + 2.8 * (cond - other)
    assert close(model.predict(x, t, model.requests.conditions), model.denoiser.clean(x, t, wanted))  # type: ignore[attr-defined]
    assert not close(cond, other)


@pytest.mark.parametrize("name", ["adaptive-projected", "classifier-free-zero-star"])
def test_a_loop_has_the_guidance_of_the_family(name: str) -> None:
    pipeline = build("sd3")
    family, loop = (posed(pipeline, guider=guider_of(name), loop=own) for own in (False, True))
    try:
        for step in (0, 3):
            x, t = rows(family, step)
            ours, theirs = (model.predict(x, t, model.requests.conditions) for model in (family, loop))
            assert (ours - theirs).abs().max() < 1e-4
    finally:
        loop.close()


def test_the_layers_of_a_loop_are_changed() -> None:
    pipeline = build("pixart")
    text = "skip-layer?guidance_scale=3&skip_layer_guidance_stop=0.7&skip_layer_guidance_layers=0"
    args = {"use_resolution_binning": False}
    family, loop = posed(pipeline, guider=text), posed(pipeline, guider=text, loop=True, pipe_args=args)
    try:
        x, t = rows(family, 2)
        ours, theirs = (model.predict(x, t, model.requests.conditions) for model in (family, loop))
        assert (ours - theirs).abs().max() < 1e-4
    finally:
        loop.close()


def test_a_negative_checkpoint_is_the_other_side() -> None:
    pipeline, other = build("sd-v"), build("sd-v", 5)
    guider = guider_of("adaptive-projected")
    model = wrap(pipeline, steps=K, guider=guider)
    assert model.network is not None
    negative: Any = model.network.around(other.unet)
    model = model.with_negative(negative).prompted(["red cat"])
    x, t = rows(model, 3)
    conditions = model.requests.conditions
    assert conditions.negative is not None
    uncond = negative.network(x, t, **conditions.negative)
    wanted = by_hand(model, guider, 3, x, t, uncond=uncond)
    assert close(model.predict(x, t, conditions), wanted)
    assert not close(wanted, by_hand(model, guider, 3, x, t))


@pytest.mark.parametrize("name", [*PLAIN, "perturbed-attention", "smoothed-energy"])
def test_a_sample_does_not_depend_on_the_others_nor_on_the_micro_batch(name: str) -> None:
    pipeline, guider = build("pixart"), guider_of(name)
    one, eight, some = (
        walked(posed(pipeline, n, guider=guider, micro_batch=size), n) for n, size in ((1, None), (8, None), (8, 3))
    )
    for others in (eight, some):
        assert (one[0] - others[0]).abs().max() <= 1e-5 * max(1.0, float(one[0].abs().max()))
    assert (eight[0] - eight[1]).abs().max() > 1e-2


def walked(model: Diffusion, n: int) -> Tensor:
    particles = model.start(Streams(0, range(n)))
    while not particles.done:
        particles = particles.propose(1)
    return particles.x[:, 0]


@pytest.mark.parametrize("name", ["adaptive-projected", "adaptive-projected-mix"])
@pytest.mark.parametrize("micro_batch", [2, 16])
def test_a_momentum_is_that_of_its_row(name: str, micro_batch: int) -> None:
    """By hand, the rows are one batch, and the library's own average goes on from step to step."""
    given = {**PLAIN[name], "adaptive_projected_guidance_momentum": -0.5}
    model = posed(build("sd-v"), 3, guider={"name": name, **given}, micro_batch=micro_batch)
    guider, particles = read_guider({"name": name, **given}), model.start(Streams(0, range(3)))
    forgot = posed(build("sd-v"), 3, guider={"name": name, **given, "adaptive_projected_guidance_momentum": None})
    apart = []
    while not particles.done:
        x, t = particles.x[:, 0], torch.full((3,), model.process.time(particles.k))
        cond, uncond = raws(model, x, t)
        guider.set_state(particles.k, K, t)
        guider.prepare_inputs({"side": (0, 1)})
        batches = [_batch("pred_cond", cond), _batch("pred_uncond", uncond)]
        wanted = model.denoiser.clean(x, t, guider(batches).pred)  # type: ignore[attr-defined]
        assert close(particles.outputs.y[particles.outputs.index[:, 0]], wanted)
        apart.append(close(forgot.predict(x, t, forgot.requests.conditions), wanted))
        particles = particles.propose(1)
    assert apart[0] and not all(apart)


def test_rows_that_are_asked_twice_count_once() -> None:
    """As after running out of memory."""
    text = "adaptive-projected?adaptive_projected_guidance_momentum=-0.5"
    model = posed(build("sd-v"), 2, guider=text)
    x = [torch.randn(2, 1, *model.process.event, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    once = [model.evaluate(x[k], k).y for k in range(3)]
    twice = [model.evaluate(x[k], k).y for k in (0, 0, 1, 1, 1, 2)]
    for a, b in zip(once, (twice[0], twice[2], twice[5]), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="running average"):
        model.evaluate(torch.cat([x[0], x[1]], 1), 3)
    model.evaluate(x[0], 0)
    with pytest.raises(ValueError, match="running average"):
        model.evaluate(x[0], 2)


def test_rows_are_counted_as_they_are_asked() -> None:
    """One side outside of the start and the stop, where a weight has two."""
    pipeline = build("sd-v")
    model = posed(pipeline, guider="classifier-free?guidance_scale=3&start=0.5")
    asked = []
    pipeline.unet.register_forward_pre_hook(lambda module, args: asked.append(len(args[0])))
    particles = Particles(model.with_requests(), torch.randn(1, 2, *model.process.event), 0, Streams(0, range(1)))
    for k in range(K):
        model.evaluate(particles.x, k)
    counted = model.monitor.network_rows
    assert counted == 2 * (3 * 1 + 3 * 2) and model.cost == 2
    model = posed(pipeline, guider="classifier-free?guidance_scale=3&start=0.5", micro_batch=2)
    asked.clear()
    model.evaluate(particles.x, 0)
    model.evaluate(particles.x, 3)
    assert asked == [2, 4]


def test_the_step_is_that_of_the_time_where_steps_are_longer() -> None:
    """A look-ahead by a few long steps is guided as the run is at its times."""
    pipeline, guider = build("sd-v"), library.ClassifierFreeGuidance(guidance_scale=3.0, start=0.5)
    model = posed(pipeline, guider=guider)
    long = replace(model, process=model.process.strided(1, 2))
    for k, step in ((0, 1), (1, 1 + round(5 / 2))):
        assert long.process.time(k) == model.process.time(step)
        x, t = rows(model, step)
        assert close(long.predict(x, t, model.requests.conditions), by_hand(model, guider, step, x, t))
    moved = Rollout(None, steps=2).moved(model.start(Streams(0, range(1))))  # type: ignore[arg-type]
    assert moved.x.isfinite().all()


def test_other_steps_are_counted_anew() -> None:
    model = posed(build("sd-v"), guider="classifier-free-zero-star?zero_init_steps=2")
    more = model.with_steps(12)
    guidance = more.requests.guidance
    assert guidance is not None and len(guidance.times) == 13
    x, t = torch.randn(1, *more.process.event), torch.tensor([more.process.time(2)])
    zero = torch.zeros_like(x)
    assert not close(more.predict(x, t, more.requests.conditions), more.denoiser.clean(x, t, zero))  # type: ignore[attr-defined]
    t = torch.tensor([more.process.time(1)])
    assert close(more.predict(x, t, more.requests.conditions), more.denoiser.clean(x, t, zero))  # type: ignore[attr-defined]


def test_from_an_image_steps_are_counted_from_the_first_that_is_taken() -> None:
    model = wrap(build("sd-v"), steps=K, guider="classifier-free-zero-star?zero_init_steps=1")
    model = model.edited(Image.new("RGB", (16, 16), "red"), 0.5).prompted(["red cat"])
    first = model.requests.first_step(K)
    assert first == 3
    x, t = rows(model, first)
    zero = model.denoiser.clean(x, t, torch.zeros_like(x))  # type: ignore[attr-defined]
    assert close(model.predict(x, t, model.requests.conditions), zero)


@pytest.mark.parametrize("name", [*PLAIN, *LAYERS])
def test_a_description_makes_the_guider_again(name: str) -> None:
    guider = guider_of(name)
    again = read_guider(described(guider))
    assert type(again) is type(guider) and described(again) == described(guider)
