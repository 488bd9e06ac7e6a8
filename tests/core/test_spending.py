"""Accounts of requests: counted after duplicates, each request for itself."""

import math

import pytest
import torch

from guided.core.budget import Budget
from guided.core.spending import Spending


def claim(spending, index, keys, keep=0):
    paid, new = spending.claim(torch.tensor(index), keys, keep)
    return paid.tolist(), new


def test_a_repeated_sample_is_free_and_another_requests_is_not():
    spending = Spending(2, Budget(calls=2))
    assert claim(spending, [[[0], [0], [1]], [[0], [1], [1]]], "ab") == (
        [[True] * 3, [True] * 3],
        [(0, 0, 0), (0, 2, 0), (1, 0, 0), (1, 1, 0)],
    )
    assert claim(spending, [[[0], [1]], [[1], [1]]], "bc") == ([[True, False], [False, False]], [])
    assert spending.stopped == 2


def test_a_particle_is_scored_by_all_of_its_draws_or_not_at_all():
    spending = Spending(1, Budget(calls=3))
    paid, new = claim(spending, [[[0, 1], [2, 3], [0, 2]]], "abcd")
    assert paid == [[True, False, True]] and new == [(0, 0, 0), (0, 0, 1), (0, 2, 1)]


def test_kept_calls_are_not_given_away():
    spending = Spending(1, Budget(calls=2))
    assert claim(spending, [[[0], [1]]], "ab", keep=1)[0] == [[True, False]]
    assert claim(spending, [[[1]]], "ab")[0] == [[True]]


def test_selected_requests_have_the_same_accounts():
    spending = Spending(3, Budget(rows=10))
    spending.select([2, 0]).count(torch.tensor([0, 0, 1]), cost=2)
    assert [account.rows for account in spending.accounts] == [2, 0, 4]
    assert spending.open(rows=7) == [0, 1] and spending.stopped == 1


def test_the_clock_stops_all(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("guided.core.spending.time.perf_counter", lambda: now[0])
    spending = Spending(2, Budget(seconds=5))
    assert spending.open() == [0, 1] and not spending.over() and spending.stopped == 0
    now[0] = 5.0
    assert spending.open() == [] and spending.over() and spending.stopped == 2


@pytest.mark.parametrize(
    ("budget", "chains"),
    [(Budget(), 8), (Budget(calls=3), 3), (Budget(rows=25), 2), (Budget(rows=4), 1), (Budget(calls=9, rows=70), 7)],
)
def test_chains_that_are_paid_for(budget, chains):
    spending = Spending(1, budget)
    assert spending.chains(8, 10) == chains and spending.stopped == (chains < 8)


def test_found_is_the_call_of_the_first_time():
    spending = Spending(2)
    _, new = spending.claim(torch.tensor([[[0], [1]], [[1], [2]]]), "abc")
    spending.note(new, [[[1.0], [2.0]], [[2.0], [3.0]]])
    assert spending.found(["b", "x"], [2.0, 9.0]) == [2, 3]
    assert [account.rewards for account in spending.accounts] == [[1.0, 2.0], [2.0, 3.0, 9.0]]


def test_the_curve_is_the_running_best_and_the_mean_of_the_ten_best():
    spending = Spending(2)
    first, second = [float(i * 7 % 23) for i in range(23)], [5.0, -math.inf]
    for account, rewards in zip(spending.accounts, (first, second), strict=True):
        account.rewards = rewards
    curve = spending.curve()
    assert [point.call for point in curve] == [1, 2, 3, 5, 7, 10, 20, 23]
    for point in curve:
        seen = first[: point.call]
        assert point.best == (max(seen) + 5) / 2
        ten = sorted(seen)[-10:]
        alone = sum(ten) / len(ten)
        assert point.top == pytest.approx((alone + 5) / 2 if point.call == 1 else alone)  # -inf has no mean
    assert Spending(2).curve() == []
