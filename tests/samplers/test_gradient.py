"""Samplers that follow a gradient against closed forms and exact enumeration: their weights make up for what leans."""

import math

import pytest
import torch

import guided
from guided.adapters.diffusers.loops.asked import Looped
from guided.core.masked import Masked
from guided.core.random import Streams
from guided.runs.watch import Watching
from guided.samplers import SMC, resolve_sampler, samplers
from guided.samplers.gradient import DPS, TDS, ClassifierGuidance
from guided.scoring import registry
from guided.scoring.registry import register_reward
from guided.values.posterior_mean import PosteriorMean
from guided.values.rollout import Rollout
from tests.samplers.test_smc import errors, unnormalised
from tests.toys.chains import Chain, gaussian
from tests.toys.laws import distance, drawn, frequencies, tilted
from tests.toys.smooth import affine, law, of_chain, smooth
from tests.toys.values import dna

ALPHA = 0.4


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(registry, "_table", dict(registry._table))


def first(x):
    return x[:, 0].double()


def bowl(x):
    return -0.5 * x[:, 0].double().square()


def unguided(model, B):
    particles = model.start(Streams(0, range(B)))
    while not particles.done:
        particles = particles.propose()
    return particles.x[:, 0]


# Gaussians


@pytest.mark.parametrize("K", [10, 40])
def test_dps_is_the_model_moved_to_the_tilted_mean(K):
    """N(0, 1) and r = x: the tilted mean is 1 / alpha, whatever the number of steps; the noise stays as it is."""
    alpha, B = 0.5, 50
    moved = DPS(alpha)(gaussian(K), smooth(first), Streams(0, range(B))).x[:, 0] - unguided(gaussian(K), B)
    lost = math.prod(A for A, _, _ in affine(gaussian(K)))  # the tilted chain would begin at alpha_0 / alpha
    expected = (1 - lost * gaussian(K).process.alphas[0]) / alpha
    torch.testing.assert_close(moved, torch.tensor([[expected, 0.0]]).expand(B, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("K", "stated"), [(10, None), (25, (0.763, 0.843)), (100, (0.931, 0.954))])
def test_classifier_guidance_moves_each_step_by_the_gradient_of_the_step_before(K, stated):
    """In closed form; the tilted law of the chain has the gradient of the step after."""
    alpha, B, shift, wanted = 0.5, 50, 0.0, 0.0
    alphas = gaussian(K).process.alphas
    for k, (A, _, tau) in enumerate(affine(gaussian(K))):
        shift, wanted = A * shift + tau**2 * alphas[k] / alpha, A * wanted + tau**2 * alphas[k + 1] / alpha
    moved = ClassifierGuidance(alpha)(gaussian(K), smooth(first), Streams(0, range(B))).x[:, 0]
    moved -= unguided(gaussian(K), B)
    torch.testing.assert_close(moved, torch.tensor([[shift, 0.0]]).expand(B, 2), atol=1e-4, rtol=0)
    assert shift < wanted
    if stated:
        assert (alpha * shift, alpha * wanted) == pytest.approx(stated, abs=6e-4)


def recursion(K, lean):
    """The mean and the variance of samples of a guided affine chain on N(1, 1)."""
    m, v = 0.0, 1.0
    for k, (A, b, tau) in enumerate(affine(gaussian(K, mean=(1.0, 0.0)), 1.0)):
        A, b = lean(k, A, b, tau)
        m, v = A * m + b, A * A * v + tau**2
    return m, v


def leaning_to_the_bowl(sampler, K):
    """What the gradient of -y(x)^2 / 2 makes of a step; y = 1 + a (x - a)."""
    process = gaussian(K).process

    def lean(k, A, b, tau):
        a, s, a_s, s_s = process.alphas[k], process.sigmas[k], process.alphas[k + 1], process.sigmas[k + 1]
        g = (-a * a, -a * (1 - a * a))  # of x, and constant
        if isinstance(sampler, ClassifierGuidance):
            by = tau**2
        else:
            keep = max(s_s**2 - tau**2, 0.0) ** 0.5 / s
            by = (a_s - keep * a) * s * s / a
        return A + by * g[0], b + by * g[1]

    return lean


@pytest.mark.parametrize(("sampler", "stated"), [(DPS(1.0), (0.368, 0.429)), (ClassifierGuidance(1.0), (0.370, 0.432))])
def test_the_bias_for_a_quadratic_reward_is_the_one_that_is_stated(sampler, stated):
    """The tilted law of N(1, 1) is N(1/2, 1/2). Numbers are of 1000 steps, and samples of 25."""
    assert recursion(1000, leaning_to_the_bowl(sampler, 1000)) == pytest.approx(stated, abs=6e-4)
    m, v = recursion(25, leaning_to_the_bowl(sampler, 25))
    x = sampler(gaussian(25, mean=(1.0, 0.0)), smooth(bowl), Streams(0, range(4000))).x[:, 0, 0]
    assert x.mean().item() == pytest.approx(m, abs=4 * (v / 4000) ** 0.5)
    assert x.var().item() == pytest.approx(v, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", {}),
        ("linear", {"rise": 1.0, "potential": "max"}),
        ("quadratic", {"threshold": 1.0}),
        ("quadratic", {"every": 3}),
    ],
)
def test_tds_has_the_tilted_law_of_a_gaussian(kind, options):
    """The chain's own law is N(m, s^2), so all is known: weighted mean, variance, and Z."""
    alpha, mean, N, B = 1.0, 1.0, 64, 50
    m, v = law(gaussian(mean=(mean, 0.0)), mean)
    if kind == "linear":
        want, spread, log_Z = m + v / alpha, v, m / alpha + v / (2 * alpha**2)
    else:
        spread = 1 / (1 / v + 1 / alpha)
        want = spread * m / v
        log_Z = 0.5 * math.log(spread / v) - 0.5 * m * m / v + 0.5 * want**2 / spread
    end = TDS(N, alpha, **options).run(
        gaussian(mean=(mean, 0.0)), smooth(first if kind == "linear" else bowl), Streams(0, range(B))
    )
    w, x = end.log_w.softmax(1), end.particles.x[..., 0].double()
    found = (w * x).sum(1)
    assert abs(found.mean() - want) < 3.5 * found.std() / B**0.5
    square = (w * (x - want).square()).sum(1)
    assert abs(square.mean() - spread) < 3.5 * square.std() / B**0.5 + 0.01
    ratio = (end.log_Z - log_Z).exp()  # unbiased
    assert abs(ratio.mean() - 1) < 3.5 * ratio.std() / B**0.5


def test_the_weights_of_tds_are_more_alike_than_those_of_smc():
    value, spread = smooth(first), {}
    for sampler in (TDS(8, 0.5), SMC(8, 0.5, rise=0.0)):
        spread[type(sampler)] = sampler.run(gaussian(), value, Streams(0, range(200))).log_Z.std().item()
    assert spread[TDS] < 0.5 * spread[SMC]


# Tokens


@pytest.mark.parametrize(
    "options",
    [{"threshold": 0.0}, {"threshold": 1.0, "potential": "max"}, {"rise": 1.0}, {"every": 2, "resampling": "residual"}],
)
def test_the_weighted_measure_of_tokens_is_unbiased_for_few_particles(chain, reward, monkeypatch, options):
    """E[Z_hat sum_n W_n 1(x_n = x)] = p(x) exp(r(x) / alpha), whatever the tokens were drawn from."""
    value = of_chain(chain, reward)
    monkeypatch.setattr("tests.samplers.test_smc.looking_ahead", lambda *_: value)
    measure = unnormalised(chain, reward, TDS(3, ALPHA, **options), 5000)
    target, Z = tilted(chain, reward, ALPHA)
    assert errors(measure, target * Z).abs().max() < 3.7
    assert distance(measure.mean(0) / measure.sum(1).mean(), target) < 0.02


def weighted(chain, reward, B=12):
    """The total variation of N = 4096 weighted particles, and log Z with its standard error."""
    sampler = TDS(4096, ALPHA, resampling="systematic")
    end = sampler.run(chain.model(), of_chain(chain, reward), Streams(0, range(B)))
    target, Z = tilted(chain, reward, ALPHA)
    far = distance(frequencies(chain, end.particles, end.log_w.softmax(1)), target)
    return far, (end.log_Z.mean() - math.log(Z)).item(), (end.log_Z.std() / B**0.5).item()


def test_the_law_of_many_tokens_is_the_tilted_one(chain, reward):
    """N = 4096: total variation at most .02, and log Z within two standard errors."""
    far, off, error = weighted(chain, reward)
    assert far < 0.02 and abs(off) < 2 * error


def test_without_the_normaliser_the_law_is_another(chain, reward, monkeypatch):
    """Tokens weighed by -g alone, as if what they were drawn from were normalised."""
    of = Masked.twisted

    def without(self, x, y, k, g, streams):
        new, _ = of(self, x, y, k, g, streams)
        token = new.clamp(max=self.vocabulary - 1)[..., None]
        return new, torch.where(new != x, -g.gather(-1, token)[..., 0].double(), 0.0).sum(-1)

    monkeypatch.setattr(Masked, "twisted", without)
    far, off, error = weighted(chain, reward)
    assert far > 0.02 and abs(off) > 10 * error


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_twisted_tokens_have_the_law_and_the_weight_that_they_say(temperature):
    """Softmax of log-probabilities plus g, after the model's temperature; the ratio is of what was drawn."""
    process, generator, B = Masked(2, 3, 2, temperature=temperature), torch.Generator().manual_seed(0), 20_000
    y, g = torch.randn(2, 2, 3, generator=generator).double().unbind(0)
    x = torch.full((B, 1, 2), 3)
    x[: B // 2, 0, 0] = 1
    whole = (y.expand(B, 1, 2, 3), g.expand(B, 1, 2, 3))
    new, log_ratio = process.twisted(x, whole[0], 1, whole[1], Streams(0, range(B)))
    model, drawn_by = (y / temperature).log_softmax(-1), (y / temperature + g).log_softmax(-1)
    share = torch.bincount(new[:, 0, 1], minlength=3) / B
    torch.testing.assert_close(share.double(), drawn_by[1].exp(), atol=0.012, rtol=0)
    ratio = model - drawn_by
    expected = ratio[1][new[:, 0, 1]] + torch.where(torch.arange(B) < B // 2, 0.0, ratio[0][new[:, 0, 0]])
    torch.testing.assert_close(log_ratio[:, 0], expected)


def test_relaxed_tokens_are_the_probabilities_that_clean_ones_are_drawn_by():
    process, B = Masked(2, 3, 2, temperature=0.5), 20_000
    y, x = torch.tensor([[0.3, -0.2, 1.0], [0.0, 1.0, 0.0]]).double(), torch.tensor([3, 1])
    p = process.relaxed(x[None], y[None])[0]
    found = process.draw(x.expand(B, 1, 2), y.expand(B, 1, 2, 3), 1, Streams(0, range(B)))[:, 0]
    torch.testing.assert_close((torch.bincount(found[:, 0], minlength=3) / B).double(), p[0], atol=0.012, rtol=0)
    assert p[1].tolist() == [0.0, 1.0, 0.0]


def test_twisted_steps_of_real_numbers_have_the_law_and_the_weight_that_they_say():
    model, g = gaussian(10), torch.tensor([[[1.5, -2.0]]])
    x, y, k = torch.tensor([[[0.3, -0.2]]]), torch.tensor([[[0.1, 0.4]]]), 4
    B, process = 4000, model.process
    new, log_ratio = process.twisted(*(z.expand(B, 1, 2) for z in (x, y)), k, g.expand(B, 1, 2), Streams(0, range(B)))
    tau, mean = process.std(k), process.mean(x, y, k)[0]
    torch.testing.assert_close(new.mean(0), mean + tau**2 * g[0], atol=5 * tau / B**0.5, rtol=0)
    free, twisted = (torch.distributions.Normal(centre, tau) for centre in (mean, mean + tau**2 * g[0]))
    torch.testing.assert_close(log_ratio, (free.log_prob(new) - twisted.log_prob(new)).sum(-1), atol=1e-4, rtol=1e-4)


def test_classifier_guidance_of_independent_tokens_is_exact():
    """A reward that is a sum over positions: its gradient is what each token is worth."""
    chain = Chain(L=3, V=2, K=3)
    p = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.3, 0.7]]).double()
    chain.table = p.gather(1, chain.clean.T).prod(0)
    chain.conditionals = torch.stack([chain._conditional(x) for x in chain.states])
    worth = torch.tensor([[0.0, 1.0], [0.3, 0.0], [0.7, 0.2]]).double()
    reward = torch.zeros(len(chain.states)).double()
    reward[chain.index(chain.clean)] = worth.gather(1, chain.clean.T).sum(0)
    found = drawn(chain, ClassifierGuidance(ALPHA), of_chain(chain, reward), 8000)
    assert distance(found, tilted(chain, reward, ALPHA)[0]) < 0.02


# What all of them do


@pytest.mark.parametrize("sampler", [DPS(1.0), ClassifierGuidance(1.0), TDS(4, 1.0)])
def test_a_request_is_the_same_alone_and_among_others(sampler):
    value = smooth(bowl)
    among = sampler(gaussian(8), value, Streams(3, range(12))).x
    for i in (0, 5, 11):
        torch.testing.assert_close(sampler(gaussian(8), value, Streams(3, [i])).x[0], among[i])


@pytest.mark.parametrize(
    ("sampler", "rows", "calls", "gradients"),
    [
        (DPS(1.0), 10, 10, 10),
        (ClassifierGuidance(1.0), 10, 9, 9),  # the last step has no noise
        (TDS(4, 1.0), 40, 4 * 9 + 4, 4 * 9),
        (TDS(4, 1.0, every=3), 40, 4 * 3 + 4, 4 * 3),  # at steps 0, 3 and 6
    ],
)
def test_cost_in_rows_calls_and_gradients(sampler, rows, calls, gradients):
    counted, differentiated = [], []

    def score(x):
        counted.append(len(x))
        if x.requires_grad:
            differentiated.append(len(x))
        return first(x)

    model = gaussian(10)
    sampler(model, smooth(score), Streams(0, range(3)))
    assert model.denoiser.rows == 3 * rows
    assert (sum(counted), sum(differentiated)) == (3 * calls, 3 * gradients)


def test_steps_without_noise_copy_no_particle():
    """Eta = 0: the start is not resampled either, as copies of it would stay copies."""
    end = TDS(8, 0.001).run(gaussian(10, eta=0.0), smooth(first), Streams(0, [0]))
    assert len(end.particles.x[0].unique(dim=0)) == 8


def test_networks_run_with_gradients_only_where_they_are_asked_for():
    seen = []
    model = gaussian(6)
    inner = model.denoiser.fn
    model.denoiser.fn = lambda x, t: (seen.append((x.requires_grad, torch.is_grad_enabled())), inner(x, t))[1]
    with torch.no_grad():
        ClassifierGuidance(1.0)(model, smooth(first), Streams(0, [0]))
    assert seen == [(True, True)] * 5 + [(False, False)]
    seen.clear()
    with torch.no_grad():
        SMC(2, 1.0)(model, smooth(first), Streams(0, [0]))
    assert set(seen) == {(False, False)}


@pytest.mark.parametrize("sampler", [DPS(1.0), TDS(2, 1.0)])
def test_their_look_aheads_can_be_watched(sampler):
    """Each state that a gradient is taken at is a look-ahead; the sample is the one of the sampler inside."""
    watching = Watching(sampler)
    x = watching(gaussian(6), smooth(first), Streams(0, [0])).x
    assert torch.equal(x, sampler(gaussian(6), smooth(first), Streams(0, [0])).x)
    assert [k for k, *_ in watching.looks][:4] == [1, 2, 3, 4]
    assert all(v == pytest.approx(float(image[0]), abs=1e-5) for _, v, image in watching.looks)


def test_a_gradient_that_is_no_number_is_none():
    """A root has an infinite one at 0."""
    value = smooth(lambda x: x[:, 0].double().clamp(min=0).sqrt())
    x = ClassifierGuidance(1.0)(gaussian(8), value, Streams(0, range(20))).x
    assert x.isfinite().all()


def test_they_are_found_by_their_names():
    assert {"dps", "classifier-guidance", "tds"} <= set(samplers())
    assert resolve_sampler({"name": "tds", "N": 3}) == TDS(3)


@pytest.mark.parametrize("sampler", ["dps", "classifier-guidance", "tds"])
def test_a_reward_without_a_gradient_is_refused_before_the_model_is_loaded(sampler):
    with pytest.raises(
        ValueError, match=f"sampler '{sampler}' follows the reward's gradient: reward 'qed' has no grad"
    ):
        guided.sample("no such model", reward="qed", sampler=sampler)
    with pytest.raises(ValueError, match="has a transform, which has no gradient"):
        guided.sample("no such model", reward="brightness?linear=0,1", sampler=sampler)
    with pytest.raises(ValueError, match="the aggregate is 'product'"):
        guided.sample("no such model", reward=["brightness", "activity"], aggregate="product", sampler=sampler)


def test_what_has_no_gradient_is_refused(chain, reward):
    with pytest.raises(ValueError, match="the reward is no objective"):
        TDS()(gaussian(), PosteriorMean(first), Streams(0, [0]))
    with pytest.raises(ValueError, match="function has no gradient; take the posterior mean"):
        TDS()(gaussian(), lambda particles, alpha: particles.x[..., 0], Streams(0, [0]))
    with pytest.raises(ValueError, match="without a gradient: it must stay in torch"):
        DPS()(gaussian(), smooth(lambda x: first(x).detach()), Streams(0, [0]))
    with pytest.raises(ValueError, match=r"returned shape \(3, 2\) for real numbers"):
        DPS()(gaussian(), smooth(lambda x: x.double()), Streams(0, range(3)))
    with pytest.raises(ValueError, match="tokens have no score"):
        DPS()(chain.model(), of_chain(chain, reward), Streams(0, [0]))
    with pytest.raises(ValueError, match="has no pixels with gradients"):
        DPS()(gaussian(), PosteriorMean(guided.resolve_reward("brightness")), Streams(0, [0]))
    with pytest.raises(ValueError, match="draws is 2"):
        ClassifierGuidance()(chain.model(), PosteriorMean(of_chain(chain, reward).reward, 2), Streams(0, [0]))
    with pytest.raises(ValueError, match="a rollout has no gradient"):
        DPS()(gaussian(), Rollout(smooth(first).reward), Streams(0, [0]))
    looped = gaussian()
    looped.denoiser.differentiable = Looped.differentiable
    with pytest.raises(ValueError, match="by its own loop has no gradients"):
        TDS()(looped, smooth(first), Streams(0, [0]))
    with pytest.raises(ValueError, match="takes samples, which have no gradient"):
        register_reward("text", differentiable=True)
    for cls in (DPS, ClassifierGuidance, TDS):
        with pytest.raises(ValueError, match="alpha is 0"):
            cls(alpha=0)


def gc(x):
    """The share of C and G of codes or probabilities."""
    x = x if x.is_floating_point() else torch.nn.functional.one_hot(x, 5)[..., :4]
    return x[..., 1:3].double().sum((1, 2)) / x.shape[1]


@pytest.mark.parametrize("sampler", [ClassifierGuidance(0.05), TDS(4, 0.05)])
def test_a_run_of_nucleotides(sampler):
    """Codes of the model's letters; its calls are counted."""
    codec = guided.core.codec.Codec(
        lambda x: ["".join("TGCAN"[i] for i in row) for row in x.tolist()],
        tokens=lambda x: torch.tensor([3, 2, 1, 0, 4])[x],
    )
    reward = register_reward("gc-smooth", takes="tokens", differentiable=True)(gc)
    model = dna(L=12, K=4, codec=codec)
    free = guided.sample(model, reward, "unguided", n=16, prompt="")
    run = guided.sample(model, reward, sampler, n=16, prompt="")
    assert run.rewards.mean() > free.rewards.mean() + 0.2
    assert run.stats.reward_calls >= 16 * 4


def test_a_budget_of_calls_ends_the_leaning():
    reward = smooth(first).reward
    model = gaussian(10)
    run = guided.sample(model, reward, TDS(2, 0.1), n=6, budget_calls=7)
    assert run.stats.stopped == 6
    assert run.first_call == [7] * 6
