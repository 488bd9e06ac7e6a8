"""Rewards that are given the prompts of their samples."""

from collections.abc import Sequence

import pytest
import torch

import guided
from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.core.prompting import Prompting
from guided.core.random import Streams
from guided.samplers import SVDD
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import parameters_of, takes_prompts
from guided.values.posterior_mean import PosteriorMean

LETTERS = "ACGT"


def share(sequences: Sequence[str], scale: float = 1.0, prompts: Sequence[str] | None = None) -> list[float]:
    """The share of the prompt's base."""
    assert prompts is not None and len(prompts) == len(sequences)
    return [scale * s.count(p) / len(s) for s, p in zip(sequences, prompts, strict=True)]


def blind(sequences: Sequence[str]) -> list[float]:
    return [float(s.count("A")) for s in sequences]


def model(conditions: bool) -> Diffusion:
    def denoiser(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return torch.zeros(*x.shape, 4).log_softmax(-1)

    def condition(prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"label": torch.tensor([LETTERS.index(p) for p in prompts])} if conditions else {}

    def decode(x: torch.Tensor) -> list[str]:
        return ["".join(LETTERS[i] for i in row) for row in x.tolist()]

    return Diffusion(denoiser, Masked(12, 4, steps=8), Codec(decode), Prompting(condition, "A"), timed=False)


@pytest.mark.parametrize("conditions", [True, False])
def test_each_request_is_steered_to_its_own_prompt(conditions: bool) -> None:
    """Also where the model itself ignores the prompt, and requests share the rows of the network."""
    prompts = ["A", "T", "G", "C"] * 2
    run = guided.sample(model(conditions), reward=share, sampler=SVDD(M=20), n=8, prompt=prompts, batch_size=8)
    own = [s.count(p) / 12 for s, p in zip(run.samples, prompts, strict=True)]
    assert run.rewards.tolist() == pytest.approx(own)
    assert min(own) > 0.5  # 0.25 of an unguided sample


def test_one_prompt_for_all_is_each_samples_prompt() -> None:
    run = guided.sample(model(True), reward=share, sampler="unguided", n=3, prompt="G")
    assert run.rewards.tolist() == pytest.approx([s.count("G") / 12 for s in run.samples])


@pytest.mark.parametrize("draws", [1, 3])
def test_samples_do_not_depend_on_the_requests_beside_them(draws: int) -> None:
    prompts = ["A", "T", "G", "C", "A"]
    whole, parts = (
        guided.sample(
            model(False), reward=share, sampler=SVDD(M=5, alpha=0.1), n=5, prompt=prompts, draws=draws, batch_size=size
        )
        for size in (5, 2)
    )
    assert whole.samples == parts.samples


def test_equal_samples_with_different_prompts_have_scores_of_their_own() -> None:
    objective = resolve_reward({share: 1.0, blind: 1.0})
    assert objective.prompted
    assert objective(["AAAC"] * 3, ["A", "C", "A"]).tolist() == pytest.approx([3.75 / 2, 3.25 / 2, 3.75 / 2])
    assert objective.calls == 2
    assert objective(["AAAC"], ["C"]).tolist() == pytest.approx([3.25 / 2]) and objective.calls == 2


def test_prompts_do_not_split_a_reward_that_does_not_ask() -> None:
    objective = resolve_reward(blind)
    objective(["AAAC"] * 2, ["A", "C"])
    assert not objective.prompted and objective.calls == 1


def test_failing_batch_is_repeated_sample_by_sample_with_its_prompts() -> None:
    def picky(sequences: Sequence[str], prompts: Sequence[str] | None = None) -> list[float]:
        assert prompts is not None and len(prompts) == len(sequences)
        if "C" in prompts:
            raise RuntimeError("no C")
        return [float(ord(p)) for p in prompts]

    objective = resolve_reward(picky, on_error="worst")
    scores = objective(["AA", "CC", "GG"], ["A", "C", "G"])
    assert scores.tolist() == [65.0, -torch.inf, 71.0]


def test_prompts_are_no_parameter_of_the_user() -> None:
    assert takes_prompts(share) and not takes_prompts(blind)
    assert list(parameters_of(share)) == ["scale"]


def test_wrong_number_of_prompts_is_refused() -> None:
    with pytest.raises(ValueError, match="2 prompts for 1 samples"):
        resolve_reward(share)(["AAA"], ["A", "C"])


def test_value_without_prompts_passes_none() -> None:
    seen: list[object] = []

    def reward(sequences: Sequence[str], prompts: Sequence[str] | None = None) -> list[float]:
        seen.append(prompts)
        return [0.0] * len(sequences)

    plain = Diffusion(model(True).denoiser, Masked(12, 4, steps=2), model(True).codec, timed=False)
    guided.sample(plain, reward=reward, sampler=SVDD(M=2), n=1)
    assert seen and set(seen) == {None}
    particles = plain.restart(torch.zeros(2, 1, 12, dtype=torch.long), 2, Streams(0, [0, 1]))
    assert PosteriorMean(resolve_reward(reward))(particles).tolist() == [[0], [0]]


def test_each_request_is_led_away_from_its_own_negative_prompt() -> None:
    """In every batch, and where only some of the requests are drawn."""
    probabilities = torch.eye(4) * 0.7 + 0.075

    def encode(prompts: Sequence[str | None]) -> dict[str, torch.Tensor]:
        rows = [probabilities[LETTERS.index(prompt)] if prompt else torch.full((4,), 0.25) for prompt in prompts]
        return {"p": torch.stack(rows).log()}

    model = Diffusion(
        lambda x, t, p: p[:, None].expand(len(x), 12, 4),
        Masked(12, 4, 4),
        Codec(lambda x: ["".join(LETTERS[i] for i in row) for row in x.tolist()]),
        Prompting(encode, guidance=3.0),
        timed=False,
    )
    given = {"prompt": list("ACGTAC"), "negative_prompt": list("CGTACA"), "n": 6, "sampler": "unguided"}
    whole = guided.sample(model, **given)
    assert guided.sample(model, batch_size=2, **given).samples == whole.samples
    assert guided.sample(model, batch_size=4, only=[1, 4, 5], **given).samples == [whole.samples[i] for i in (1, 4, 5)]
    for i, (prompt, away) in enumerate(zip(given["prompt"], given["negative_prompt"], strict=True)):
        alone = guided.sample(model, **{**given, "prompt": prompt, "negative_prompt": away}, only=[i])
        assert alone.samples == [whole.samples[i]]
    other = guided.sample(model, **{**given, "negative_prompt": ["T"] * 6})
    assert other.samples != whole.samples


def test_none_among_prompts_is_no_prompt() -> None:
    """For a model whose unconditional prompt is a label too, and by guidance as well."""
    for weight in (None, 3.0):
        options = {"n": 4, "sampler": "unguided", "steps": 4, "guidance": weight}
        runs = [guided.sample("rna", prompt=p, **options) for p in (["human", None] * 2, ["human", "none"] * 2)]
        assert runs[0].samples == runs[1].samples
