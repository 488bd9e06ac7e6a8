"""Guiders in runs: by name, as objects, in the record of a run; and what is refused, with the reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import guiders as library
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput

import guided
from guided.adapters.diffusers import wrap
from guided.adapters.diffusers.guiders.names import described, read_guider
from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.loading import with_guider
from guided.runs.config import RunConfig
from guided.runs.files import read_options
from guided.samplers import SMC, SVDD, BestOfN, Unguided
from guided.scoring.objective import resolve_reward
from guided.values.posterior_mean import PosteriorMean
from tests.adapters.diffusers.pipelines import build

K = 3
APG = "adaptive-projected?guidance_scale=4&eta=.5"


def bright(images: list[Any]) -> list[float]:
    return [float(np.asarray(image).mean()) for image in images]


def pixels(run: Any) -> list[Any]:
    return [np.asarray(sample).tolist() for sample in run.samples]


def test_a_name_a_mapping_and_an_object_are_the_same_run() -> None:
    pipeline = build("sd-v")
    guider = library.AdaptiveProjectedGuidance(guidance_scale=4.0, eta=0.5)
    ways = (APG, {"name": "adaptive-projected", "guidance_scale": 4, "eta": 0.5}, guider)
    given: dict[str, Any] = {"reward": bright, "sampler": SVDD(M=2), "n": 2, "prompt": "red cat"}
    runs = [guided.sample(wrap(pipeline, steps=K), guider=way, **given) for way in ways]
    loaded = guided.sample(guided.load(pipeline, steps=K, guider=APG), **given)
    assert pixels(runs[0]) == pixels(runs[1]) == pixels(runs[2]) == pixels(loaded)
    assert pixels(runs[0]) != pixels(guided.sample(wrap(pipeline, steps=K), guidance=4.0, **given))
    assert runs[0].stats.network_rows == 2 * 2 * (1 + 2 * (K - 1))


def test_the_record_has_the_guider_and_makes_it_again(tmp_path: Path) -> None:
    model = wrap(build("sd-v"), steps=K)
    given: dict[str, Any] = {"sampler": Unguided(), "n": 2, "prompt": "red cat", "out": tmp_path / "run"}
    run = guided.sample(model, guider=library.AdaptiveProjectedGuidance(guidance_scale=4.0, eta=0.5), **given)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    for place in ("config", "options"):
        assert record[place]["guider"]["name"] == "adaptive-projected" and record[place]["guider"]["eta"] == 0.5
    again = read_options(tmp_path / "run" / "run.json", RunConfig)["guider"]
    assert pixels(guided.sample(model, guider=again, **given)) == pixels(run)  # the folder is resumed
    with pytest.raises(GuidedError, match="guider"):
        guided.sample(model, guider="adaptive-projected?eta=0.25", **given)
    page = tmp_path / "run" / "report.html"
    guided.sample(model, guider=again, report=True, **given)
    assert "guider adaptive-projected" in page.read_text(encoding="utf-8")


def test_a_guider_is_part_of_the_identity() -> None:
    pipeline = build("sd-v")
    plain, some, same, other = (
        wrap(pipeline, steps=K, guider=guider).identity
        for guider in (None, "classifier-free?guidance_scale=3", library.ClassifierFreeGuidance(3.0), "classifier-free")
    )
    assert some == same and len({plain, some, other}) == 3


def test_a_parameter_that_was_set_later_counts() -> None:
    guider = library.ClassifierFreeGuidance(guidance_scale=3.0)
    guider.guidance_scale = 5.0
    guider.disable()
    assert described(guider)["guidance_scale"] == 5.0 and described(guider)["enabled"] is False


def test_an_earlier_prompt_is_guided_anew() -> None:
    pipeline = build("sd-v")
    model = wrap(pipeline, steps=K)
    given: dict[str, Any] = {"sampler": Unguided(), "n": 1, "guider": APG}
    ours = guided.sample(model.prompted(["red cat"]), **given)
    assert pixels(ours) == pixels(guided.sample(model, prompt="red cat", **given))


def test_it_guides_without_a_prompt() -> None:
    """Both sides are the same then, and layers that are changed matter all the same."""
    text = "skip-layer?skip_layer_guidance_layers=[0]&skip_layer_guidance_stop=1"
    model = wrap(build("pixart"), steps=K)
    ours, plain = (guided.sample(model, sampler="unguided", guider=guider) for guider in (text, None))
    assert pixels(ours) != pixels(plain)


class Counting(BaseGuidance):  # type: ignore[misc]
    """Counts its calls."""

    _input_predictions = ["pred_cond"]  # noqa: RUF012  as in the library
    num_conditions = 1
    calls = [0]  # noqa: RUF012

    def prepare_inputs(self, data: Any) -> Any:
        return [self._prepare_batch(data, 0, "pred_cond")]

    def forward(self, pred_cond: torch.Tensor) -> Any:
        self.calls[0] += 1
        return GuiderOutput(pred=self.calls[0] * pred_cond, pred_cond=pred_cond, pred_uncond=None)


class Centred(Counting):
    """Mixes rows."""

    def forward(self, pred_cond: torch.Tensor) -> Any:
        return GuiderOutput(pred=pred_cond - pred_cond.mean(), pred_cond=pred_cond, pred_uncond=None)


class Halved(Counting):
    """A guider of one's own."""

    def forward(self, pred_cond: torch.Tensor) -> Any:
        return GuiderOutput(pred=pred_cond / 2, pred_cond=pred_cond, pred_uncond=None)


REFUSED: list[tuple[Any, str]] = [
    ("adaptive-projected?adaptive_projected_guidance_norm_dim=0", "mixes rows"),
    (
        "adaptive-projected?adaptive_projected_guidance_norm_dim=0&adaptive_projected_guidance_momentum=0.5",
        "mixes rows",
    ),
    ("adaptive-projected?adaptive_projected_guidance_norm_dim=7", "does not work with rows"),
    (Counting(), "from step to step"),
    (Centred(), "mixes rows"),
    (library.LTX2Guidance(), "pred_cond_stg"),
    ("adaptive", "unknown guider 'adaptive' .did you mean .*; it is one of adaptive-projected"),
    ("adaptive-projected?eat=1", "has no 'eat' .did you mean 'eta'.*it takes"),
    ("adaptive-projected?eta=much", "eta of guider 'adaptive-projected' is 'much'; it must be a finite number"),
    ("adaptive-projected?use_original_formulation=2", "must be true or false"),
    ("classifier-free?start=0.5&stop=0.2", "guider 'classifier-free': Expected `stop`"),
    ("classifier-free?start=1&start=2", "given twice"),
    (7, "guider is an int; it must be a guider of diffusers, a name"),
    ({"guidance_scale": 7}, "a mapping with its name"),
    ("skip-layer", "Either `skip_layer_guidance_layers`"),
    ("skip-layer?skip_layer_guidance_layers=[0]&skip_layer_guidance_stop=1", "UNet2DConditionModel: .*`fqn`"),
    (
        'skip-layer?skip_layer_config={"indices": [9], "fqn": "down_blocks.0.attentions.0.transformer_blocks"}'
        "&skip_layer_guidance_stop=1",
        "does not fit UNet2DConditionModel: .*indices",
    ),
    (
        'skip-layer?skip_layer_config={"indices": [0], "fqn": "x"}&skip_layer_guidance_stop=0.1',
        "at none of the 3 steps",
    ),
    ("auto?auto_guidance_layers=[0]&dropout=0.5", "at random"),
    (
        'perturbed-attention?perturbed_guidance_config={"indices": [0], "fqn": "up_blocks"}&perturbed_guidance_stop=1',
        "changes nothing in UNet2DConditionModel",
    ),
]


@pytest.mark.parametrize(("guider", "message"), REFUSED)
def test_what_cannot_guide_says_why(guider: Any, message: str) -> None:
    with pytest.raises(GuidedError, match=message) as error:
        wrap(build("sd-v"), steps=K, guider=guider)
    assert "\n" not in str(error.value)


MOMENTUM = "adaptive-projected?guidance_scale=4&eta=0.3&adaptive_projected_guidance_momentum=-0.5"
REASON = "running average from step to step.*_momentum to None .null on the command line., or sample with unguided"


@pytest.mark.parametrize(
    "sampler",
    [SVDD(M=2), SVDD(M=1), *({"name": name} for name in ("smc", "beam", "particle-gibbs", "noise-search", "refine"))],
)
def test_nothing_branches_where_a_momentum_is_kept(sampler: Any) -> None:
    model = wrap(build("sd-v"), steps=K)
    for guider in (MOMENTUM, "adaptive-projected-mix"):
        with pytest.raises(GuidedError, match=REASON):
            guided.sample(model, bright, sampler, n=1, prompt="red cat", guider=guider)


@pytest.mark.parametrize("sampler", [SVDD(M=2), SMC(N=2)])
def test_nor_where_a_sampler_is_called_itself(sampler: Any) -> None:
    model = wrap(build("sd-v"), steps=K, guider=MOMENTUM).prompted(["red cat"])
    value = PosteriorMean(resolve_reward(bright))
    with pytest.raises(GuidedError, match=REASON):
        sampler(model, value, Streams(0, [0]))


def test_the_first_chain_goes_on_with_its_momentum_where_the_others_end() -> None:
    """As in best of N whose seconds are over; steps without noise, so that chains are the same in any company."""
    ends = []
    for stop in (K, 1, 2):
        model = with_guider(wrap(build("sd-v"), steps=K, eta=0.0), MOMENTUM).prompted(["red cat", "blue dog"])
        particles = model.start(Streams(0, range(2)), 3)
        while not particles.done:
            particles = particles.propose()
            particles = particles.first() if particles.k >= stop else particles
        ends.append(particles.x)
    assert (ends[0] - ends[1]).abs().max() < 1e-5 and (ends[0] - ends[2]).abs().max() < 1e-5


def test_a_momentum_outlasts_a_budget_of_seconds() -> None:
    model = with_guider(wrap(build("sd-v"), steps=K), MOMENTUM)
    run = guided.sample(model, bright, BestOfN(N=3), n=2, prompt="red cat", budget_seconds=1e-3)
    assert len(run.samples) == 2 and run.stats.network_rows < 2 * 3 * 2 * K


def test_independent_chains_have_their_momentum() -> None:
    model = wrap(build("sd-v"), steps=K, micro_batch=3)
    given: dict[str, Any] = {"n": 2, "prompt": "red cat", "guider": MOMENTUM}
    best = guided.sample(model, bright, BestOfN(N=4), **given)
    alone = guided.sample(model, bright, BestOfN(N=4), batch_size=1, **given)
    assert pixels(best) == pixels(alone)
    assert pixels(best) != pixels(guided.sample(model, bright, BestOfN(N=4), **{**given, "guider": APG}))


def test_one_of_ones_own_is_taken() -> None:
    model = wrap(build("sd-v"), steps=K, guider=Halved()).prompted(["red cat"])
    x, t = torch.randn(1, *model.process.event), torch.tensor([model.process.time(1)])
    raw = model.denoiser.network(x, t, **model.requests.conditions.positive)  # type: ignore[attr-defined]
    found = model.predict(x, t, model.requests.conditions)
    assert torch.equal(found, model.denoiser.clean(x, t, raw / 2))  # type: ignore[attr-defined]
    assert model.cost == 1


def test_levels_are_guided_together() -> None:
    pytest.importorskip("kornia")
    for text, message in (
        ("frequency-decoupled?guidance_scales=[4, 2]&start=[0.0, 0.5]", "start must be one number"),
        ("frequency-decoupled?guidance_scales=[4, 1.0]", "other than 1"),
    ):
        with pytest.raises(GuidedError, match=message):
            wrap(build("sd-v"), steps=K, guider=text)


def test_a_weight_beside_a_guider_is_refused() -> None:
    model = wrap(build("sd-v"), steps=K)
    for given, message in (({"guidance": 3.0}, "guidance and guider .*guidance_scale"), ({"rescale": 0.5}, "rescale")):
        with pytest.raises(GuidedError, match=message):
            guided.sample(model, sampler="unguided", prompt="red cat", guider=APG, **given)
    with pytest.raises(GuidedError, match="a guider has its own; give the guider its guidance_scale"):
        with_guider(model, APG).prompted(["red cat"], 3.0)


def test_models_without_two_sides_are_refused(toy: Diffusion) -> None:
    with pytest.raises(GuidedError, match="takes no prompt and no guidance"):
        guided.sample(wrap(build("ddpm"), steps=K), sampler="unguided", guider=APG)
    with pytest.raises(GuidedError, match="takes no guider: only pipelines of latents"):
        guided.sample(toy, sampler="unguided", guider=APG)


@pytest.fixture
def toy() -> Diffusion:
    from tests.toys.pictures import pictures

    found: Diffusion = pictures()
    return found


def test_values_and_training_are_without_guiders(tmp_path: Path) -> None:
    from guided.fitting.value.source import Source

    model = wrap(build("sd-v"), steps=K, guider=APG)
    with pytest.raises(GuidedError, match="has a guider; a value is fitted"):
        Source.of(model, "red cat", None)
    with pytest.raises(GuidedError, match="has a guider; train"):
        guided.train_negative(model, tmp_path / "negative", prompts=["red cat"])


def test_names_are_those_of_the_classes() -> None:
    assert type(read_guider("AdaptiveProjectedGuidance")) is library.AdaptiveProjectedGuidance
    assert type(read_guider("classifier-free-zero-star")) is library.ClassifierFreeZeroStarGuidance
