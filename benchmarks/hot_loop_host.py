"""What the host takes for a step of SVDD when the network costs nothing: for `hot_loop.py --host`."""

__all__ = ["CASES", "Case", "measured"]

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from guided import load
from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian
from guided.core.masked import Masked
from guided.core.monitor import Monitor
from guided.core.random import Streams
from guided.rewards.sequences import oracle
from guided.samplers import SVDD
from guided.scoring.objective import resolve_reward
from guided.values.posterior_mean import PosteriorMean


@dataclass(frozen=True)
class Case:
    """A model whose network returns what was made before, for `B` requests with `M` candidates, and a reward."""

    model: Diffusion
    reward: Any
    B: int
    M: int


class _Free(nn.Module):
    """An oracle that costs nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 4)


def tokens(name: str, reward: Any, B: int, K: int, prompt: str | None = None) -> Case:
    """A shipped model of tokens, with random outputs."""
    M = 10
    model = load(name, device="cpu", steps=K)
    model = model if prompt is None else model.prompted([prompt] * B)
    y = torch.randn(B * M, *model.process.output, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    return Case(replace(model, denoiser=lambda x, t, **conditions: y[: len(x)]), reward, B, M)


def dna(B: int) -> Case:
    """DNA with `activity`, whose oracle costs nothing either."""
    mock.patch.object(oracle, "_network_on", lambda *_: _Free()).start()  # refuses a name that is no longer there
    return tokens("dna", resolve_reward("activity"), B, 32, "HepG2")


def latents(reward: Any) -> Case:
    """Latents of Stable Diffusion's size with 80 candidates and the size of a JPEG; decoding costs nothing."""
    rng, K = np.random.default_rng(0), 5
    images = [Image.fromarray(image) for image in rng.integers(0, 255, (80, 512, 512, 3), dtype=np.uint8)]
    y = torch.zeros(80, 4, 64, 64)
    up, down = [k / K for k in range(K)] + [1.0], [1 - k / K for k in range(K)] + [0.0]
    codec = Codec(lambda x: images[: len(x)], modality="images")
    return Case(Diffusion(lambda x, t: y[: len(x)], Gaussian((4, 64, 64), up, down, down), codec), reward, 4, 20)


def text() -> Case:
    """Text of 128 tokens from 50,257."""
    L, V = 128, 50_257
    y = torch.randn(4, L, V, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    model = Diffusion(lambda x, t: y[torch.arange(len(x)) % 4], Masked(L, V, 8), timed=False)
    return Case(model, lambda x: x.double().mean(1), 8, 10)


CASES: dict[str, Callable[[], Case]] = {
    "DNA, B = 64": lambda: dna(64),
    "DNA, B = 512": lambda: dna(512),
    "molecules, B = 64": lambda: tokens("molecules", resolve_reward("qed"), 64, 32),
    "latents, 80 candidates": lambda: latents(_jpeg),
    "the same, two threads": lambda: latents(resolve_reward("compressibility", workers=2)),
    "text, B = 8": text,
}


def measured(case: Case, repeats: int) -> tuple[float, dict[str, float]]:
    """The median milliseconds of a step, without the network's, and those of its parts."""
    K, totals, parts = case.model.steps, [], []
    for seed in range(repeats):
        if hasattr(case.reward, "clear"):
            case.reward.clear()
        model = case.model.with_requests(monitor=Monitor())
        start = time.perf_counter()
        with torch.no_grad():
            SVDD(case.M)(model, PosteriorMean(case.reward), Streams(seed, range(case.B)))
        seconds = model.monitor.seconds
        totals.append((time.perf_counter() - start - seconds["network"]) / K * 1e3)
        parts.append({part: seconds[part] / K * 1e3 for part in ("decode", "reward")})
    return statistics.median(totals), {part: statistics.median([p[part] for p in parts]) for part in parts[0]}


def _jpeg(samples: list[Any]) -> list[float]:
    sizes = []
    for image in samples:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95)
        sizes.append(buffer.tell() / 1000)
    return sizes
