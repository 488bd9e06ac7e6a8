"""Rewards with gradients: in real numbers they are the same functions, and torch differentiates them."""

import pytest
import torch
from torch.nn.functional import one_hot

from guided.core.codec import Codec
from guided.core.views import EachPrompt
from guided.rewards.images.appearance import brightness, target_colour
from guided.rewards.sequences.activity import activity, specificity
from guided.scoring import registry
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import register_reward


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(registry, "_table", dict(registry._table))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("function", [activity, specificity])
def test_the_oracle_takes_probabilities(function):
    """Of one base each they are sequences; its gradient is that of differences."""
    codes = torch.randint(4, (8, 60), generator=generator())
    p = one_hot(codes, 4).float()
    torch.testing.assert_close(function(p, target="K562"), function(codes, target="K562"), atol=1e-4, rtol=1e-4)
    p = (0.7 * p + 0.3 / 4).requires_grad_()
    step = 1e-2 * torch.randn(p.shape, generator=generator(1))
    (g,) = torch.autograd.grad(function(p, target="K562").sum(), p)
    risen = function((p + step).detach(), target="K562") - function((p - step).detach(), target="K562")
    torch.testing.assert_close(risen, 2 * (g * step).sum((1, 2)).double(), atol=2e-2, rtol=0.1)


@pytest.mark.parametrize("score", [brightness, lambda x: target_colour(x, "teal")])
def test_rewards_of_pixels_take_real_numbers(score):
    pixels = torch.randint(256, (3, 3, 8, 8), generator=generator()).to(torch.uint8)
    pixels[0] = 0  # black, where a root has no slope
    smooth = (pixels.double() / 255).requires_grad_()
    torch.testing.assert_close(score(smooth), score(pixels), atol=1e-6, rtol=1e-6)
    (g,) = torch.autograd.grad(score(smooth).sum(), smooth)
    assert g.isfinite().all() and (g != 0).flatten(1).any(1).all()
    inner = (0.2 + 0.6 * torch.rand(2, 3, 5, 5, generator=generator())).requires_grad_()
    step = 2e-3 * torch.randn(inner.shape, generator=generator(1))
    (g,) = torch.autograd.grad(score(inner).sum(), inner)
    risen = score(inner + step) - score(inner - step)
    torch.testing.assert_close(risen, 2 * (g * step).sum((1, 2, 3)).double(), atol=1e-5, rtol=0.02)


def test_a_video_scores_the_mean_of_its_frames():
    frames = torch.rand(2, 4, 3, 5, 5, generator=generator()).requires_grad_()
    torch.testing.assert_close(brightness(frames), brightness(frames.flatten(0, 1)).view(2, 4).mean(1))


def test_probabilities_of_tokens_become_those_of_nucleotides():
    """In the order of the codes, whatever the model's alphabet; of other letters nothing is left."""
    codec = Codec(tokens=lambda x: torch.tensor([3, 4, 0])[x])
    p = torch.tensor([[[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]]])
    torch.testing.assert_close(codec.relaxed("tokens", p), torch.tensor([[[0.2, 0, 0, 0.5], [0, 0, 0, 0]]]))
    assert codec.relaxes("tokens") and codec.relaxes("latents") and not codec.relaxes("pixels")


def test_the_mean_of_rewards_has_the_mean_of_gradients():
    for name, power in (("one", 1), ("two", 2)):
        register_reward(name, takes="latents", differentiable=True)(lambda x, power=power: x[:, 0] ** power)
    objective = resolve_reward({"one": 1, "two": 3})
    rows = torch.tensor([[2.0, 1.0]]).requires_grad_()
    reward = objective.relaxed(rows, Codec())
    assert reward.tolist() == [(2 + 3 * 4) / 4]
    assert torch.autograd.grad(reward.sum(), rows)[0].tolist() == [[(1 + 3 * 4) / 4, 0.0]]
    assert objective.calls == 0


def test_prompts_are_given_to_rewards_that_want_them():
    @register_reward("asked", takes="latents", differentiable=True)
    def asked(x, prompts=None):
        return x[:, 0] * torch.tensor([len(prompt) for prompt in prompts])

    prompts = EachPrompt.of(["a", "abc"], torch.device("cpu"))
    assert resolve_reward("asked").relaxed(torch.ones(2, 2), Codec(), prompts).tolist() == [1.0, 3.0]


def test_why_there_is_no_gradient():
    assert resolve_reward("brightness").obstacle is None
    for spec, said in (
        ("gc", "reward 'gc' has no gradient; it must be one that is registered with differentiable=True"),
        ("brightness?linear=0,1", "has a transform"),
        (["brightness", "contrast"], "reward 'contrast' has no gradient"),
    ):
        objective = resolve_reward(spec)
        assert said in objective.obstacle
        with pytest.raises(ValueError, match="no gradient"):
            objective.relaxed(torch.ones(1, 2), Codec())
