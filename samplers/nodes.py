"""Nodes of a tree of states, and rollouts that become nodes."""

__all__ = ["Node", "grow"]

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.outputs import Outputs
from guided.core.particles import Particles
from guided.core.random import Streams


@dataclass(eq=False)
class Node:
    """A state of a tree.

    Attributes:
        x: The state, with shape `(*event)`; None for the root, whose children are draws of the start.
        k: Its step.
        y: The network's output there; None while it is not known.
        children: Different states that were drawn from it.
        draws: How often a child was drawn from it.
        count: How often its parent drew it.
        visits: Rollouts that went through it.
        v: Its value; the reward of a leaf.
        low: The worst reward below it that is finite.
        high: The best one.
    """

    x: Any
    k: int
    y: Any = None
    parent: "Node | None" = None
    children: "list[Node]" = field(default_factory=list)
    draws: int = 0
    count: int = 0
    visits: int = 0
    v: float = -math.inf
    low: float = math.inf
    high: float = -math.inf
    _known: "dict[Any, Node]" = field(default_factory=dict)

    @property
    def spread(self) -> float:
        """The range of rewards below."""
        return self.high - self.low if self.high > self.low else 1.0

    def effective(self, alpha: float) -> float:
        r"""How many draws the children are worth: :math:`(\sum_i w_i)^2 / \sum_i w_i^2` over all draws, with
        :math:`w_i = \exp(v_i / \alpha)`; their number at `alpha = 0`, and where no child has a value.
        """
        best = max((child.v for child in self.children), default=-math.inf)
        if alpha == 0 or not math.isfinite(best):
            return self.draws
        weights = [(child.count, math.exp((child.v - best) / alpha)) for child in self.children]
        return sum(n * w for n, w in weights) ** 2 / sum(n * w * w for n, w in weights)

    def add(self, x: Tensor, k: int, y: Any = None, key: Any = None) -> "Node":
        """A child that was drawn; where states can be equal, the one with this key if there is one already."""
        child = self._known.get(key) if key is not None else None
        if child is None:
            child = self._known[key] = Node(x, k, y, self)
            self.children.append(child)
        self.draws, child.count = self.draws + 1, child.count + 1
        return child

    def backup(self, alpha: float) -> None:
        """Takes a leaf's reward up to the root: the soft mean of children, or their best at `alpha = 0`."""
        reward, node = self.v, self.parent
        self.visits += 1
        while node is not None:
            node.visits += 1
            node.v = best = max(child.v for child in node.children)
            if alpha > 0 and math.isfinite(best):
                total = sum(child.count * math.exp((child.v - best) / alpha) for child in node.children)
                node.v += alpha * math.log(total / node.draws)
            if math.isfinite(reward):
                node.low, node.high = min(node.low, reward), max(node.high, reward)
            node = node.parent


def grow(model: Diffusion, streams: Streams, places: list[Node], requests: list[int], every: int) -> list[Node]:
    """Draws a child for a node of each request and follows the model to the end, all requests side by side.

    Args:
        model: The model of all requests.
        streams: Their streams.
        places: A node of each of some requests.
        requests: Those requests, as positions.
        every: Every j-th step becomes a node.

    Returns:
        The leaves.
    """
    nodes = list(places)
    fresh = [i for i, node in enumerate(nodes) if node.x is None]
    if fresh:
        start = _of(model, requests, fresh).start(streams.take([requests[i] for i in fresh]))
        for i, x, key in zip(fresh, start.x[:, 0], _keys(model, start.x[:, 0]), strict=True):
            nodes[i] = nodes[i].add(x, start.k, key=key)
    states = {i: (node.x, node.y) for i, node in enumerate(nodes)}
    for k in range(min(node.k for node in nodes), model.steps):
        moving = [i for i, node in enumerate(nodes) if node.k <= k]
        if moving:
            _step(model, streams, nodes, requests, moving, states, k, every)
    return nodes


def _step(
    model: Diffusion,
    streams: Streams,
    nodes: list[Node],
    requests: list[int],
    moving: list[int],
    states: dict[int, tuple[Tensor, Any]],
    k: int,
    every: int,
) -> None:
    """Moves some of the rollouts from step `k` to the next one."""
    unknown = [i for i in moving if states[i][1] is None]
    if unknown:
        outputs = model.select([requests[i] for i in unknown]).evaluate(_stacked(states, unknown, 0)[:, None], k)
        for i, y in zip(unknown, outputs.y[outputs.index[:, 0]], strict=True):
            states[i] = (states[i][0], y)
            if nodes[i].k == k:
                nodes[i].y = y
    some = [requests[i] for i in moving]
    x, y = (_stacked(states, moving, part) for part in (0, 1))
    held = Outputs(x, y, torch.arange(len(x), device=x.device)[:, None])
    moved = Particles(model.select(some), x[:, None], k, streams.take(some), held).propose().x[:, 0]
    model.monitor.step(k + 1)
    known = [False] * len(x) if model.timed else (~model.process.changed(moved, x)).tolist()
    for i, new, same, key in zip(moving, moved, known, _keys(model, moved), strict=True):
        states[i] = (new, states[i][1] if same else None)
        if (k + 1) % every == 0 or k + 1 == model.steps:
            nodes[i] = nodes[i].add(new, k + 1, states[i][1], key)
            states[i] = (new, nodes[i].y)


def _keys(model: Diffusion, x: Tensor) -> list[Any]:
    """What equal states share; None for real numbers, which are never equal."""
    if model.process.tokens is None:
        return [None] * len(x)
    return [row.tobytes() for row in x.flatten(1).cpu().numpy()]


def _stacked(states: dict[int, tuple[Tensor, Any]], which: list[int], part: int) -> Tensor:
    return torch.stack([states[i][part] for i in which])


def _of(model: Diffusion, requests: list[int], some: list[int]) -> Diffusion:
    return model.select([requests[i] for i in some])
