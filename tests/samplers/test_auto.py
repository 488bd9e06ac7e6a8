"""The table of `auto`: its page says what the code does, each line can be reached, and what is chosen is recorded."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import guided
from guided.core.budget import Budget
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.samplers import SMC, SVDD, Auto, Elite, sampler_to_dict
from guided.samplers.auto import CASES, Asked
from guided.storage import plain
from guided.values.posterior_mean import PosteriorMean
from tests.samplers.test_searches import first, letters
from tests.toys.chains import gaussian
from tests.toys.small import tokens, vectors

PAGE = (Path(__file__).parents[2] / "docs" / "frontier.md").read_text(encoding="utf-8")


def molecules():
    model = tokens().with_steps(4)
    return replace(model, codec=replace(model.codec, modality="molecules"))


def chosen(model, alpha=0.0, valued=False, **budget):
    return Auto(alpha).choose(model, valued, Budget(**budget)).sampler


def test_the_page_ends_with_the_table():
    lines = PAGE.rstrip("\n").split("\n")[-len(CASES) :]
    assert lines == [f"| {case.when} | `{case.name}` | {case.why} |" for case in CASES]


def test_each_line_can_be_reached():
    """Of many things asked for, each line is the first that fits some."""
    asked = [
        Asked(alpha, valued, noisy, tokens, short, apart, 8, 8, Budget(calls, rows))
        for alpha in (0.0, 0.1)
        for valued in (False, True)
        for noisy in (False, True)
        for apart in (False, True)
        for tokens, short in ((True, True), (True, False), (False, False))
        for calls in (None, 5, 25, 1000)
        for rows in (None, 8, 80, 160, 1000)
    ]
    first_fits = [next(i for i, case in enumerate(CASES) if case.fits(it)) for it in asked]
    assert {*first_fits} == {*range(len(CASES))}


@pytest.mark.parametrize(
    ("model", "asked", "name"),
    [
        (tokens, {}, "svdd"),
        (tokens, {"alpha": 0.2}, "smc"),
        (tokens, {"calls": 10}, "best-of-n"),
        (molecules, {}, "elite"),
        (molecules, {"calls": 1000}, "elite"),
        (molecules, {"rows": 20}, "block-best-of-n"),
        (molecules, {"valued": True}, "svdd"),
        (lambda: vectors(conditional=False), {}, "svdd"),
        (lambda: gaussian(5, eta=0.0), {}, "elite"),
    ],
)
def test_what_is_chosen(model, asked, name):
    assert sampler_to_dict(chosen(model(), **asked))["name"] == name


def test_the_size_follows_the_budget():
    model = tokens().with_steps(4)  # chains of at most 4 rows
    assert chosen(model, rows=40) == SVDD(10) and chosen(model, calls=80) == SVDD(20)
    assert chosen(model, alpha=0.2) == SMC(16, 0.2) and chosen(model, alpha=0.2, rows=32).N == 8
    assert chosen(molecules(), calls=10_000) == Elite(32, 100_000, 100)
    assert chosen(molecules(), seconds=10.0).N == 16
    assert chosen(molecules(), calls=40, rows=160).N == 5  # as many chains as calls: the smaller of both


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("budget", [{}, {"budget_calls": 6}, {"budget_calls": 30}, {"budget_rows": 14}], ids=str)
@pytest.mark.parametrize("model", [tokens(), molecules(), vectors(conditional=False)], ids=["tokens", "short", "rows"])
def test_a_run_is_the_one_of_the_sampler_that_is_chosen(model, alpha, budget):
    reward = letters if model.process.tokens is not None else first
    given = {"n": 3, "steps": 4, **budget}
    auto = guided.sample(model, reward, {"name": "auto", "alpha": alpha}, **given)
    limits = {name.removeprefix("budget_"): most for name, most in budget.items()}
    named = guided.sample(model, reward, chosen(model.with_steps(4), alpha, **limits), **given)
    assert auto.rewards.tolist() == named.rewards.tolist() and auto.stats.reward_calls == named.stats.reward_calls
    again = 3 if reward is first else 0  # vectors are nobody's duplicate: the one that is returned is scored again
    assert auto.stats.reward_calls - again <= 3 * budget.get("budget_calls", 999)
    assert auto.stats.network_rows <= 3 * budget.get("budget_rows", 999)


def test_the_choice_is_recorded_and_resumed(tmp_path):
    given = {"reward": letters, "sampler": "auto", "n": 4, "steps": 4, "batch_size": 2, "trust_rewards": True}
    batches = guided.stream(tokens(), out=tmp_path, **given)
    next(batches)
    batches.close()
    guided.sample(tokens(), out=tmp_path, **given)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["sampler"] == plain(sampler_to_dict(SVDD(10))) and record["chosen"].startswith("all else")
    assert record["options"]["sampler"]["name"] == "svdd"  # the same samples, whatever the table says one day
    assert guided.sample(tokens(), letters, SVDD(10), n=4, steps=4, out=tmp_path, trust_rewards=True, batch_size=2)


def test_it_chooses_inside_of_other_samplers_too():
    model, value = tokens().with_steps(4), PosteriorMean(letters)
    found, named = (s(model, value, Streams(0, range(5))).x.tolist() for s in (Auto(), chosen(model)))
    assert found == named


def test_wrong_input():
    with pytest.raises(GuidedError, match="sampler 'auto' has no 'M'; it takes alpha"):
        guided.sample(tokens(), letters, {"name": "auto", "M": 4})
    with pytest.raises(GuidedError, match="alpha is -1"):
        Auto(-1)
    with pytest.raises(GuidedError, match="'auto' needs a reward"):
        guided.sample(tokens(), None, "auto")


def test_the_reasons_are_lines():
    assert all(not re.search(r"[|\n]", case.when + case.why) for case in CASES)
