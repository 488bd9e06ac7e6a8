"""Truncated fine-tuning against the same distribution by quadrature and by enumeration."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from guided.core.gaussian import Gaussian
from guided.core.guidance import Conditions
from guided.core.masked import SCHEDULES, Masked
from guided.fitting.negative.self_npo import Example, SelfNPO, make_examples
from tests.toys.chains import Chain
from tests.toys.small import Numbers, cosine

K, T, N = 6, 12, 200_000
SIGMAS = 4.5  # standard errors; some fifty are looked at


class Mixture:
    """Data from two normal distributions, noised along a path; its exact denoiser."""

    shares, means, stds = torch.tensor([[0.3, 0.7], [-1.5, 1.0], [0.3, 0.5]], dtype=torch.float64)

    def __init__(self, path):
        self.path = path

    def level(self, t):
        if self.path == "flow":
            return 1 - t, t
        alpha = torch.cos(math.pi / 2 * 0.999 * t)
        return alpha, (1 - alpha**2).sqrt()

    def grid(self, K):
        t = torch.tensor([1 - k / K for k in range(K + 1)], dtype=torch.float64)
        alphas, sigmas = self.level(t)
        return alphas.tolist(), sigmas.clamp(min=0).tolist(), t.tolist()

    def parts(self, x, t):
        """Joint densities of the state and a part, and the parts' clean means."""
        a, s = (level[..., None] for level in self.level(t))
        std = (a**2 * self.stds**2 + s**2).sqrt()
        off = x[..., None] - a * self.means
        return self.shares * normal(off / std) / std, self.means + a * self.stds**2 * off / std**2

    def density(self, x, t):
        return self.parts(x, t)[0].sum(-1)

    def mean(self, x, t):
        density, means = self.parts(x, t)
        return (density * means).sum(-1) / density.sum(-1)

    def denoiser(self, x, t):
        return self.mean(x[:, 0].double(), t.double()).float()[:, None]

    def draw(self, n):
        numbers = Numbers(n, 1)
        part = (numbers.uniform() > 0.3).long()
        return (self.means[part] + self.stds[part] * numbers.normal()).float()[:, None]

    @property
    def process(self):
        return Gaussian((1,), *self.grid(K), eta=0.7, grid=self.grid)


def normal(x):
    return (-0.5 * x**2).exp() / math.sqrt(2 * math.pi)


def below(x):
    return torch.special.ndtr(x)


class Quadrature:
    """The same pairs from their definition: a start, its density, the teacher's steps, the times above.

    Entries run over the K starts and a grid of states; `weight` sums to 1.
    """

    def __init__(self, mixture, j, times=T):
        x = torch.linspace(-7, 7, 4001, dtype=torch.float64)
        weight, state, target, reached = [], [], [], []
        for k in range(K):
            z, now = x, torch.tensor(1 - k / K, dtype=torch.float64)
            for _ in range(min(j, K - 1 - k)):
                new = now - 1 / K
                (a, s), (b, r) = mixture.level(now), mixture.level(new)
                y = mixture.mean(z, now)
                z, now = b * y + r * (z - a * y) / s, new
            weight.append(mixture.density(x, torch.tensor(1 - k / K, dtype=torch.float64)) * (x[1] - x[0]) / K)
            state.append(z)
            target.append(mixture.mean(z, now))
            reached.append(now.expand(len(x)))
        self.weight, self.z, self.y, now = (torch.cat(part)[:, None] for part in (weight, state, target, reached))
        self.times = torch.tensor([1 - i / times for i in range(times)], dtype=torch.float64)
        above = (self.times > now + 1e-9).double()
        above[:, 0] = torch.where(above.sum(1) == 0, 1.0, above[:, 0])  # at the top a state stays as it is
        self.chosen = self.weight * above / above.sum(1, keepdim=True)
        (a, s), (b, r) = mixture.level(now), mixture.level(self.times)
        ratio = torch.where(a > 0, b / a.clamp(min=1e-30), 1.0).minimum(torch.ones(()))
        self.mean, self.std = ratio * self.z, (r**2 - (ratio * s) ** 2).clamp(min=1e-18).sqrt()

    def expect(self, values):
        return (self.chosen * values).sum()

    def within(self, edges):
        """P(time, bin), and E of the target on it: with shape `(times, bins)`."""
        p = torch.stack(
            [
                below((edges[i + 1] - self.mean) / self.std) - below((edges[i] - self.mean) / self.std)
                for i in range(len(edges) - 1)
            ],
            -1,
        )
        p = self.chosen[..., None] * p
        return p.sum(0), (p * self.y[..., None]).sum(0)


def agree(draws, wanted, what=""):
    """The mean of draws within its standard error."""
    draws = draws.double()
    error = (draws.mean(0) - wanted).abs()
    bound = SIGMAS * draws.std(0) / len(draws) ** 0.5 + 2e-6
    assert bool((error < bound).all()), f"{what}: {draws.mean(0)} for {wanted}, bound {bound}"


@pytest.mark.parametrize("j", [0, 2, 9])
@pytest.mark.parametrize("path", ["cosine", "flow"])
def test_the_law_of_states_and_targets(path, j):
    """Moments, and those of the joint distribution."""
    mixture, numbers = Mixture(path), Numbers(N)
    given = make_examples(
        mixture.process, mixture.denoiser, mixture.draw(N), Conditions(), SelfNPO(K=K, j=j, T=T), numbers
    )
    reference = Quadrature(mixture, j)
    assert reference.chosen.sum() == pytest.approx(1, abs=1e-4)
    x, y = given.x[:, 0], given.target[:, 0]
    agree(y, reference.expect(reference.y), "target")
    agree(y**2, reference.expect(reference.y**2), "its square")
    agree(x, reference.expect(reference.mean), "state")
    agree(x**2, reference.expect(reference.mean**2 + reference.std**2), "its square")
    agree(x * y, reference.expect(reference.mean * reference.y), "their product")
    agree(given.t, reference.expect(reference.times), "time")
    agree(given.t * x * y, reference.expect(reference.times * reference.mean * reference.y), "product with time")


@pytest.mark.parametrize("path", ["cosine", "flow"])
def test_a_student_that_is_regressed_learns_the_mean_target_of_a_state(path):
    """A table of times and bins of states: from 0 one Newton step of the squared loss is the best table."""
    mixture, method = Mixture(path), SelfNPO(K=K, j=2, T=4, loss="squared")
    edges = torch.tensor([-9.0, -1.5, -0.5, 0.0, 0.5, 1.5, 9.0], dtype=torch.float64)
    table = torch.zeros(4, len(edges) - 1, requires_grad=True)
    counts = torch.zeros(4, len(edges) - 1)

    def student(x, t):
        time, place = (4 * (1 - t)).round().long(), torch.bucketize(x[:, 0], edges[1:-1].float())
        counts.index_put_((time, place), torch.ones(len(x)), accumulate=True)
        return table[time, place][:, None]

    losses = method.losses(mixture.process, student, mixture.denoiser, mixture.draw(N), Conditions(), Numbers(N))
    losses.sum().backward()
    p, mean = Quadrature(mixture, 2, times=4).within(edges)
    assert (counts / N - p).abs().max() < SIGMAS * 0.5 / N**0.5
    often = counts > 1000
    assert often.sum() > 12
    learned, wanted = (-table.grad / (2 * counts))[often], (mean / p)[often]
    spread = 1.5 / counts[often].sqrt()  # targets lie in (-3, 3), half of them within 1.5
    assert bool(((learned - wanted).abs() < SIGMAS * spread).all()), (learned, wanted)
    assert (wanted.max() - wanted.min()) > 1  # there is something to learn


def test_states_are_noised_by_the_forward_law_to_a_time_drawn_uniformly():
    """With the identity as teacher the target is the state that was reached."""
    mixture, seen = Mixture("cosine"), []

    def teacher(x, t):
        seen.append(t.double())
        return x

    given = make_examples(mixture.process, teacher, mixture.draw(N), Conditions(), SelfNPO(K=K, j=1, T=T), Numbers(N))
    z, now, t = given.target[:, 0].double(), seen[-1], given.t.double()
    (a, s), (b, r) = mixture.level(now), mixture.level(t)
    noise = (given.x[:, 0] - b / a * z) / (r**2 - (b / a * s) ** 2).sqrt()
    agree(noise, 0.0, "mean")
    agree(noise**2, 1.0, "variance")
    agree(noise**4, 3.0, "fourth moment")
    agree(noise * z, 0.0, "independent of the state")
    for k in range(1, K):  # j = 1: none stays at the top
        times = t[(now - (1 - k / K)).abs() < 1e-6]
        possible = [i / T for i in range(1, T + 1) if i / T > 1 - k / K + 1e-9]
        assert len(times) > 1000 and len(possible) == 2 * k
        assert bool((times > 1 - k / K).all())
        for other in possible:
            agree(((times - other).abs() < 1e-6).double(), 1 / len(possible), f"time {other} above {k}")


def test_the_teacher_takes_the_deterministic_steps_of_its_process():
    """Whatever the process's eta, and with its bound on clean means; a row at the last noisy level stays there."""
    process = replace(Mixture("cosine").process, clip=0.5)
    seen = []

    def teacher(x, t):
        seen.append((x, t))
        return torch.tanh(2 * x) + t[:, None]

    x = Mixture("cosine").draw(64)
    given = make_examples(process, teacher, x, Conditions(), SelfNPO(K=K, j=3, T=T), Numbers(64))
    assert len(seen) == 4
    still = 0
    for (x, t), (new, after) in itertools.pairwise(seen):
        for row in range(64):
            k = round(K * (1 - float(t[row])))
            if k == K - 1:
                assert torch.equal(new[row], x[row]) and after[row] == t[row]
                still += 1
                continue
            y = torch.tanh(2 * x[row]) + t[row]
            wanted = replace(process, eta=0.0).propose(x[None, row, None], y[None, None], k, 1, None)[0, 0]
            torch.testing.assert_close(new[row], wanted, rtol=1e-4, atol=1e-5)
            assert float(after[row]) == pytest.approx(1 - (k + 1) / K)
    assert 10 < still < 150
    assert given.target.abs().max() == 0.5


@pytest.mark.parametrize(("levels", "steps"), [(1, 0), (1, 4), (2, 1)])
def test_no_signal_at_the_first_level_is_fine(levels, steps):
    """Zero terminal SNR: with one level the states are noise alone, and stay as they are."""
    mixture = Mixture("flow")
    given = make_examples(
        mixture.process,
        mixture.denoiser,
        mixture.draw(20_000),
        Conditions(),
        SelfNPO(levels, steps, T=T),
        Numbers(20_000),
    )
    assert given.x.isfinite().all() and given.target.isfinite().all()
    if levels == 1:
        assert bool((given.t == 1).all())
        agree(given.x[:, 0], 0.0)
        agree(given.x[:, 0] ** 2, 1.0)
        mean = float((mixture.shares * mixture.means).sum())
        torch.testing.assert_close(given.target, torch.full_like(given.target, mean))


def test_a_process_without_a_grid_is_taken_as_it_is():
    process = Gaussian((1,), *cosine(3))
    given = make_examples(process, lambda x, t: x, torch.zeros(200, 1), Conditions(), SelfNPO(K=25, j=1), Numbers(200))
    assert {round(3 * t) for t in given.t.tolist()} == {2, 3}


@pytest.mark.parametrize("T", [2, 3, 9])
def test_a_student_is_told_how_noisy_its_state_is_with_fewer_times_than_steps(T):
    """Of zeros the states are the noise alone, here on grids that begin later the fewer their steps are."""

    def late(K):
        times = [(K - 1 - i) / K for i in range(K)] + [0.0]
        return [1 - t for t in times], [t + 0.05 * (k < K) for k, t in enumerate(times)], times

    process = Gaussian((1,), *late(8), grid=late)
    n = 40_000
    given = make_examples(
        process, lambda x, t: 0 * x, torch.zeros(n, 1), Conditions(), SelfNPO(K=8, j=0, T=T), Numbers(n)
    )
    shares = given.x[:, 0] / (given.t + 0.05)
    agree(shares, 0.0)
    agree(shares**2, 1.0)
    assert len(given.t.unique()) >= T - 1


def test_the_last_step_is_no_level_even_if_it_has_noise():
    """As the grids of Stable Diffusion have: neither a teacher nor a student is asked there."""
    seen, process = [], Gaussian((1,), [0.1, 0.5, 0.9], [1.0, 0.5, 0.1], [2.0, 1.0, 0.0])

    def teacher(x, t):
        seen.append(t)
        return x

    given = make_examples(process, teacher, torch.zeros(200, 1), Conditions(), SelfNPO(j=3), Numbers(200))
    assert set(torch.cat(seen).tolist()) == {1.0, 2.0} and set(given.t.tolist()) == {2.0}


def enumerated(chain, j):
    """E[target on x_s = x], and P(x_s = x), over all states x: with shapes (S, L, V) and (S,).

    With the log-linear schedule a shown token stays with a probability that is uniform in (0, 1), all of a row's with
    the same one: a + b tokens keep a given a with probability a! b! / (a + b + 1)!.
    """
    states, S, mask = chain.states, len(chain.states), chain.V
    distributions = chain.conditionals.exp()
    targets = torch.where((states == mask)[..., None], distributions.nan_to_num(), 0.0)
    for v in range(chain.V):
        targets[..., v] += (states == v).double()
    fits = ((states[:, None] == mask) | (states[:, None] == chain.clean)).all(-1).double() @ chain.table
    hidden = (states == mask).sum(1)
    joint, distribution = torch.zeros_like(targets), torch.zeros(S, dtype=torch.float64)
    for k in range(chain.K):
        rate = 1 - k / chain.K
        p, now = fits * rate**hidden * (1 - rate) ** (chain.L - hidden) / chain.K, k
        for _ in range(min(j, chain.K - 1 - k)):
            p, now = p @ chain.transition(now), now + 1
        for z in range(S):
            for s in range(S):
                if bool(((states[s] != states[z]) & (states[s] != mask)).any()):
                    continue
                kept, lost = chain.L - int(hidden[s]), int(hidden[s] - hidden[z])
                chance = math.factorial(kept) * math.factorial(lost) / math.factorial(kept + lost + 1)
                if now == 0:
                    chance = float(kept == 0)
                distribution[s] += p[z] * chance
                joint[s] += p[z] * chance * targets[z]
    return joint, distribution


@pytest.mark.parametrize("j", [0, 2])
def test_the_law_of_masked_states_and_targets(j):
    chain = Chain(L=3, V=2, K=4)
    joint, distribution = enumerated(chain, j)
    assert distribution.sum() == pytest.approx(1)
    n = 60_000
    x = chain.clean[torch.multinomial(chain.table, n, True, generator=torch.Generator().manual_seed(0))]
    given = make_examples(
        chain.process,
        lambda x, t: chain.conditionals[chain.index(x)].float(),
        x,
        Conditions(),
        SelfNPO(K=4, j=j),
        Numbers(n),
    )
    index = chain.index(given.x)
    for s in range(len(chain.states)):
        here = (index == s)[:, None, None]
        agree(here[:, 0, 0].double(), distribution[s], f"state {chain.states[s].tolist()}")
        agree(here * given.target, joint[s], f"target at {chain.states[s].tolist()}")


def test_an_exact_teacher_is_its_own_best_student_without_steps():
    """The tower property: noise upon noise is noise, so that the mean of what it says later is what it says now."""
    chain = Chain(L=3, V=2, K=4)
    joint, distribution = enumerated(chain, 0)
    hidden = chain.states == chain.V
    mean = joint / distribution[:, None, None]
    torch.testing.assert_close(mean[hidden], chain.conditionals.exp()[hidden])
    moved = enumerated(chain, 2)
    assert (moved[0] / moved[1][:, None, None] - mean)[hidden].abs().max() > 1e-3  # which steps in parallel undo


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_masks_grow_from_the_state_that_was_reached(schedule):
    process, n, seen = Masked(8, 3, schedule=schedule), 20_000, []
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).log_softmax(-1)

    def teacher(x, t):
        seen.append((x, t))
        return logits.expand(len(x), 8, 3)

    x = torch.multinomial(logits.exp(), n, True, generator=torch.Generator().manual_seed(1)).T.contiguous()
    given = make_examples(process, teacher, x, Conditions(), SelfNPO(K=5, j=2), Numbers(n))
    z, now = seen[-1]
    shown = z != process.mask
    assert bool((given.x[~shown] == process.mask).all())
    assert bool(((given.x == z) | (given.x == process.mask)).all())
    assert torch.equal(given.hidden, given.x == process.mask)
    assert bool((given.target[shown] == torch.nn.functional.one_hot(z[shown], 3)).all())
    torch.testing.assert_close(given.target[~shown], logits.exp().expand(n, 8, 3)[~shown])
    assert bool((given.t >= now - 1e-6).all()) and given.t.max() <= 1
    rate = torch.tensor([SCHEDULES[schedule](float(t)) for t in given.t])
    agree(given.hidden.double().mean(1) - rate, 0.0, "mask rate")
    agree((given.hidden.double().mean(1) - rate) * given.t, 0.0, "mask rate at all times")
    once = SCHEDULES[schedule]
    agree((~shown).double().mean(1) - torch.tensor([once(float(t)) for t in now]), 0.0, "mask rate before")


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_teacher_without_steps_teaches_itself_at_any_temperature(temperature):
    """From masks alone a student that equals the teacher has no gradient: both are read as tokens are drawn."""
    process = Masked(3, 4, temperature=temperature)
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    mine = logits.clone().requires_grad_(True)
    losses = SelfNPO(K=1, j=0).losses(
        process,
        lambda x, t: mine.log_softmax(-1).expand(len(x), 3, 4),
        lambda x, t: logits.log_softmax(-1).expand(len(x), 3, 4),
        torch.zeros(5, 3, dtype=torch.long),
        Conditions(),
        Numbers(5),
    )
    losses.sum().backward()
    assert mine.grad.abs().max() < 1e-5
    p = (logits / temperature).softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean()
    torch.testing.assert_close(losses.detach(), entropy.expand(5))


def test_a_token_that_is_ruled_out_costs_nothing():
    process = Masked(2, 3)
    y = torch.tensor([0.5, 0.5, 0.0]).log().expand(2, 3)
    said = y.clone().requires_grad_(True)
    losses = SelfNPO(K=1, j=1).losses(
        process,
        lambda x, t: said.expand(len(x), 2, 3),
        lambda x, t: y.expand(len(x), 2, 3),
        torch.zeros(4, 2, dtype=torch.long),
        Conditions(),
        Numbers(4),
    )
    torch.testing.assert_close(losses.detach(), torch.full((4,), math.log(2)))
    losses.sum().backward()
    assert said.grad.isfinite().all()


@pytest.mark.parametrize(("p", "condition"), [(0.0, 1.0), (1.0, -1.0)])
def test_the_student_gets_its_prompt_or_none(p, condition):
    """And the teacher is given both sides."""
    seen = {"student": [], "teacher": []}

    def denoiser(name):
        def call(x, t, negative=None, /, **cond):
            seen[name].append((cond, negative))
            return x

        return call

    cond = Conditions({"c": torch.ones(7, 1)}, {"c": -torch.ones(7, 1)})
    SelfNPO(K=2, j=1, p=p, T=4).losses(
        Mixture("cosine").process, denoiser("student"), denoiser("teacher"), torch.zeros(7, 1), cond, Numbers(7)
    )
    assert all(call == (cond.positive, cond.negative) for call in seen["teacher"])
    [(mine, other)] = seen["student"]
    assert other is None and mine.keys() == {"c"} and bool((mine["c"] == condition).all())


def test_the_huber_loss_is_between_squared_and_absolute():
    """sqrt(d^2 + c^2) - c is d^2 / 2c near 0 and |d| - c far away."""
    given = make_examples(
        Mixture("flow").process,
        lambda x, t: torch.zeros_like(x),
        torch.zeros(3, 1),
        Conditions(),
        SelfNPO(1, 0, T=4),
        Numbers(3),
    )
    d = torch.tensor([[0.0], [1e-3], [50.0]])
    huber = SelfNPO(c=0.1).distance(d, given)
    torch.testing.assert_close(huber, torch.tensor([0.0, 1e-6 / 0.2, 49.9]), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(SelfNPO(loss="squared").distance(d, given), d[:, 0] ** 2)


def test_the_loss_of_a_masked_row_is_the_mean_over_its_masked_tokens_alone():
    """Whatever the student says of tokens that it is shown, and however many there are of them."""
    torch.manual_seed(0)
    y, target = torch.randn(3, 8, 5).log_softmax(-1), torch.randn(3, 8, 5).softmax(-1)
    hidden = torch.arange(8)[None] < torch.tensor([[1], [5], [8]])
    entropy = -(target * y).sum(-1)
    wanted = torch.stack([entropy[i, :n].mean() for i, n in enumerate((1, 5, 8))])
    for shown in (y, torch.where(hidden[..., None], y, -50.0)):
        given = Example(torch.zeros(3, 8, dtype=torch.long), torch.ones(3), target, hidden)
        torch.testing.assert_close(SelfNPO().distance(shown, given), wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"K": 0}, "K is 0"),
        ({"j": -1}, "j is -1"),
        ({"j": 1.5}, "j is 1.5"),
        ({"T": 1}, "T is 1"),
        ({"loss": "l1"}, "loss is 'l1'; it is one of huber, squared"),
        ({"c": 0.0}, "c is 0"),
        ({"p": 1.5}, "p is 1.5"),
        ({"w": float("inf")}, "w is inf"),
    ],
)
def test_hyperparameters_out_of_range(given, message):
    with pytest.raises(ValueError, match=message):
        SelfNPO(**given)
