r"""Truncated diffusion fine-tuning: the student learns to predict at once what the teacher predicts after a few weakly
guided steps.

From a clean sample of the model's own, at a random step :math:`k`:

1. :math:`x_k \sim p(x_k \mid x)`, the sample noised;
2. :math:`j` steps of the frozen teacher, guided with a small weight :math:`w` or 0, lead to :math:`x_{k+j}`;
3. the teacher's clean prediction there, :math:`y`, is the target;
4. :math:`x_s \sim p(x_s \mid x_{k+j})` at a noisier time :math:`s`, drawn uniformly;
5. the student, with the prompt, predicts :math:`y` from :math:`x_s`.

In a masked model noise is masks, steps are drawn, and the target is a distribution: the token if the teacher has
revealed one, otherwise the teacher's probabilities.

References:
    | Self-NPO: Data-Free Diffusion Model Enhancement via Truncated Diffusion Fine-Tuning (Wang et al., 2025)
    | https://arxiv.org/abs/2505.11777
"""

__all__ = ["Example", "SelfNPO", "make_examples"]

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from guided.core.denoiser import Denoiser
from guided.core.gaussian import Gaussian
from guided.core.guidance import Conditions
from guided.core.masked import SCHEDULES, Masked
from guided.core.random import Streams
from guided.errors import GuidedError, check_number
from guided.fitting.negative.levels import check_kind, sampling_levels, training_levels

LOSSES = ("huber", "squared")


@dataclass(frozen=True)
class SelfNPO:
    """The hyperparameters of the method; the defaults are those of the published training of Stable Diffusion 1.5.

    The teacher is frozen. In the published code it is a running average of the student (.999), and becomes weaker.

    Args:
        K: The steps of the teacher's grid.
        j: The number of teacher steps from a random step of the grid; they end at the last step with noise.
        w: The teacher's guidance weight: 0 is the model without the prompt, 1 with it.
        T: The number of noise levels that the student's level is drawn from, for continuous models.
        loss: "huber" or "squared", for continuous models; masked models use cross entropy.
        c: Where the Huber loss turns from squared to absolute, in units of a clean sample.
        p: The share of rows for which the student gets no prompt.

    Raises:
        GuidedError: One is out of range.
    """

    K: int = 25
    j: int = 5
    w: float = 0.0
    T: int = 1000
    loss: str = "huber"
    c: float = 1e-3
    p: float = 0.0

    name: ClassVar[str] = "Self-NPO"
    pairs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        least = {"K": 1, "j": 0, "T": 2}
        found: dict[str, Any] = {name: check_number(name, getattr(self, name), int, low) for name, low in least.items()}
        if self.loss not in LOSSES:
            raise GuidedError(f"loss is {self.loss!r}; it is one of {', '.join(LOSSES)}")
        found["c"] = check_number("c", self.c, float, above=0)
        found["p"] = check_number("p", self.p, float, least=0, most=1)
        found["w"] = check_number("w", self.w, float)
        self.__dict__.update(found)  # as Python's own numbers, which JSON takes

    def check(self, process: Any) -> None:
        """Checks that the noise levels exist.

        Raises:
            GuidedError: The process is of another kind, has no grid of `K` steps, or no `T` levels.
        """
        check_kind(process)
        if isinstance(process, Gaussian):
            sampling_levels(process, self.K)
            training_levels(process, self.T)

    def losses(
        self,
        process: Any,
        student: Denoiser,
        teacher: Denoiser,
        x: Tensor,
        cond: Conditions,
        streams: Streams,
    ) -> Tensor:
        """The loss of each row, with shape `(n,)`.

        Args:
            process: The reverse chain.
            student: The network that is trained.
            teacher: The frozen model, guided with the weight `w`; it takes the same conditions.
            x: Clean samples of the model's own, with shape `(n, *event)`.
            cond: Their conditions, on both sides, with shape `(n, *)`.
            streams: A stream for each row.
        """
        with torch.no_grad():
            given = make_examples(process, teacher, x, cond, self, streams)
        mine = dropped(cond, streams.uniform() < self.p)
        y = student(given.x, given.t, **mine)
        if isinstance(process, Masked):
            y = (y / process.temperature).log_softmax(
                -1
            )  # the distribution that tokens are drawn from, as for the target
        return self.distance(y, given)

    def distance(self, y: Tensor, given: "Example") -> Tensor:
        """The distance of the student's prediction `y` from the target, with shape `(n,)`."""
        if given.hidden is not None:
            entropy = -torch.where(given.target == 0, 0.0, given.target * y).sum(-1)
            return (entropy * given.hidden).sum(1) / given.hidden.sum(1).clamp(min=1)
        square = (y - given.target).square().flatten(1)
        return (square if self.loss == "squared" else (square + self.c**2).sqrt() - self.c).mean(1)


@dataclass(frozen=True)
class Example:
    """Training examples: the noised states that the student gets, and the predictions to learn.

    Attributes:
        x: The states, with shape `(n, *event)`.
        t: Their times, with shape `(n,)`.
        target: Clean means `(n, *event)`; of a masked model probabilities `(n, L, V)`.
        hidden: Which positions are masked, with shape `(n, L)`; None in a continuous model.
    """

    x: Tensor
    t: Tensor
    target: Tensor
    hidden: Tensor | None = None


def dropped(cond: Conditions, rows: Tensor) -> dict[str, Tensor]:
    """The positive side's conditions, with the prompt dropped in the rows that `rows`, `(n,)`, marks."""
    none = cond.positive if cond.negative is None else cond.negative
    return {name: torch.where(rows.view(-1, *[1] * (c.ndim - 1)), none[name], c) for name, c in cond.positive.items()}


def make_examples(
    process: Any, teacher: Denoiser, x: Tensor, cond: Conditions, method: SelfNPO, streams: Streams
) -> Example:
    """Steps 1 to 4 for each of the clean rows `(n, *event)`."""
    make = _masked if isinstance(process, Masked) else _gaussian
    return make(process, teacher, x, cond, method, streams)


def _gaussian(
    process: Any, teacher: Denoiser, x: Tensor, cond: Conditions, method: SelfNPO, streams: Streams
) -> Example:
    coarse, fine = sampling_levels(process, method.K), training_levels(process, method.T)
    K = len(coarse.times)
    k = (streams.uniform() * K).long().clamp(max=K - 1)
    alpha, sigma, t = coarse.at(k, x)
    x = alpha * x + sigma * streams.normal(*x.shape[1:])
    y = process.estimate(x, cond.ask(teacher, x, t))
    for _ in range(method.j):
        new = (k + 1).clamp(max=K - 1)  # a row stays at the last noise level of the grid
        a, s, t = coarse.at(new, x)
        moved = a * y + s * (x - alpha * y) / sigma
        x = torch.where((new > k).view(-1, *[1] * (x.ndim - 1)), moved, x)
        k, alpha, sigma = new, a, s
        y = process.estimate(x, cond.ask(teacher, x, t))
    s, any_noisier = fine.noisier(coarse, k, streams.uniform())
    a, std, level = fine.at(s, x)
    wide = any_noisier.view(alpha.shape)
    a, std, t = torch.where(wide, a, alpha), torch.where(wide, std, sigma), torch.where(any_noisier, level, t)
    ratio = torch.where(alpha > 0, a / alpha, 1.0)
    noise = (std**2 - (ratio * sigma) ** 2).clamp(min=0).sqrt()
    return Example(ratio * x + noise * streams.normal(*x.shape[1:]), t, y)


def _masked(process: Any, teacher: Denoiser, x: Tensor, cond: Conditions, method: SelfNPO, streams: Streams) -> Example:
    rate = SCHEDULES[process.schedule]
    rates = torch.tensor([rate(1 - i / method.K) for i in range(method.K + 1)], device=x.device)
    k = (streams.uniform() * method.K).long().clamp(max=method.K - 1)
    x = torch.where(streams.uniform(x.shape[1]) < rates[k][:, None], process.mask, x)
    for _ in range(method.j):
        new = (k + 1).clamp(max=method.K - 1)  # the last step would leave nothing masked
        y = cond.ask(teacher, x, 1 - k / method.K)
        token = process.draw(x[:, None], y[:, None], 1, streams)[:, 0]
        reveal = streams.uniform(x.shape[1]) < (1 - rates[new] / rates[k])[:, None]
        x, k = torch.where((x == process.mask) & reveal, token, x), new
    y = (cond.ask(teacher, x, 1 - k / method.K) / process.temperature).softmax(-1)
    known = F.one_hot(x.clamp(max=process.vocabulary - 1), process.vocabulary).to(y)
    target = torch.where((x == process.mask)[..., None], y, known)
    t = 1 - k / method.K * (1 - streams.uniform())  # in [1 - k / K, 1)
    kept = (1 - torch.tensor([rate(float(s)) for s in t], device=x.device)) / (1 - rates[k]).clamp(min=1e-9)
    hide = streams.uniform(x.shape[1]) >= kept[:, None]
    x = torch.where(hide, process.mask, x)
    return Example(x, t, target, x == process.mask)
