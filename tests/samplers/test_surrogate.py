"""The surrogate that screens children: its kernel, its posterior, what it chooses, and what elites keep to with it."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import guided
from guided.core.codec import Codec
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.metrics.features import feature_rows
from guided.samplers import Elite
from guided.samplers.population import Population
from guided.samplers.surrogate import Surrogate, tanimoto
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import gaussian
from tests.toys.small import tokens, vectors

SMILES = ["CCO", "CCCCCC", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C"]
WORDS = ["ACGTACGT", "ACGTACGA", "TTTTTTTT", "GATTACAG", "CCGGCCGG", "ACGTTTTT"]
SCREENS = [
    Elite(4, 3, size=3, screen=3),
    Elite(3, 4, penalty="step", room=1, screen=2),
    Elite(3, 6, screen=2, temperature=2.0, restart=1, first=5),
    Elite(3, 6, restart=1),
]


def letters(samples):
    return [s.count("A") + 0.1 * s.count("CG") - 0.01 * s.find("G") for s in samples]


def sequences():
    """The toy of four letters, which says that they are DNA."""
    model = tokens()
    return replace(model, codec=replace(model.codec, modality="dna"))


def rows_of(samples, modality="dna"):
    return torch.from_numpy(feature_rows(modality, samples))


def test_the_kernel_is_the_similarity_that_rdkit_computes():
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    molecules = [Chem.MolFromSmiles(s) for s in SMILES]
    bits = torch.from_numpy(np.stack([morgan.GetFingerprintAsNumPy(m) for m in molecules]))
    prints = [morgan.GetFingerprint(m) for m in molecules]
    wanted = [DataStructs.BulkTanimotoSimilarity(one, prints) for one in prints]
    torch.testing.assert_close(tanimoto(bits, bits), torch.tensor(wanted, dtype=torch.float64))


def test_features_of_molecules_have_the_similarity_of_counts():
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2)
    counts = [morgan.GetSparseCountFingerprint(Chem.MolFromSmiles(s)) for s in SMILES]
    wanted = [[DataStructs.TanimotoSimilarity(a, b) for b in counts] for a in counts]
    rows = torch.from_numpy(feature_rows("molecules", SMILES, 2**22))  # so wide that none shares a column
    torch.testing.assert_close(tanimoto(rows, rows), torch.tensor(wanted, dtype=torch.float64))
    narrow = rows_of(SMILES, "molecules")
    assert (tanimoto(narrow, narrow) - torch.tensor(wanted)).abs().max() < 0.05


@given(st.lists(st.text("ACG", max_size=12), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_the_kernel_is_one(samples):
    """Between 0 and 1, symmetric, 1 of a sample and itself, and positive semidefinite."""
    K = tanimoto(rows_of(samples), rows_of(samples))
    assert ((K >= 0) & (K <= 1)).all() and torch.equal(K, K.T) and (K.diagonal() == 1).all()
    assert torch.linalg.eigvalsh(K).min() > -1e-9


def test_what_has_no_features_is_told():
    with pytest.raises(GuidedError, match=r"no features of images samples.*only of molecules, DNA, RNA and text"):
        Surrogate("images")
    assert not feature_rows("molecules", [None, "no molecule", ""]).any()
    assert not feature_rows("dna", ["", "AC"]).any()


def fitted(samples=WORDS, noise=1e-2):
    found = Surrogate("dna", noise=noise)
    rewards = [0.3 * i**2 - s.count("A") for i, s in enumerate(samples)]
    found.add(samples[:2], rewards[:2], samples[:2])
    found.add(samples[2:], rewards[2:], samples[2:])
    return found, torch.tensor(rewards, dtype=torch.float64)


def test_the_prediction_is_the_posterior_mean():
    surrogate, y = fitted()
    new = ["ACGTACCC", "TTTTACGT", "GGGGGGGG"]
    x, at = rows_of(WORDS), rows_of(new)
    A = (tanimoto(x, x) + 1e-2 * torch.eye(6)).inverse()
    m = (A @ y).sum() / A.sum()
    torch.testing.assert_close(surrogate.predict(new), m + tanimoto(at, x) @ A @ (y - m))


def test_it_interpolates_without_noise():
    surrogate, y = fitted(noise=1e-9)
    torch.testing.assert_close(surrogate.predict(WORDS), y, atol=1e-5, rtol=0)


def test_a_prediction_moves_with_the_rewards():
    """Rewards in other units are predicted in these."""
    surrogate, y = fitted()
    other = Surrogate("dna")
    other.add(WORDS, (3 - 5 * y).tolist(), WORDS)
    torch.testing.assert_close(other.predict(["ACGTACCC"]), 3 - 5 * surrogate.predict(["ACGTACCC"]))


def test_nothing_is_learnt_twice():
    surrogate, _ = fitted()
    before = surrogate.kernel.clone()
    surrogate.add(["ACGTACGT", "GGGGGGGG"], [99.0, math.nan], ["ACGTACGT", "GGGGGGGG"])
    assert torch.equal(surrogate.kernel, before) and "GGGGGGGG" in surrogate.asked


def test_it_keeps_the_best_and_the_last():
    samples = [f"{'ACGT'[i % 4] * 3}{'ACGT'[i // 4 % 4] * 3}{'ACGT'[i // 16] * 3}" for i in range(40)]
    rewards = [float((7 * i) % 41) for i in range(40)]
    surrogate = Surrogate("dna", most=10)
    for start in range(0, 40, 8):
        part = slice(start, start + 8)
        surrogate.add(samples[part], rewards[part], samples[part])
    kept = set(surrogate.rewards.tolist())
    assert set(rewards[-5:]) <= kept and set(sorted(rewards[:-5])[-5:]) <= kept and len(kept) == 10
    torch.testing.assert_close(surrogate.kernel, tanimoto(surrogate.rows, surrogate.rows))


def test_chosen_are_new_and_differ():
    surrogate, _ = fitted()
    samples = ["ACGTACGT", "GGGGGGGG", "GGGGGGGG", "ACGTACCC", "CCGGCCGA", "TTTTTTTT", "GATTACCC"]
    chosen = surrogate.choose(samples, samples, 3)
    assert len({samples[i] for i in chosen}) == 3 and not {samples[i] for i in chosen} & surrogate.asked
    few = surrogate.choose(samples[:3], samples[:3], 3)
    assert few[0] == 1 and sorted(few) == [0, 1, 2]


def test_the_best_prediction_comes_first():
    surrogate, _ = fitted()
    samples = ["GGGGGGGG", "ACGTACCC", "CCGGCCGA", "GATTACCC"]
    assert surrogate.choose(samples, samples, 3) == surrogate.predict(samples).argsort(descending=True)[:3].tolist()


def test_equal_rewards_choose_the_first():
    surrogate = Surrogate("dna")
    surrogate.add(WORDS[:3], [1.0] * 3, WORDS[:3])
    assert surrogate.choose(WORDS, WORDS, 2) == [3, 4]


@pytest.mark.parametrize("budget", [{}, {"budget_calls": 7}, {"budget_rows": 30}], ids=str)
@pytest.mark.parametrize("search", SCREENS, ids=str)
def test_a_request_alone_and_among_others_is_the_same(search, budget):
    whole = guided.sample(sequences(), letters, search, n=5, steps=4, **budget)
    parts = guided.sample(sequences(), letters, search, n=5, steps=4, batch_size=2, **budget)
    assert (whole.samples, whole.first_call) == (parts.samples, parts.first_call)
    asked = []

    def counted(samples):
        asked.extend(samples)
        return letters(samples)

    alone = guided.sample(sequences(), counted, search, n=5, steps=4, only=3, **budget)
    assert (alone.samples[0], alone.first_call[0]) == (whole.samples[3], whole.first_call[3])
    most = max(search.N, search.first) * search.rounds
    assert len(asked) == len({*asked}) <= min(most, budget.get("budget_calls", 99))
    assert alone.stats.network_rows <= budget.get("budget_rows", 999)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("search", SCREENS, ids=str)
def test_the_best_sample_is_returned_and_a_round_asks_about_at_most_n(search, seed):
    rounds, best = [], -math.inf

    def value(particles, alpha):
        nonlocal best
        v = PosteriorMean(letters)(particles, alpha)
        rounds.append(particles.x.shape[1])
        best = max(best, v.max().item())
        return v

    model = sequences().with_steps(4)
    found = search(model, value, Streams(seed, [0]))
    assert (
        {*rounds} <= {search.N, search.first}
        and len(rounds) == search.rounds
        and letters(model.decode(found.x[:, 0])) == [best]
    )


def test_what_the_surrogate_chooses_is_scored(monkeypatch):
    wanted, scored = [], []

    def choose(self, samples, keys, n):
        assert len(samples) == 6
        wanted.append([samples[i] for i in (5, 1)])
        return [5, 1]

    def value(particles, alpha):
        scored.append([model.decode(x) for x in particles.x])
        return PosteriorMean(letters)(particles, alpha)

    monkeypatch.setattr(Surrogate, "choose", choose)
    model = sequences().with_steps(4)
    Elite(2, 3, screen=3)(model, value, Streams(0, [0, 1, 2]))
    assert wanted == [own for part in scored[1:] for own in part] and len(wanted) == 6


@pytest.mark.parametrize(
    ("search", "reward", "rows", "spent"),
    [
        (Elite(4, 99, level=0.5, screen=3), float, 24 + 2 * 36 + 35, 24 + 2 * 36),
        (Elite(4, 99, level=0.5, screen=3), float, 24 + 3 * 36, 24 + 3 * 36),
        (Elite(4, 99, 4, level=0.5, restart=1), lambda row: 1.0, 24 + 12 + 23, 24 + 12),
        (Elite(4, 99, 4, level=0.5, restart=1), lambda row: 1.0, 24 + 12 + 24, 24 + 12 + 24),
    ],
)
def test_no_round_begins_that_the_rows_do_not_pay(search, reward, rows, spent):
    """Numbers, written as text: no two rows are equal, so that all are evaluated."""
    model = gaussian(6)
    words = Codec(lambda x: [f"{abs(v):.9f}" for v in x[:, 0].tolist()], modality="text")
    run = guided.sample(replace(model, codec=words), lambda texts: [*map(reward, texts)], search, n=2, budget_rows=rows)
    assert run.stats.network_rows == 2 * spent


def test_more_children_cost_more_rows_and_no_more_calls():
    plain, wide = (Elite(4, 5, level=0.5, screen=s) for s in (1, 3))
    runs = [guided.sample(sequences(), letters, search, n=8, steps=4) for search in (plain, wide)]
    rows, calls = ([getattr(run.stats, name) for run in runs] for name in ("network_rows", "reward_calls"))
    assert rows[0] < rows[1] and calls[1] <= 8 * 20


def test_a_population_is_stale_when_its_ten_best_gain_no_more():
    herd, n = Population(5), iter(range(100))

    def add(*scores):
        names = [next(n) for _ in scores]
        herd.add([torch.tensor(i) for i in names], [[s] for s in scores], names, [""] * len(scores))
        return herd.stale(2)

    assert [add(0.0), add(10.0), add(20.0), add(20.0, 20.0, 20.0, 20.0)] == [False] * 4
    assert [add(1.0), add(2.0)] == [False, True]  # nothing in two rounds
    assert not herd.stale(3)
    herd.restart()
    assert not len(herd) and not herd.stale(0)
    herd.add([torch.tensor(0)], [[9.0]], [0], [""])
    assert not len(herd)  # it was seen before


def test_a_population_of_few_is_not_stale_as_its_mean_falls_while_members_join():
    herd = Population(20)
    for n in range(4):
        herd.add([torch.tensor(n)] * 2, [[1.0 - n], [0.5 - n]], [2 * n, 2 * n + 1], [""] * 2)
        assert not herd.stale(1)


def test_a_population_without_a_member_draws_from_the_model_again():
    """The first samples of all have no reward: each round is a new start until one has."""
    model, asked = gaussian(6), []

    def reward(rows):
        asked.append(len(rows))
        return [float("nan") if len(asked) <= 3 else 1.0] * len(rows)

    Elite(4, 6, level=0.5)(model, PosteriorMean(reward), Streams(0, [0, 1]))
    assert model.denoiser.rows / 2 == 4 * (4 * 6 + 2 * 6 / 2)


def test_crossed_noise_keeps_its_distribution_over_many_rounds():
    """Siblings are alike: their sum would be longer than noise is, more so in every round."""
    model = gaussian(6, eta=0.0)
    seen = []
    reward = PosteriorMean(lambda rows: seen.append(rows) or rows[:, 0].sign() * 0.0 + torch.rand(len(rows)))
    torch.manual_seed(0)
    Elite(8, 60, 8, crossover=1.0)(model, reward, Streams(0, range(64)))
    first, last = (torch.cat(part).square().mean().item() for part in (seen[:1], seen[-10:]))
    assert last == pytest.approx(first, rel=0.35)


def test_a_population_that_starts_again_draws_from_the_model():
    """Of a constant reward a population is stale after a round of children: every other round is a new start."""
    for restart, starts in ((0, 1), (1, 3)):
        model, K = gaussian(6), 6
        Elite(4, 6, 4, level=0.5, restart=restart)(
            model, PosteriorMean(lambda rows: [1.0] * len(rows)), Streams(0, [0, 1])
        )
        assert model.denoiser.rows / 2 == 4 * (starts * K + (6 - starts) * K / 2)


def test_a_population_may_start_from_more_samples_than_a_round_has():
    model, asked = gaussian(6), []
    Elite(4, 6, level=0.5, restart=1, first=10)(
        model, PosteriorMean(lambda rows: asked.extend(rows) or [1.0] * len(rows)), Streams(0, [0, 1])
    )
    assert (model.denoiser.rows / 2, len(asked) / 2) == (3 * 10 * 6 + 3 * 4 * 3, 3 * 10 + 3 * 4)
    for first, calls in ((10, 7), (2, 20)):
        run = guided.sample(gaussian(6), lambda rows: [1.0] * len(rows), Elite(4, 9, first=first), budget_calls=calls)
        assert run.stats.reward_calls == calls + 1  # the one that is returned, once more: rows are never equal


def test_warmer_children_are_drawn_from_the_tempered_distribution():
    """The first samples are the model's own; of a token that is masked again, the share is that of softmax(y / T)."""
    model, drawn = sequences().with_steps(4), []

    def value(particles, alpha):
        drawn.append(particles.x[:, :, 0])
        return torch.zeros(particles.x.shape[:2]).double()

    for T in (1.0, 50.0):
        Elite(200, 2, size=200, level=1.0, crossover=0.0, temperature=T)(model, value, Streams(0, range(20)))
    own, same, again, flat = (x.flatten().bincount(minlength=3) / x.numel() for x in drawn)
    assert torch.equal(own, again) and (own - same).abs().max() < 0.05
    assert (flat - 1 / 3).abs().max() < 0.05 < (own - 1 / 3).abs().max()


def test_screening_finds_more_with_as_many_calls():
    """Of a reward that its features tell; both ask about as many samples."""

    def reward(samples):
        return [sum((ord(a) * ord(b)) % 11 for a, b in pairwise(s)) for s in samples]

    means = []
    for screen in (1, 6):
        run = guided.sample(sequences(), reward, Elite(4, 6, size=4, screen=screen), n=40, steps=4, budget_calls=16)
        means.append(sum(reward(run.samples)) / 40)
    assert means[1] >= means[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Elite(screen=0), "screen is 0; it must be a whole number, at least 1"),
        (lambda: Elite(first=-1), "first is -1; it must be a whole number, at least 0"),
        (lambda: Elite(restart=-1), "restart is -1; it must be a whole number, at least 0"),
        (lambda: Elite(restart=1, rank="front"), "restart is 1, which looks at one reward: rank must be 'reward'"),
        (lambda: Elite(temperature=0), "temperature is 0; it must be a finite number, above 0"),
        (lambda: guided.sample(vectors(conditional=False), letters, Elite(temperature=2)), "is not a masked model"),
        (lambda: Elite(screen=2, rank="front"), "screen is 2, which looks at one reward: rank must be 'reward'"),
        (lambda: guided.sample(vectors(conditional=False), letters, Elite(screen=2)), "no features of these samples"),
        (
            lambda: Elite(screen=2)(tokens(), PosteriorMean(letters), Streams(0, [0])),
            "only of molecules, DNA, RNA and text",
        ),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(GuidedError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sampler", SCREENS)
def test_a_population_holds_the_samples_that_were_scored(sampler, monkeypatch):
    model, kept = sequences(), []
    add = Population.add

    def recording(self, genomes, scores, keys, buckets):
        kept.extend(zip(model.decode(torch.stack(genomes)), [score for (score,) in scores], strict=True))
        add(self, genomes, scores, keys, buckets)

    monkeypatch.setattr(Population, "add", recording)
    with torch.no_grad():
        sampler(model, PosteriorMean(letters), Streams(5, range(3)))
    assert len({sample for sample, _ in kept}) > 3
    assert [score for _, score in kept] == pytest.approx(letters([sample for sample, _ in kept]))
