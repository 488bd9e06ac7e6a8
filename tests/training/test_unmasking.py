"""Orders of unmasking: ReMDM's kernel keeps the marginals, counts are kept, and sampling is exact where it can be."""

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from guided.errors import GuidedError
from tests.toys.chains import Chain
from training import unmasking
from training.unmasking import Counted, Remasked, State, read_order, unmask

RULES = ("cap", "rescale", "conf")
EXACT = Chain(L=2, V=2, seed=3)


def step(order: Any, x: Tensor, p: Tensor, rates: tuple[float, float], seed: int = 0) -> tuple[Tensor, Tensor]:
    new = State(torch.zeros_like(x), torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)))
    return order(State(x, p), x == 2, new, rates, torch.Generator().manual_seed(seed))  # type: ignore[no-any-return]


@given(st.sampled_from(RULES[:2]), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_kernel_of_a_token_keeps_the_marginal(rule: str, eta: float, a: float, b: float) -> None:
    """(1 - m) sigma + m (1 - shown) is the share of masked tokens afterwards, and both are probabilities."""
    now, then = max(a, b), min(a, b)
    if now == 0:
        return
    sigma, shown = Remasked(rule, eta).kernel((now, then))
    assert -1e-9 <= sigma <= 1 and -1e-9 <= shown <= 1 + 1e-9
    assert (1 - now) * sigma + now * (1 - shown) == pytest.approx(then, abs=1e-9)


def transition(order: Remasked, rates: tuple[float, float]) -> Tensor:
    """p(which of two positions are masked then | which are now), given the clean tokens, with shape (4, 4)."""
    P = torch.ones(4, 4, dtype=torch.float64)
    sigma, shown = order.kernel(rates)
    for i, before in enumerate(product((0, 1), repeat=2)):
        for j, after in enumerate(product((0, 1), repeat=2)):
            for m, n in zip(before, after, strict=True):
                stay = 1 - shown if m else sigma
                P[i, j] *= stay if n else 1 - stay
    return P


@pytest.mark.parametrize("rule", RULES[:2])
def test_kernel_keeps_the_forward_process_of_a_chain(rule: str) -> None:
    """q(x_k | x_0) times the kernel is q(x_{k+1} | x_0), for all K steps, over all states of two positions."""
    K, order = 5, Remasked(rule, 0.4)

    def forward(m: float) -> Tensor:
        weights = [math.prod(m if masked else 1 - m for masked in state) for state in product((0, 1), repeat=2)]
        return torch.tensor(weights, dtype=torch.float64)

    for k in range(K):
        rates = 1 - k / K, 1 - (k + 1) / K
        torch.testing.assert_close(forward(rates[0]) @ transition(order, rates), forward(rates[1]))


@pytest.mark.parametrize("rule", RULES)
def test_draws_follow_the_kernel(rule: str) -> None:
    n, rates, order = 20_000, (0.6, 0.5), Remasked(rule, 0.5)
    x = torch.where(torch.rand(n, 4, generator=torch.Generator().manual_seed(1)) < rates[0], 2, 0)
    shown, again = step(order, x, torch.full((n, 4), 0.5), rates)
    masked = x == 2
    assert not (shown & ~masked).any() and not (again & masked).any()
    assert again[~masked].float().mean().item() == pytest.approx(order.kernel(rates)[0], abs=0.01)
    after = (masked & ~shown | again).float().mean().item()
    assert after == pytest.approx(rates[1], abs=0.01)


def test_least_certain_tokens_are_masked_most() -> None:
    n, order, p = 20_000, Remasked("conf", 0.4), torch.tensor([0.1, 0.9, 0.0])
    x = torch.tensor([0, 0, 2]).expand(n, 3)
    _, again = step(order, x, p.expand(n, 3), (0.5, 0.3), seed=2)
    share = again.float().mean(0)
    weight = (-p[:2]).softmax(0) * 2 * order.kernel((0.5, 0.3))[0]
    torch.testing.assert_close(share[:2], weight, atol=0.01, rtol=0)
    assert share[2] == 0


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_as_many_tokens_as_the_schedule_says(chance: float) -> None:
    x = torch.full((50, 6), 2)
    for k in range(4):
        shown, again = step(Counted(chance), x, torch.zeros(50, 6), (1 - k / 4, 1 - (k + 1) / 4), k)
        x = torch.where(shown, 0, x)
        assert not again.any() and set((x == 2).sum(1).tolist()) == {math.ceil(6 - 6 * (k + 1) / 4)}


def test_confident_tokens_come_first() -> None:
    x = torch.full((50, 6), 2)
    shown, _ = step(Counted(0.0), x, torch.zeros(50, 6), (1.0, 0.5), seed=3)
    p = torch.rand(50, 6, generator=torch.Generator().manual_seed(3))
    assert (p.masked_fill(~shown, 9).amin(1) >= p.masked_fill(shown, -9).amax(1)).all()


def conditionals(x: Tensor) -> Tensor:
    return EXACT.conditionals[EXACT.index(x)].float()


@pytest.mark.parametrize(("order", "K"), [(Counted(1.0), 2), (Remasked("rescale", 0.3), 100)])
def test_one_token_at_a_time_is_exact(order: Any, K: int) -> None:
    """With the true conditionals samples follow the table; ReMDM's in the limit of many steps, where two tokens that
    are shown at once are rare.
    """
    x, rows = unmask(conditionals, order, (20_000, 2), 2, K, seed=0)
    share = torch.bincount(x[:, 0] * 2 + x[:, 1], minlength=4) / 20_000
    torch.testing.assert_close(share.double(), EXACT.table, atol=0.015, rtol=0)
    assert K > 2 or rows == 1 + 20_000  # one masked row, and each row with its first token


def test_drawn_tokens_of_the_largest_probability_first_is_not_exact() -> None:
    """Why the order of confidence is no default: it samples another distribution, even with the true conditionals."""
    x, _ = unmask(conditionals, Counted(0.0), (20_000, 2), 2, 2, seed=0)
    share = torch.bincount(x[:, 0] * 2 + x[:, 1], minlength=4) / 20_000
    assert (share.double() - EXACT.table).abs().max() > 0.03


@pytest.mark.parametrize("text", ["random", "random@0", "cap=-1@4", "sorted@4", "cap=x@4"])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(GuidedError, match=f"the order is {text!r}"):
        read_order(text)


def test_command_draws_and_judges(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    judged: list[list[str]] = []
    monkeypatch.setattr(unmasking, "judge_molecules", lambda samples, *_: judged.append(samples) or {"fcd": 0.0})
    unmasking.main("molecules", ["random@4", "half@4", "conf=0.2@4"], n=6, work=Path("."))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["order"] for line in lines] == ["random@4", "half@4", "conf=0.2@4"]
    assert all(1 < line["rows"] < 4 for line in lines) and all(len(samples) == 6 for samples in judged)
    assert unmasking.odd_bonds(["CCO", "CNCl", "COOC", "CC(=O)N"]) == 0.5
    assert lines[1]["rows"] == pytest.approx(19 / 6, abs=0.1)


def test_samples_of_dna_have_a_label_and_guidance() -> None:
    model = unmasking.guided.load("rna", device="cpu")
    one, two = (unmasking.sample(model, "confident@3", 4, "human", w) for w in (1.0, 2.0))
    assert two[1] == 2 * one[1] and one[0] != two[0]
    assert all(len(s) == 50 and set(s) <= set("ACGU") for s in one[0] + two[0])
