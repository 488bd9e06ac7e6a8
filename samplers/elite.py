r"""Elites: a population of the best samples, whose children are drawn through the model.

A child has one parent or two, drawn by rank: :math:`p(r) \propto 1 / (\kappa P + r)` for the r-th of `P`. With
probability `crossover` it takes a span of tokens of one parent, and the rest of the other. A span of its tokens is
masked again, as many as are masked at the level, or noise of the level is added to real numbers, and the reverse chain
makes a sample of it. For a model without noise in its steps the population holds starting noise :math:`z`, and a child
is :math:`\sqrt{1 - s^2} \, z + s \epsilon`, in a trust region whose size `s` grows with success and shrinks without.
With several rewards the rank may be that of NSGA-II: samples that no other dominates first, the lonely ones among them
before those in a crowd.

With `screen` above 1 more children are drawn than are scored. Those that were there before are left out, and of the
others a Gaussian process (:mod:`guided.samplers.surrogate`), fitted to what the request has scored, chooses the most
promising. It pays where a reward call costs more than a few rows of the network.

References:
    | GenMol: A Drug Discovery Generalist with Discrete Diffusion (Lee et al., 2025)
    | https://arxiv.org/abs/2501.06158

    | Genetic-guided GFlowNets for Sample Efficient Molecular Optimization (Kim et al., 2024)
    | https://arxiv.org/abs/2402.05961

    | A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II (Deb et al., 2002)
    | https://doi.org/10.1109/4235.996017

    | Scalable Global Optimization via Local Bayesian Optimization (Eriksson et al., 2019)
    | https://arxiv.org/abs/1910.01465

    | Surrogate-assisted evolutionary computation: Recent advances and future challenges (Jin, 2011), `screen`
    | https://doi.org/10.1016/j.swevo.2011.05.001
"""

__all__ = ["Elite"]

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.outputs import gather
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.core.views import Views
from guided.errors import GuidedError, check_number
from guided.metrics.buckets import bucket
from guided.samplers.base import register_sampler
from guided.samplers.finished import Finished, to_the_end
from guided.samplers.population import PENALTIES, Population
from guided.samplers.schedule import check_choice
from guided.samplers.surrogate import Surrogate
from guided.values.protocol import Value, scored


@register_sampler("elite")
@dataclass(frozen=True)
class Elite:
    """Breeds the best samples of each request for some rounds, and returns the best that it saw.

    It takes K network rows for each of the first samples, and K level rows for each child, N screen a round; masked
    models fewer. Each distinct sample that is scored is one reward call, so N rounds at most, and where `first` is not
    N, first + N (rounds - 1); a new start is a round of as many as the first. It stops before a round of which the
    budget of a request does not pay the rows; with a large number of rounds it runs until then.

    Args:
        N: The number of children of a round.
        rounds: The number of rounds; the first draws from the model.
        size: The number of samples that a population holds.
        level: The share of the chain that a child runs through, above 0 and up to 1.
        crossover: The probability of two parents, in [0, 1].
        pressure: kappa; the smaller, the more the best are preferred.
        penalty: What is left of the reward of samples that resemble many others: none, step, linear or sigmoid.
            Molecules resemble by their scaffold, sequences by their frequent 4-mers, images by a hash.
        room: The number of like samples at which the penalty is largest.
        rank: What ranks a population: "reward", or "front" where there are several rewards. The best by the reward is
            returned in both cases.
        screen: How many children are drawn for each one that is scored; above 1 for molecules, DNA, RNA and text only,
            and where rank is "reward". For each request a round takes a few hundredths of a second and up to 5 MB more.
        temperature: What the temperature of the tokens of children is multiplied by, for masked models. Above 1 they
            hold rarer tokens, and are more often new; without `screen` more of them are bad.
        restart: The number of rounds after which a population starts again from the model if its ten best have gained
            less than a hundredth of all that they had gained; 0 for never. No sample is scored twice.
        first: The number of samples that a population starts from; 0 for N.

    Raises:
        GuidedError: A number is out of range, there is no such penalty, or screen does not go with the rank.
    """

    N: int = 16
    rounds: int = 8
    size: int = 32
    level: float = 0.4
    crossover: float = 0.3
    pressure: float = 0.01
    penalty: str = "none"
    room: int = 25
    rank: str = "reward"
    screen: int = 1
    temperature: float = 1.0
    restart: int = 0
    first: int = 0

    guides: ClassVar[bool] = False  # the value is asked at the end of chains only

    def __post_init__(self) -> None:
        for name in ("N", "rounds", "size", "room", "screen"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), int, least=1))
        for name in ("level", "pressure"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), float, above=0, most=1))
        for name in ("restart", "first"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), int, least=0))
        object.__setattr__(self, "crossover", check_number("crossover", self.crossover, float, least=0, most=1))
        object.__setattr__(self, "temperature", check_number("temperature", self.temperature, float, above=0))
        check_choice("penalty", self.penalty, PENALTIES)
        check_choice("rank", self.rank, ("reward", "front"))
        for name, off in (("screen", 1), ("restart", 0)):
            given = getattr(self, name)
            if given > off and self.rank == "front":
                raise GuidedError(f"{name} is {given}, which looks at one reward: rank must be 'reward', not 'front'")

    def check(self, model: Diffusion) -> None:
        """Refuses a model before anything is drawn.

        Raises:
            GuidedError: Children are to be screened, and there are no features of the model's samples; or they have a
                temperature, and the model is not a masked one.
        """
        if self.screen > 1:
            Surrogate(model.modality)
        if self.temperature != 1 and not hasattr(model.process, "temperature"):
            raise GuidedError(f"temperature is {self.temperature}, but {model.name} is not a masked model")

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        self.check(model)
        finished, spending = Finished(model, streams, value), model.requests.spending
        first, K = model.requests.first_step(model.steps), model.steps
        still = not any(map(model.process.stochastic, range(first, K)))
        k = first if still else max(first, K - max(1, round(self.level * K)))
        starts = self.first or self.N
        paid = starts if spending is None else spending.chains(starts, (K - first) * model.cost)
        N = self.N if paid == starts else min(self.N, paid)
        requests, herd = list(range(len(streams))), [self._population(model) for _ in range(len(streams))]
        self._judge(model.start(streams, paid), paid, still, requests, herd, finished)
        drawn, warmer = N * self.screen, self._warmer(model)
        for _ in range(self.rounds - 1):
            stale = [b for b in requests if not len(herd[b]) or (self.restart and herd[b].stale(self.restart))]
            for b in stale:
                herd[b].restart()
            bred = [b for b in requests if b not in stale]
            if spending is not None:
                stale = [stale[i] for i in spending.select(stale).open(paid * (K - first) * model.cost)]
                bred = [bred[i] for i in spending.select(bred).open(drawn * (K - k) * model.cost)]
            if stale:
                start = model.select(stale).start(streams.take(stale), paid)
                self._judge(start, paid, still, stale, [herd[b] for b in stale], finished)
            if bred:
                numbers, some = streams.take(bred), [herd[b] for b in bred]
                parents = self._crossed(model, some, numbers, drawn, still)
                children = self._changed(warmer.select(bred), parents, some, k, numbers)
                self._judge(children, N, still, bred, some, finished)
            requests = sorted([*stale, *bred])
            if not requests:
                break
        return finished.particles()

    def _population(self, model: Diffusion) -> Population:
        """That of a request, before its first samples."""
        surrogate = Surrogate(model.modality) if self.screen > 1 else None
        return Population(self.size, self.penalty, self.room, surrogate)

    def _warmer(self, model: Diffusion) -> Diffusion:
        """The model that draws children."""
        if self.temperature == 1:
            return model
        process: Any = model.process
        return replace(model, process=replace(process, temperature=self.temperature * process.temperature))

    def _crossed(self, model: Diffusion, herd: list[Population], streams: Streams, N: int, still: bool) -> Tensor:
        """Parents, or two of them crossed, with shape `(B, N, *event)`."""
        noise = streams.gumbel(2, N, self.size)
        one, two = (
            torch.stack(
                [
                    torch.stack([p.genomes[i] for i in p.parents(noise[b, side], self.pressure)])
                    for b, p in enumerate(herd)
                ]
            )
            for side in (0, 1)
        )
        crossed = streams.uniform(N) < self.crossover
        if model.process.tokens is not None:
            where = crossed[..., None] & _span(streams.uniform(N), streams.uniform(N), one.shape[-1])
            return torch.where(where, two, one)
        if not still:  # the mean of two images or graphs is none
            return one
        where = streams.uniform(N, one[0, 0].numel()) < 0.5  # no sum: siblings are alike, and it would grow
        return torch.where(where.view_as(one) & crossed.view(*crossed.shape, *[1] * (one.ndim - 2)), two, one)

    def _changed(self, model: Diffusion, x: Tensor, herd: list[Population], k: int, streams: Streams) -> Particles:
        """Children at step `k`, with shape `(B, N, *event)`."""
        process, N, share = model.process, x.shape[1], 1 - k / model.steps
        if k == model.requests.first_step(model.steps) and not process.stochastic(k):
            step = (
                torch.tensor([population.step for population in herd], device="cpu").view(-1, *[1] * (x.ndim - 1)).to(x)
            )
            return Particles(model, (1 - step**2).sqrt() * x + step * streams.normal(*x.shape[1:]), k, streams)
        if process.tokens is None:
            return model.restart(x, k, streams)
        begin, whole = streams.uniform(N), streams.uniform(N) < 0.5
        span = _span(begin * (1 - share), begin * (1 - share) + share, x.shape[-1])
        scattered = streams.uniform(N, x.shape[-1]) < share
        return Particles(model, process.remask(x, torch.where(whole[..., None], span, scattered)), k, streams)

    def _judge(
        self, start: Particles, N: int, still: bool, requests: list[int], herd: list[Population], finished: Finished
    ) -> None:
        """Runs chains to the end and adds `N` samples of each request to its population."""
        done, model, before = to_the_end(start), finished.model, finished.best[requests].clone()
        genomes, views = (start if still else done).x, model.views(done.x.flatten(0, 1))
        if done.x.shape[1] > N:
            index = self._chosen(views, herd, N).to(genomes.device)
            rows = (index + done.x.shape[1] * torch.arange(len(herd), device=index.device)[:, None]).flatten()
            done, genomes, views = done.take(index), gather(genomes, index), views.select(rows)
        if self.rank == "front":
            v, scores = scored(finished.value, done)
            finished.add(done, requests, v)
        else:
            scores = finished.add(done, requests)[..., None]
        keys, looked = views.keys(), self.penalty != "none" or self.screen > 1
        samples = views["samples"] if looked else [""] * len(views)
        like = [bucket(model.modality)(sample) if self.penalty != "none" else "" for sample in samples]
        for i, population in enumerate(herd):
            part = slice(i * N, (i + 1) * N)
            population.adapt(bool(finished.best[requests[i]] > before[i]))
            population.add(list(genomes[i]), scores[i].tolist(), keys[part], like[part])
            if population.surrogate is not None:
                population.surrogate.add(samples[part], scores[i, :, 0].tolist(), keys[part])

    def _chosen(self, views: Views, herd: list[Population], N: int) -> Tensor:
        """Which children of each request are scored, with shape `(B, N)`."""
        samples, keys, drawn = views["samples"], views.keys(), len(views) // len(herd)
        parts = [slice(i * drawn, (i + 1) * drawn) for i in range(len(herd))]
        chosen = [p.surrogate.choose(samples[s], keys[s], N) for p, s in zip(herd, parts, strict=True) if p.surrogate]
        return torch.tensor(chosen, device="cpu")


def _span(one: Tensor, other: Tensor, L: int) -> Tensor:
    """The positions between two shares of a length, with shape `(B, N, L)`."""
    at = (torch.arange(L, device=one.device) + 0.5) / L
    low, high = torch.minimum(one, other)[..., None], torch.maximum(one, other)[..., None]
    return (at >= low) & (at < high)
