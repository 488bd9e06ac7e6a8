r"""Diffusion tree sampling and search: a tree of states, grown rollout by rollout.

A rollout goes down the tree, draws a new child where there is room, and follows the model to the end; all of its states
become nodes, and the network's outputs stay there, so that a second visit costs nothing. A node that was visited `n`
times has room for `c n^a` children; where it samples, as many as are worth that, for a few that are far better than
the rest say little of how good they are in the mean. At the end the reward is backed up,

.. math:: v(x_k) = \alpha \log \frac{1}{|C|} \sum_{x' \in C} \exp(v(x') / \alpha)

over the children `C`, of which equal ones are one node that counts as many. They are draws of the model, so a child is
chosen with probability proportional to :math:`\exp(v / \alpha)`, with no prior factor, and the sample at the end of
such a path has the law :math:`p(x) \exp(r(x) / \alpha) / Z` as the tree grows. At alpha = 0 it is a search: the best
child is backed up, children are chosen by their value and an upper bound (UCT), and the best sample that was seen is
returned.

References:
    | Diffusion Tree Sampling: Scalable Inference-Time Alignment of Diffusion Models (Jain et al., 2025)
    | https://arxiv.org/abs/2506.20701
"""

__all__ = ["Tree"]

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.core.resampling import tilt
from guided.errors import check_number
from guided.samplers.base import register_sampler
from guided.samplers.finished import Finished
from guided.samplers.nodes import Node, grow
from guided.values.protocol import Value


@register_sampler("tree")
@dataclass(frozen=True)
class Tree:
    """Grows a tree of N rollouts, each from a state of an earlier one.

    It takes at most K N network rows and N reward calls, one a rollout. It stops before a rollout that the budget of a
    request does not pay for: with a large N it runs until then.

    Args:
        N: The number of rollouts.
        alpha: The temperature, in units of the reward, at least 0; 0 searches for the best.
        every: Every j-th step has nodes; in between are the model's own steps.
        c: The factor of the room for children; where it samples they count by their effective number, the effective
            sample size of their weights exp(v / alpha).
        a: The power of the visits in it, in [0, 1]. If not given, 0.8 where it samples, as many children bring the law
            nearer, and 0.5 where it searches.
        explore: For the search: the weight of the upper bound, in units of the range of rewards seen.

    Raises:
        GuidedError: A number is out of range.
    """

    N: int = 64
    alpha: float = 0.0
    every: int = 1
    c: float = 2.0
    a: float | None = None
    explore: float = 0.5

    guides: ClassVar[bool] = False  # the value is asked at the end of rollouts only

    def __post_init__(self) -> None:
        for name in ("N", "every"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), int, least=1))
        for name in ("alpha", "explore"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), float, least=0))
        object.__setattr__(self, "c", check_number("c", self.c, float, least=1))
        power = (0.8 if self.alpha else 0.5) if self.a is None else self.a
        object.__setattr__(self, "a", check_number("a", power, float, least=0, most=1))

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        roots, finished = self.trees(model, value, streams)
        if self.alpha == 0:
            return finished.particles()
        leaves = [self.draw(root, streams.take([b])) for b, root in enumerate(roots)]
        return Particles(model, torch.stack([leaf.x for leaf in leaves])[:, None], model.steps, streams)

    def trees(self, model: Diffusion, value: Value, streams: Streams) -> tuple[list[Node], Finished]:
        """The root of each request's tree, whose children are draws of the start, and the best samples seen."""
        finished, spending = Finished(model, streams, value), model.requests.spending
        first = model.requests.first_step(model.steps)
        roots, requests = [Node(None, first - 1) for _ in range(len(streams))], list(range(len(streams)))
        for n in range(self.N):
            places = [self.descend(roots[b], streams.take([b])) for b in requests]
            if spending is not None and n > 0:
                rows = [(model.steps - max(place.k, first)) * model.cost for place in places]
                going = [i for i in range(len(requests)) if spending.select([requests[i]]).open(rows[i])]
                requests, places = [requests[i] for i in going], [places[i] for i in going]
            new = [i for i, place in enumerate(places) if place.k < model.steps]
            if new:
                leaves = grow(model, streams, [places[i] for i in new], [requests[i] for i in new], self.every)
                some = [requests[i] for i in new]
                x = torch.stack([leaf.x for leaf in leaves])[:, None]
                v = finished.add(Particles(model.select(some), x, model.steps, streams.take(some)), some)
                for i, leaf, r in zip(new, leaves, v[:, 0].tolist(), strict=True):
                    leaf.v, places[i] = r, leaf
            for place in places:
                place.backup(self.alpha)
        return roots, finished

    def descend(self, root: Node, streams: Streams) -> Node:
        """The node that gets a new child, or a leaf; children are chosen on the way."""
        node = root
        while node.children and node.effective(self.alpha) >= self.room(node):
            node = self.choose(node, root, streams)
        return node

    def room(self, node: Node) -> float:
        """How many draws of children a node must be worth before one of them is gone on with."""
        room = self.c * max(node.visits, 1) ** cast("float", self.a)
        return room if self.alpha else math.ceil(room)

    def choose(self, node: Node, root: Node, streams: Streams) -> Node:
        """A child: one of softmax(v / alpha), or in a search the one with the largest upper bound."""
        v = torch.tensor([child.v for child in node.children], dtype=torch.float64, device="cpu")
        noise = streams.gumbel(len(v))[0]
        if self.alpha > 0:
            counts = torch.tensor([child.count for child in node.children], dtype=torch.float64, device="cpu")
            return node.children[int((counts.log() + tilt(v, self.alpha) + noise).argmax())]
        visits = torch.tensor([child.visits for child in node.children], dtype=torch.float64, device="cpu")
        bound = (math.log(max(node.visits, 1)) / visits).sqrt()
        known = torch.where(v.amax().isinf(), 0.0, v)  # where none has a value, the bound alone says where to go
        return node.children[int((known + self.explore * root.spread * bound + 1e-9 * noise).argmax())]

    def draw(self, root: Node, streams: Streams) -> Node:
        """A leaf of the tree, each child with probability proportional to exp(v / alpha)."""
        node = root
        while node.children:
            node = self.choose(node, root, streams)
        return node
