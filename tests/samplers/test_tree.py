"""Trees against exact enumeration: the law of a path through a tree is computed, not sampled."""

import pytest
import torch

from guided.core.random import Streams
from guided.samplers import Tree
from guided.samplers.nodes import Node
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Chain


@pytest.fixture(scope="module")
def chain():
    return Chain()


@pytest.fixture(scope="module")
def reward(chain):
    return torch.rand(len(chain.states), generator=torch.Generator().manual_seed(5)).double()


def law(chain, root, alpha):
    """The distribution of the leaf of a path whose children are drawn by exp(v / alpha)."""
    p = torch.zeros(len(chain.states), dtype=torch.float64)
    stack = [(root, 1.0)]
    while stack:
        node, weight = stack.pop()
        if not node.children:
            p[chain.index(node.x)] += weight
            continue
        counts, v = (torch.tensor([getattr(child, key) for child in node.children]) for key in ("count", "v"))
        shares = (counts.log() + v / alpha).softmax(0).tolist()
        stack += [(child, weight * share) for child, share in zip(node.children, shares, strict=True)]
    return p


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_the_law_is_the_tilted_one(chain, reward, alpha):
    tilted = chain.distribution() * (reward / alpha).exp()
    tilted /= tilted.sum()
    value, distances = PosteriorMean(lambda x: reward[chain.index(x)]), []
    for N in (2, 150):
        roots, _ = Tree(N, alpha).trees(chain.model(), value, Streams(0, range(80)))
        found = torch.stack([law(chain, root, alpha) for root in roots]).mean(0)
        distances.append(0.5 * (found - tilted).abs().sum().item())
    assert distances[1] <= 0.02 < distances[0], distances


def test_samples_have_the_law_of_paths(chain, reward):
    value, streams = PosteriorMean(lambda x: reward[chain.index(x)]), Streams(0, range(2000))
    tree = Tree(4, 0.3)
    x = tree(chain.model(), value, Streams(0, range(2000))).x[:, 0]
    found = torch.bincount(chain.index(x), minlength=len(chain.states)).double() / 2000
    roots, _ = tree.trees(chain.model(), value, streams)
    wanted = torch.stack([law(chain, root, 0.3) for root in roots]).mean(0)
    assert 0.5 * (found - wanted).abs().sum() < 0.03


def test_values_are_soft_means_of_children(chain, reward):
    roots, _ = Tree(30, 0.4).trees(chain.model(), PosteriorMean(lambda x: reward[chain.index(x)]), Streams(0, range(3)))
    stack = [*roots]
    while stack:
        node = stack.pop()
        if node.children:
            counts, v = (torch.tensor([getattr(child, key) for child in node.children]) for key in ("count", "v"))
            mean = 0.4 * ((v.double() / 0.4).exp() * counts).sum().div(counts.sum()).log()
            assert node.v == pytest.approx(mean.item())
            assert node.visits == sum(child.visits for child in node.children)
            assert node.draws == counts.sum() and len({*map(id, node.children)}) == len(node.children)
        else:
            assert node.k == chain.K and node.v == reward[chain.index(node.x)]
        stack += node.children


def test_a_rollout_pays_only_for_what_is_below_its_place(chain, reward):
    """The rows of a tree are its states without a known output: those equal to their parents, and leaves, are free."""
    model = chain.model()
    (root,), _ = Tree(40, 0.4).trees(model, PosteriorMean(lambda x: reward[chain.index(x)]), Streams(0, [0]))
    fresh, stack = 0, [*root.children]
    while stack:
        node = stack.pop()
        if node.children:
            same = node.parent.x is not None and torch.equal(node.x, node.parent.x)
            fresh += not same
        stack += node.children
    assert model.denoiser.rows == fresh


def test_a_search_finds_the_best(chain, reward):
    value = PosteriorMean(lambda x: reward[chain.index(x)])
    found = Tree(60)(chain.model(), value, Streams(0, range(20))).x[:, 0]
    best = reward[chain.index(chain.clean)].max()
    assert (reward[chain.index(found)] == best).double().mean() > 0.9


def test_the_effective_number_of_children():
    """Equal values are worth all draws, and so is any at a high temperature; one far above the rest is worth one."""
    root = Node(None, -1)
    for key, v in zip("aabcd", [0.0, 0.0, 0.3, 1.0, -0.5], strict=True):
        root.add(torch.tensor(ord(key)), 0, key=key).v = v
    w = (torch.tensor([0.0, 0.0, 0.3, 1.0, -0.5], dtype=torch.float64) / 0.4).exp()
    assert root.effective(0.4) == pytest.approx((w.sum() ** 2 / (w**2).sum()).item())
    assert root.effective(1e9) == pytest.approx(5) and root.effective(1e-3) == pytest.approx(1)
    assert root.effective(0.0) == 5 and Node(None, -1).effective(0.3) == 0


def test_a_child_that_was_drawn_twice_counts_twice():
    root = Node(None, -1)
    for key in "aab":
        root.add(torch.tensor(ord(key)), 0, key=key).v = 0.0
    chosen = [Tree(1, alpha=1.0).choose(root, root, Streams(0, [i])).x.item() for i in range(3000)]
    assert len(root.children) == 2 and abs(chosen.count(ord("a")) / 3000 - 2 / 3) < 0.03


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_children_without_a_value_are_all_gone_on_with(alpha):
    """Where none has one, each is as likely as it is drawn, and a search visits all."""
    root = Node(None, -1, visits=4)
    for key in "aab":
        root.add(torch.tensor(ord(key)), 0, key=key).visits = 2
    chosen = [Tree(1, alpha).choose(root, root, Streams(0, [i])).x.item() for i in range(2000)]
    assert chosen.count(ord("a")) / 2000 == pytest.approx(2 / 3 if alpha else 1 / 2, abs=0.04)
