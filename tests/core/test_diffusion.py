"""What the network evaluates: every row once, at the right time, with its own request's conditions."""

import math
from dataclasses import replace

import pytest
import torch

from guided.core.batching import Evaluator
from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian
from guided.core.guidance import Conditions, Guidance, Guided
from guided.core.masked import Masked
from guided.core.prompting import Prompting
from guided.core.random import Streams
from guided.samplers import SVDD, BestOfN, Unguided
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Chain, Counting, gaussian

B, M, K = 3, 8, 25


def reward(x):
    return x[:, 0]


class Learned:
    """A value of the noisy particle alone."""

    def __call__(self, particles, alpha):
        return particles.x[..., 0].double()


def masked(K=64, L=8, V=4, timed=False, seed=0):
    """A random network, without the ties of a constant one."""
    w = torch.randn(L * (V + 1), L * V, generator=torch.Generator().manual_seed(seed))

    def denoiser(x, t):
        h = torch.nn.functional.one_hot(x, V + 1).float().flatten(1) @ w
        return h.view(-1, L, V).log_softmax(-1)

    return Diffusion(Counting(denoiser), Masked(L, V, K), timed=timed)


def first(x):
    return (x == 0).double().sum(1)


def test_network_rows_of_a_continuous_model():
    """SVDD-PM costs B + B M (K - 1) rows, a learned value B K, best-of-N B N K, unguided B K."""
    streams = lambda: Streams(0, range(B))  # noqa: E731
    for sampler, value, rows in (
        (SVDD(M), PosteriorMean(reward), B + B * M * (K - 1)),
        (SVDD(M), Learned(), B * K),
        (BestOfN(M), PosteriorMean(reward), B * M * K),
        (Unguided(), None, B * K),
    ):
        model = gaussian(K)
        sampler(model, value, streams())
        assert model.denoiser.rows == model.monitor.network_rows == rows


def test_decodes_of_a_continuous_model():
    """M (K - 1) look-aheads: candidates of the last, noiseless step are equal, so their values are not computed."""
    scored = []
    SVDD(M)(gaussian(K), PosteriorMean(lambda x: scored.append(len(x)) or x[:, 0]), Streams(0, range(B)))
    assert sum(scored) == B * M * (K - 1)


def test_look_ahead_on_some_steps_only():
    scored = []
    sampler = SVDD(M, every=4, interval=(0.25, 1.0))
    model = masked(K=16)
    sampler(model, PosteriorMean(lambda x: scored.append(len(x)) or first(x)), Streams(0, range(B)))
    assert len(scored) == 3


def steps_with_look_ahead(model, sampler):
    seen = []

    class Spy:
        def __call__(self, particles, alpha):
            seen.append(particles.k - 1)
            return torch.zeros(particles.x.shape[:2], dtype=torch.float64)

    sampler(model, Spy(), Streams(0, [0]))
    return seen


def test_which_steps_look_ahead():
    """Every j-th, counted back from the last that has noise; the interval is half open."""
    assert steps_with_look_ahead(masked(K=16), SVDD(M, every=4, interval=(0.25, 1.0))) == [7, 11, 15]
    assert steps_with_look_ahead(masked(K=4), SVDD(M, interval=(0, 0.5))) == [0, 1]
    assert steps_with_look_ahead(gaussian(25), SVDD(M, every=4)) == [3, 7, 11, 15, 19, 23]
    with pytest.raises(ValueError, match="none of the 4 steps has a look-ahead"):
        steps_with_look_ahead(masked(K=4), SVDD(M, interval=(0.3, 0.4)))


def test_schedules_of_candidates_and_temperature():
    seen = []

    class Spy:
        def __call__(self, particles, alpha):
            seen.append((particles.k, particles.x.shape[1], alpha))
            return first(particles.x.flatten(0, 1)).view(particles.x.shape[:2])

    SVDD(M=(1, 2, 4), alpha=(1.0, 0.5))(masked(K=6), Spy(), Streams(0, [0]))
    assert seen == [(3, 2, 1.0), (4, 2, 0.5), (5, 4, 0.5), (6, 4, 0.5)]


def test_equal_rows_are_evaluated_once_and_parents_not_again():
    """No row reaches the network twice within a request's path, from parent to child or among siblings."""
    model = masked()
    SVDD(M)(model, PosteriorMean(first), Streams(0, [0]))
    for before, after in zip(model.denoiser.seen, model.denoiser.seen[1:], strict=False):
        assert len(after.unique(dim=0)) == len(after)
        assert before.ndim == after.ndim
    timed = masked(timed=True)
    SVDD(M)(timed, PosteriorMean(first), Streams(0, [0]))
    assert model.denoiser.rows < 0.8 * timed.denoiser.rows < 0.8 * (1 + M * 63)


def test_reuse_changes_no_sample():
    """Parents' outputs are what the network would return: timed and untimed models of one network agree."""
    samples = [SVDD(M, alpha=0.3)(masked(timed=t), PosteriorMean(first), Streams(3, range(5))).x for t in (False, True)]
    assert torch.equal(*samples)


def test_unconditional_requests_share_the_first_row():
    model = masked()
    model.start(Streams(0, range(10))).propose()
    assert model.denoiser.rows == 1


def test_requests_of_different_conditions_share_no_row():
    """The same all-masked row, and each request gets the output of its own condition."""
    denoiser = Counting(lambda x, t, mu: mu[:, None, :].expand(*x.shape, 4))
    model = Diffusion(denoiser, Masked(6, 4, 4), timed=False).with_requests(
        conditions=Conditions({"mu": torch.eye(3, 4)})
    )
    particles = model.start(Streams(0, range(3)), 5)
    y = particles.outputs.y[particles.outputs.index]
    assert denoiser.rows == 3
    assert torch.equal(y[:, 0, 0], torch.eye(3, 4)) and torch.equal(y[:, 4, 5], torch.eye(3, 4))


def test_conditions_follow_their_rows_through_micro_batches():
    denoiser = Counting(lambda x, t, mu: x * 0 + mu)
    cond = {"mu": torch.arange(3.0)[:, None].expand(3, 2)}
    model = replace(gaussian(), denoiser=denoiser, evaluator=Evaluator(4)).with_requests(conditions=Conditions(cond))
    out = model.evaluate(torch.zeros(3, 5, 2), 0)
    y = out.y[out.index]
    assert denoiser.largest == 4
    assert y[:, 0, 0].tolist() == [0, 1, 2] and y[:, 4, 1].tolist() == [0, 1, 2]
    assert model.select([2, 0]).requests.conditions.positive["mu"][:, 0].tolist() == [2, 0]


@pytest.mark.parametrize("make", [gaussian, masked])
def test_candidates_stay_beside_their_parents(make):
    model = make(K=6)
    particles = model.start(Streams(0, range(2)), 3).propose().propose()
    after = particles.propose(4)
    assert after.x.shape[:2] == (2, 12)
    if make is gaussian:  # three parents far apart, and hardly any noise
        process = replace(model.process, eta=1e-3)
        far = (torch.arange(3) * 100.0)[None, :, None].expand(2, 3, 2)
        near = process.propose(far, far, 1, 4, Streams(0, range(2))).view(2, 3, 4, 2)
        assert near.std(2).max() < 5 and near.mean(2).std(1).min() > 50
    else:
        parent = particles.x.repeat_interleave(4, 1)
        assert (parent != 4).any() and torch.equal(after.x[parent != 4], parent[parent != 4])


def test_draws_and_tokens_belong_to_their_particle():
    model = masked(K=4)
    particles = model.start(Streams(0, range(2)), 5).propose().propose()
    draws, parent = particles.draw(3), particles.x.repeat_interleave(3, 1)
    assert torch.equal(draws[parent != 4], parent[parent != 4])
    y = torch.full((1, 2, 8, 4), -50.0)  # the first particle can only say 0, the second only 1
    y[0, 0, :, 0] = y[0, 1, :, 1] = 0.0
    x = torch.full((1, 2, 8), 4)
    assert model.process.draw(x, y, 3, Streams(0, [0]))[0, :, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_each_particle_keeps_one_of_its_own_candidates():
    class Last:
        def __call__(self, particles, alpha):
            return torch.arange(particles.x.shape[1]).expand(len(particles.x), -1).double()

    candidates = masked(K=6).start(Streams(0, range(2)), 3).propose(4)
    assert SVDD(4).choose(candidates, Last(), 0.0, 4).tolist() == [[3, 7, 11]] * 2


def test_several_particles_with_conditions_get_what_the_network_says():
    """Through steps, candidates, selections and reuse: the outputs are those of a fresh evaluation."""

    def denoiser(x, t, c):
        return (torch.nn.functional.one_hot(x, 5).float().cumsum(1)[..., :4] * c[:, None]).log_softmax(-1)

    cond = {"c": torch.tensor([[1.0], [-2.0], [3.0]])}
    model = Diffusion(Counting(denoiser), Masked(6, 4, 12), timed=False).with_requests(conditions=Conditions(cond))
    particles, most = model.start(Streams(0, range(3)), 2), 0
    while not particles.done:
        outputs = particles.outputs
        fresh = [denoiser(row, None, cond["c"][b].expand(2, 1)) for b, row in enumerate(particles.x)]
        torch.testing.assert_close(outputs.y[outputs.index], torch.stack(fresh))
        candidates = particles.propose(5)
        assert (candidates.look_ahead().rows < 4).all()
        most = max(most, len(candidates.look_ahead()))
        particles = candidates.take(torch.tensor([[1, 7]] * 3))
    assert most <= 3 * 2 * 5
    assert model.denoiser.rows < 3 * 2 * 5 * 12


def test_a_candidate_like_its_parent_costs_nothing_even_when_it_was_taken_unseen():
    model = masked(K=500)
    particles = model.start(Streams(0, [0]), 2)
    particles.outputs  # noqa: B018  (asked for, so that it is known)
    rows = model.denoiser.rows
    same = particles.propose(3).take(torch.tensor([[0, 5]]))
    changed = (same.x != 4).any(-1).sum().item()
    same.outputs  # noqa: B018
    assert model.denoiser.rows - rows <= changed
    assert all(len(x) for x in model.denoiser.seen)


def test_restart_is_at_its_step_and_the_end_is_the_end():
    model = masked(K=5)
    x = torch.zeros(1, 1, 8, dtype=torch.long)
    assert model.restart(x, 3, Streams(0, [0])).k == 3
    with pytest.raises(ValueError, match="no further"):
        model.restart(x, 5, Streams(0, [0])).propose()


def test_no_network_row_for_draws_at_the_end():
    model = masked(K=3)
    SVDD(2)(model, PosteriorMean(first, draws=3), Streams(0, [0]))
    assert all((x == 4).any() for x in torch.cat(model.denoiser.seen))


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (lambda x, t: torch.zeros(*x.shape, 5), r"shape \(1, 8, 5\).*\(1, 8, 4\): log-probabilities"),
        (lambda x, t: torch.zeros(len(x), 4), "log-probabilities"),
        (lambda x, t: x, "torch.int64"),
        (lambda x, t: x.numpy(), "a ndarray"),
        (lambda x, t: torch.full((*x.shape, 4), torch.nan), "nan"),
    ],
)
def test_what_a_denoiser_must_not_return(denoiser, message):
    model = Diffusion(denoiser, Masked(8, 4, 4), timed=False)
    with pytest.raises(ValueError, match=message):
        Unguided()(model, None, Streams(0, [0]))


def test_a_clean_mean_is_not_broadcast():
    model = replace(gaussian(), denoiser=lambda x, t: x[:, :1])
    with pytest.raises(ValueError, match="the clean means"):
        Unguided()(model, None, Streams(0, [0]))


@pytest.mark.parametrize("make", [gaussian, masked])
@pytest.mark.parametrize("sampler", [SVDD(M), SVDD(M, alpha=0.5), BestOfN(4), Unguided()])
def test_a_request_is_the_same_in_any_company(make, sampler):
    """Micro-batches, the number of requests and their order change no sample."""
    value = PosteriorMean(reward if make is gaussian else first)

    def draw(requests, size):
        model = replace(make(K=20), evaluator=Evaluator(size))
        return sampler(model, replace(value, evaluator=Evaluator(size)), Streams(7, requests)).x[:, 0]

    together = draw(range(6), None)
    torch.testing.assert_close(draw(range(6), 5), together)
    torch.testing.assert_close(draw([4, 1], 1), together[[4, 1]])
    assert len(together.unique(dim=0)) > 3


def test_out_of_memory_halves_the_micro_batch_and_goes_on():
    def fn(rows):
        if rows.stop - rows.start > 3:
            raise torch.OutOfMemoryError("no memory")
        return torch.arange(rows.start, rows.stop)

    evaluator = Evaluator()
    assert evaluator(fn, 29).tolist() == list(range(29))
    assert evaluator.size == 3
    assert Evaluator(5)(lambda rows: torch.zeros(rows.stop - rows.start), 0).shape == (0,)
    with pytest.raises(torch.OutOfMemoryError):
        evaluator(lambda rows: (_ for _ in ()).throw(torch.OutOfMemoryError("none")), 5)
    with pytest.raises(RuntimeError, match="shape"):  # any other error is no reason to go on
        Evaluator()(lambda rows: (_ for _ in ()).throw(RuntimeError("shape")), 5)


def test_time_of_the_look_ahead_is_the_candidates():
    """At k = 0 the parent is evaluated at t_0, its candidates at t_1; nothing is evaluated at t_K."""
    times = []

    def denoiser(x, t):
        times.append((float(t[0]), len(t)))
        return x * 0

    model = Diffusion(denoiser, Gaussian((1,), [0.1, 0.5, 1.0], [0.9, 0.5, 0.0], [30.0, 20.0, 10.0]))
    SVDD(4)(model, PosteriorMean(lambda x: x[:, 0]), Streams(0, [0]))
    assert times == [(30.0, 1), (20.0, 4)]


def test_guidance():
    positive, negative = (lambda x, t, c: x + c), (lambda x, t, c: x - c)
    x, t, c = torch.zeros(2, 2), torch.ones(2), torch.tensor([[1.0], [2.0]])
    assert torch.equal(Guided(positive, 1.0, negative)(x, t, c=c), positive(x, t, c))
    assert torch.equal(Guided(positive, 0.0, negative)(x, t, c=c), negative(x, t, c))
    assert torch.equal(Guided(positive, 3.0, negative)(x, t, c=c), 5 * c.expand(2, 2))
    with pytest.raises(ValueError, match="finite"):
        Guided(positive, math.inf)


def test_guided_log_probabilities_stay_numbers():
    """Tokens that one side rules out, or both: never nan, and what the positive side rules out stays impossible."""
    p = torch.tensor([[[0.5, 0.5, 0.0, 0.0]]]).log()
    q = torch.tensor([[[0.4, 0.0, 0.6, 0.0]]]).log()
    y = Guided(lambda x, t: p, 2.0, lambda x, t: q)(torch.zeros(1, 1), torch.zeros(1)).softmax(-1)
    expected = torch.tensor([0.5**2 / 0.4, 0.5, 0.0, 0.0])
    torch.testing.assert_close(y[0, 0], expected / expected.sum())


@pytest.mark.parametrize("weight", [-2.0, -0.5, 0.0, 0.5])
def test_below_a_weight_of_1_a_token_is_out_that_the_negative_side_rules_out(weight: float) -> None:
    """There its exponent, 1 - w, is above 0; as its probability falls, the formula goes to zero."""
    p = torch.tensor([[[0.5, 0.3, 0.2, 0.0]]]).log()
    q = torch.tensor([[[0.4, 0.0, 0.4, 0.2]]])
    y, near = (
        Guided(lambda x, t: p, weight, lambda x, t, q=q: q.log())(torch.zeros(1, 1), torch.zeros(1)).softmax(-1)
        for q in (q, q + torch.tensor([0.0, 1e-30, 0.0, 0.0]))
    )
    assert y[0, 0, 1] == 0 and y[0, 0, 3] == 0
    torch.testing.assert_close(y, near, atol=1e-6, rtol=1e-4)


def test_where_both_sides_together_leave_nothing_the_positive_side_is_taken() -> None:
    p, q = torch.tensor([[[0.6, 0.4, 0.0]]]).log(), torch.tensor([[[0.0, 0.0, 1.0]]]).log()
    y = Guided(lambda x, t: p, -1.0, lambda x, t: q)(torch.zeros(1, 1), torch.zeros(1))
    torch.testing.assert_close(y.softmax(-1), p.exp())


def test_prompting_again_replaces_the_prompts():
    model = replace(gaussian(), prompting=Prompting(lambda p: {"c": torch.tensor([[float(len(q))] for q in p])}))
    once = model.prompted(["a"], 2.0)
    again = once.prompted(["bb", "c"], 3.0)
    assert again.requests.guidance == Guidance(3.0) and again.guided().cost == 2
    plain = again.prompted(["d"])
    assert plain.denoiser is again.denoiser is model.denoiser and plain.guided() is None


def test_the_unconditional_prompt_is_the_models_own():
    def condition(prompts):
        assert set(prompts) <= {"cat", "none"}
        return {"c": torch.tensor([[1.0 if q == "cat" else -1.0] for q in prompts])}

    model = replace(gaussian(), prompting=Prompting(condition, "none")).prompted(["cat"], 2.0)
    assert model.requests.conditions.negative["c"].tolist() == [[-1.0]]


@pytest.mark.parametrize("M", [4, 5])
def test_classifier_free_guidance_pairs_each_row_with_its_own_prompt(M):
    """One doubled call; conditional minus unconditional is that of the row's own prompt for every candidate."""
    network = Counting(lambda x, t, c: x * 0 + c)
    labels = {"a": 1.0, "b": 5.0, "": 0.5}
    model = replace(
        gaussian(K), denoiser=network, prompting=Prompting(lambda p: {"c": torch.tensor([[labels[q]] for q in p])})
    ).prompted(["a", "b"], guidance=2.0)
    out = model.evaluate(torch.zeros(2, M, 2), 0)
    y = out.y[out.index]
    assert network.calls == 1 and network.rows == model.monitor.network_rows == 2 * 2 * M
    torch.testing.assert_close(y[0], torch.full((M, 2), 0.5 + 2 * 0.5))
    torch.testing.assert_close(y[1], torch.full((M, 2), 0.5 + 2 * 4.5))
    with pytest.raises(ValueError, match="unconditional"):
        gaussian().prompted(["a"])


def test_rewards_of_equal_samples_are_asked_once_and_wrong_lengths_told():
    scored = []
    chain = Chain(K=8)
    SVDD(16)(chain.model(), PosteriorMean(lambda x: scored.append(x) or first(x)), Streams(0, range(6)))
    assert all(len(x.unique(dim=0)) == len(x) for x in scored)
    with pytest.raises(ValueError, match="one number for each"):
        SVDD(2)(chain.model(), PosteriorMean(lambda x: x[:1, 0]), Streams(0, range(6)))


@pytest.mark.parametrize("draws", [1, 2])
@pytest.mark.parametrize("room", [1, 5, 16])
@pytest.mark.parametrize("make", [gaussian, masked])
def test_outputs_that_are_too_large_to_hold_change_no_sample(monkeypatch, make, room, draws):
    """They are computed for some requests at a time, and those of the selected particles again."""
    if make is gaussian and draws > 1:
        return
    value = PosteriorMean(reward if make is gaussian else first, draws)
    plain = SVDD(4, alpha=0.3)(make(K=10), value, Streams(2, range(6)))
    monkeypatch.setattr(Diffusion, "room", room)
    model = make(K=10)
    lean = SVDD(4, alpha=0.3)(model, value, Streams(2, range(6)))
    assert torch.equal(lean.x, plain.x)
    assert model.denoiser.largest <= max(room, 4)
    if make is gaussian:
        assert model.monitor.network_rows == 10 * 6 + 9 * 6 * 4
