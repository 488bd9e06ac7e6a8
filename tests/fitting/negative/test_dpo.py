"""Flipped direct preference optimization: its start, its first step in closed form, its pairs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.core.gaussian import Gaussian
from guided.core.guidance import Conditions
from guided.core.masked import Masked
from guided.fitting.negative.dpo import FlippedDPO, pairs_of
from tests.toys.small import Numbers, Vector, cosine

N = 40


def gaussian():
    return Gaussian((2,), *cosine(5), grid=cosine)


def test_the_loss_begins_at_log_2():
    net, x = Vector(), torch.randn(N, 2, 2, generator=torch.Generator().manual_seed(0))
    cond = Conditions({"c": torch.zeros(N, 1)}, {"c": torch.ones(N, 1)})
    losses = FlippedDPO(T=8).losses(gaussian(), net, net, x, cond, Numbers(N))
    assert losses.tolist() == pytest.approx([math.log(2)] * N, rel=1e-6)
    y = torch.randn(3, 4).log_softmax(-1)
    tokens = torch.randint(0, 4, (N, 2, 3))
    losses = FlippedDPO().losses(
        Masked(3, 4), *[lambda x, t: y.expand(len(x), 3, 4)] * 2, tokens, Conditions(), Numbers(N)
    )
    assert losses.tolist() == pytest.approx([math.log(2)] * N, rel=1e-6)


def test_the_first_step_leads_from_the_better_sample_to_the_worse_one():
    """For a student that says m whatever it sees the gradient at the start is beta / (2 d) (alpha / sigma)^2
    (better - worse): the error of the noise is (alpha / sigma)^2 of that of the clean mean, a mean over d numbers.
    """
    x = torch.randn(N, 2, 2, generator=torch.Generator().manual_seed(0))
    m, seen = torch.tensor([0.3, -0.2], requires_grad=True), []

    def student(x, t):
        seen.append((x, t))
        return m.expand(len(x), 2)

    losses = FlippedDPO(beta=3.0, T=8).losses(
        gaussian(), student, lambda x, t: m.detach().expand(len(x), 2), x, Conditions(), Numbers(N)
    )
    losses.sum().backward()
    noisy, t = (part.view(N, 2, -1) for part in seen[0])
    assert bool((t[:, 0] == t[:, 1]).all()) and len(t[:, 0].unique()) > 5
    alpha = torch.cos(math.pi / 2 * 0.999 * t)
    sigma = (1 - alpha**2).sqrt()
    noise = (noisy - alpha * x) / sigma
    torch.testing.assert_close(noise[:, 0], noise[:, 1], rtol=1e-2, atol=1e-3)  # a pair has the same
    better, worse = x.unbind(1)
    wanted = 3.0 / (2 * 2) * ((alpha / sigma)[:, 0] ** 2 * (better - worse)).sum(0)
    torch.testing.assert_close(m.grad, wanted, rtol=1e-3, atol=1e-4)


def test_the_first_step_of_a_masked_model_makes_the_worse_tokens_likelier():
    """The gradient of the logits at a masked position is beta / (4 h) (onehot(better) - onehot(worse)), h masked."""
    x = torch.randint(0, 4, (N, 2, 3), generator=torch.Generator().manual_seed(0))
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    said, seen = logits.expand(2 * N, 3, 4).clone().requires_grad_(True), []

    def student(x, t):
        seen.append((x, t))
        return said.log_softmax(-1)

    FlippedDPO(beta=6.0).losses(
        Masked(3, 4), student, lambda x, t: logits.log_softmax(-1).expand(len(x), 3, 4), x, Conditions(), Numbers(N)
    ).sum().backward()
    hidden = (seen[0][0] == 4).view(N, 2, 3)
    assert torch.equal(hidden[:, 0], hidden[:, 1])  # a pair has the same masks
    shown = ~hidden
    assert torch.equal(seen[0][0].view(N, 2, 3)[shown], x[shown])
    # of one side alone: d cross entropy / d logits is p - onehot, and the better side's has the other sign
    p = logits.softmax(-1)
    off = p - torch.nn.functional.one_hot(x, 4)
    share = hidden / hidden.sum(2, keepdim=True).clamp(min=1)
    wanted = 0.5 * 0.5 * 6.0 * share[..., None] * off * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(said.grad.view(N, 2, 3, 4), wanted)
    assert 0.3 < hidden.double().mean() < 0.7


@pytest.mark.parametrize(("schedule", "share"), [("log-linear", 0.5), ("cosine", 2 / math.pi)])
def test_masks_are_those_of_the_schedule_at_a_uniform_time(schedule, share):
    n, length = 4000, 6
    x, seen = torch.zeros(n, 2, length, dtype=torch.long), []

    def network(x, t):
        seen.append((x, t))
        return torch.zeros(len(x), length, 4).log_softmax(-1)

    FlippedDPO().losses(Masked(length, 4, schedule=schedule), network, network, x, Conditions(), Numbers(n))
    masked = (seen[0][0] == 4).double().view(n, 2, length)[:, 0].mean(1)
    assert float(masked.mean()) == pytest.approx(share, abs=5 * float(masked.std()) / n**0.5)


def test_a_step_makes_the_worse_sample_likelier():
    """Of a network: its error on the worse sample falls against that on the better one, with fresh noise."""
    net, x = Vector(), torch.tensor([[[2.0, 0.0], [-2.0, 0.0]]]).expand(400, 2, 2)
    start, cond = Vector(), Conditions({"c": torch.zeros(400, 1)})
    method = FlippedDPO(beta=1.0, T=8)
    method.losses(gaussian(), net, start, x, cond, Numbers(400)).mean().backward()
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.02 * p.grad
    with torch.no_grad():
        after = method.losses(gaussian(), net, start, x, cond, Numbers(400, seed=1)).mean()
        errors = [
            [(n(torch.zeros(1, 2), torch.ones(1), torch.zeros(1, 1)) - x[0, i]).square().sum() for i in (0, 1)]
            for n in (start, net)
        ]
    assert after < math.log(2) - 1e-4
    assert errors[1][1] < errors[0][1] and errors[1][0] > errors[0][0]


def test_larger_beta_weighs_the_same_errors_more():
    x = torch.randn(N, 2, 2, generator=torch.Generator().manual_seed(0))
    student, teacher, cond = Vector(1), Vector(0), Conditions({"c": torch.zeros(N, 1)})
    with torch.no_grad():
        one, four = (
            FlippedDPO(beta=b, T=8).losses(gaussian(), student, teacher, x, cond, Numbers(N)) for b in (0.05, 0.2)
        )
    inside = [-loss.double().expm1().log() for loss in (one, four)]  # of the sigmoid
    within = (inside[1].abs() > 1e-2) & (inside[1].abs() < 8)
    assert within.sum() > N / 2
    torch.testing.assert_close(4 * inside[0][within], inside[1][within], rtol=1e-2, atol=1e-3)


rows = st.lists(
    st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan, -math.inf])),
    min_size=1,
    max_size=12,
)


@given(rows)
def test_pairs(rows):
    """Of the same group, the better one first, each sample in one pair at most, the best with none better than it."""
    groups, rewards = [group for group, _ in rows], torch.tensor([reward for _, reward in rows])
    value = [r if math.isfinite(r) else -math.inf for r in rewards.tolist()]
    different = any(groups[i] == groups[j] and value[i] != value[j] for i in range(len(rows)) for j in range(len(rows)))
    if not different:
        with pytest.raises(ValueError, match="no two"):
            pairs_of(rewards, groups)
        return
    pairs = pairs_of(rewards, groups)
    assert pairs.ndim == 2 and pairs.shape[1] == 2 and len(pairs.flatten().unique()) == pairs.numel()
    for better, worse in pairs.tolist():
        assert groups[better] == groups[worse] and value[better] > value[worse]
    for group in set(groups):
        mine = [i for i, g in enumerate(groups) if g == group]
        inside = [pair for pair in pairs.tolist() if pair[0] in mine]
        top = max(value[i] for i in mine)
        if min(value[i] for i in mine) < top:
            assert any(value[better] == top for better, _ in inside)
            assert any(value[worse] == min(value[i] for i in mine) for _, worse in inside)


def test_an_odd_one_in_the_middle_is_left_out():
    pairs = pairs_of(torch.tensor([1.0, 5.0, 3.0, 2.0, 4.0]), [0] * 5)
    assert pairs.tolist() == [[1, 3], [4, 0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [({"beta": 0.0}, "beta is 0"), ({"beta": -1}, "beta is -1"), ({"T": 1}, "T is 1"), ({"p": -0.5}, "p is -0.5")],
)
def test_hyperparameters_out_of_range(given, message):
    with pytest.raises(ValueError, match=message):
        FlippedDPO(**given)
