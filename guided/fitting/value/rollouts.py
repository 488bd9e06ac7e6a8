r"""Rollouts: trajectories of the pretrained model, a few states of each, and the reward at their end.

A trajectory :math:`x_0, \dots, x_K` gives pairs :math:`(x_k, r(x_K))` at a random subset of its steps. Where a value is
bootstrapped, such a state also has :math:`M'` candidates of :math:`x_{k+1}` from the same network output, and the
trajectory takes the first of them; the last step is then always kept, because backups start there.

Trajectory i depends on (seed, i) only. Rollouts have their own random streams, which no sampling run shares: a value is
never used with the noise that it was fitted on, whatever the seed.
"""

__all__ = ["Rollouts", "read", "roll", "rollout"]

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.fitting.value.shards import Arrays, Layout, load, save, shard, smallest
from guided.storage import make_folder
from guided.values.posterior_mean import PosteriorMean
from guided.values.protocol import Reward


@dataclass(frozen=True)
class Rollouts:
    """Trajectories `i` of `n`, and states `s` of them.

    Attributes:
        x: The states, with shape `(S, *event)`, in the smallest type that holds them.
        k: Their steps, with shape `(S,)`.
        of: The trajectory of each state, with shape `(S,)`.
        r: The reward at the end of each trajectory, with shape `(n,)`, finite or -inf.
        following: Candidates of the next state, with shape `(S, M', *event)`, if there are any.
        last: The rewards of the candidates of the last step, with shape `(n, M')`.
        rows: The number of network rows that were evaluated.
    """

    x: Tensor
    k: Tensor
    of: Tensor
    r: Tensor
    following: Tensor | None
    last: Tensor
    rows: int


def roll(
    model: Callable[[list[int]], Diffusion],
    reward: Reward,
    path: Path,
    n: int,
    seed: int,
    states: int,
    candidates: int = 1,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Rolls out trajectories `0..n-1` into a folder, a file for each batch; existing whole files are kept.

    Args:
        model: Maps numbers of trajectories to the model for them.
        reward: The reward of decoded samples.
        path: The folder.
        n: The number of trajectories.
        seed: The seed.
        states: The number of states kept from each.
        candidates: The number of candidates `M'` of the next state; 1 for the trajectory itself only.
        batch_size: The number of trajectories that are drawn together.
        progress: Called after each batch with the number of trajectories so far.
    """
    make_folder(path)
    layout = Layout.of(model([0]), states, candidates)
    for start in range(0, n, batch_size):
        block = list(range(start, min(n, start + batch_size)))
        file = shard(path, start // batch_size)
        if load(file, len(block), layout) is None:
            part = model(block)
            streams = Streams(seed, block, part.device, "rollouts")
            save(file, rollout(part, reward, streams, states, candidates))
        progress(block[-1] + 1)


@torch.no_grad()
def rollout(model: Diffusion, reward: Reward, streams: Streams, states: int, candidates: int = 1) -> Arrays:
    """One batch of trajectories: x `(B, S, *event)`, k `(B, S)`, r `(B, M')`, following `(B, S, M', *event)`."""
    K, B, rows = model.steps, len(streams), model.monitor.network_rows
    k = _steps(streams, K, min(states, K), last=candidates > 1)
    particles = model.start(streams)
    small = smallest(model.process.tokens)
    event = particles.x.shape[2:]
    table = {"x": np.zeros((*k.shape, *event), small), "k": k.numpy().astype(np.int32)}
    if candidates > 1:
        table["following"] = np.zeros((*k.shape, candidates, *event), small)
    while not particles.done:
        b, s = (k == particles.k).nonzero(as_tuple=True)
        table["x"][b, s] = particles.x[:, 0].cpu().numpy()[b]
        moved = particles.propose(candidates)
        if candidates > 1:
            table["following"][b, s] = moved.x.cpu().numpy()[b]
        particles = moved.take(torch.zeros(B, 1, dtype=torch.long, device="cpu")) if candidates > 1 else moved
    table["r"] = PosteriorMean(reward)(moved).numpy()
    table["rows"] = np.array(model.monitor.network_rows - rows)
    return table


def read(path: Path, n: int, batch_size: int, layout: Layout) -> Rollouts:
    """The trajectories `0..n-1` of a folder that :func:`roll` has filled.

    Raises:
        GuidedError: A file is missing, truncated, or of another layout.
    """
    parts = []
    for start in range(0, n, batch_size):
        file = shard(path, start // batch_size)
        part = load(file, min(batch_size, n - start), layout)
        if part is None:
            raise GuidedError(f"{file} is missing or truncated; roll out again")
        parts.append(part)
    whole = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    S = whole["k"].shape[1]
    return Rollouts(
        x=whole["x"].flatten(0, 1),
        k=whole["k"].flatten().long(),
        of=torch.arange(n, device="cpu").repeat_interleave(S),
        r=whole["r"][:, 0].contiguous(),
        following=whole["following"].flatten(0, 1) if "following" in whole else None,
        last=whole["r"],
        rows=int(whole["rows"].sum()),
    )


def _steps(streams: Streams, K: int, states: int, last: bool) -> Tensor:
    """A random subset of the steps `0..K-1` for each trajectory, with shape `(B, states)`, in order."""
    u = streams.uniform(K).cpu()
    if last:
        u[:, -1] = -1.0
    return u.argsort(1)[:, :states].sort(1).values
