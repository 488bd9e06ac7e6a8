"""Runs from names: models, rewards, samplers and values are looked up here; the engine below takes objects."""

__all__ = ["against", "sample", "stream"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from guided.core.batching import Evaluator
from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from guided.errors import GuidedError, check_number
from guided.loading import check_options, load, split_options
from guided.runs.engine import DECODED, Batch, Progress, Run, Stats, batches_of
from guided.runs.prompts import Prompts
from guided.samplers import Sampler, Unguided, resolve_sampler
from guided.scoring.objective import Objective, resolve_reward
from guided.values.learned import LearnedValue
from guided.values.load import load_value
from guided.values.posterior_mean import PosteriorMean
from guided.values.protocol import Value


def sample(model: Any, reward: Any = None, sampler: Any = "svdd", n: int = 1, seed: int = 0, **options: Any) -> Run:
    """Draws `n` samples of a pretrained model, guided by a reward.

    The arguments are those of :func:`stream`; sample `i` depends on the seed and on `i`, not on `n`.

    Raises:
        ValueError: An argument is not what is accepted; the message says what is.
    """
    batches = list(stream(model, reward, sampler, n, seed, **options))
    return Run(
        samples=[sample for batch in batches for sample in batch.samples],
        rewards=torch.tensor([r for batch in batches for r in batch.rewards], dtype=torch.float64),
        stats=sum((batch.stats for batch in batches), Stats()),
        columns={name: [v for batch in batches for v in batch.columns[name]] for name in batches[0].columns},
        path=[value for batch in batches for value in batch.path],
    )


def stream(
    model: Any,
    reward: Any = None,
    sampler: "str | Mapping[str, Any] | Sampler" = "svdd",
    n: int = 1,
    seed: int = 0,
    *,
    prompt: str | Sequence[str] | None = None,
    negative_prompt: str | Sequence[str] | None = None,
    guidance: float | None = None,
    rescale: float = 0.0,
    negative: str | Path | None = None,
    image: Any = None,
    strength: float | None = None,
    mask: Any = None,
    steps: int | None = None,
    batch_size: int = 64,
    only: Sequence[int] | None = None,
    value: Value | str | Path | None = None,
    draws: int = 1,
    aggregate: str = "mean",
    on_error: str = "stop",
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Batch]:
    """Draws samples and hands them out batch by batch, each as it finishes.

    Arguments:
        model: A model, the name or folder of one, or a diffusers pipeline.
        reward: What :func:`guided.scoring.objective.resolve_reward` takes: a name, a function, a file, a program, or
            a mapping of these to weights. None only for the unguided sampler.
        sampler: A sampler, its name, or a dictionary with its name and fields.
        n: The number of samples.
        seed: The seed; sample `i` depends on `(seed, i)` only, as far as the network's rounding does not depend on
            how many rows it is given at a time.
        prompt: For a conditional model: one prompt, or one for each sample.
        negative_prompt: What guidance leads away from, one or one for each sample; None for the unconditional model.
        guidance: The weight of classifier-free guidance; None for the model's own, 1 for none.
        rescale: The share of guidance rescale (Lin et al., 2023), in [0, 1].
        negative: A negative checkpoint for the unconditional side of guidance, as :func:`guided.attach` takes it;
            its options may follow, as in `"folder?alpha=0.5&beta=0.3"`.
        image: For a model of images: what all samples start from, an image or its file.
        strength: With an image, the share of the steps that are taken, in (0, 1]; None for 0.8, with a mask for all.
        mask: With an image, where it may change: an image or its file, white where it may and black where it is kept.
        steps: The number of reverse steps `K`; None for the model's own.
        batch_size: The number of requests `B` that are drawn together.
        only: The requests to draw; None for all of `0..n-1`. Those of one block of `batch_size` go together.
        value: What the sampler selects by; None for the reward of the look-ahead (SVDD-PM). A learned one
            (:func:`guided.fit_value`), or its folder, must be one of this model, prompt, guidance and reward (SVDD-MC).
        draws: The number of clean draws of the look-ahead, for a discrete model.
        aggregate: How several rewards become one, "mean" or "product".
        on_error: What a failing reward does, "stop" or "worst".
        time_limit: The seconds that a call of the reward may take.
        progress: Called at every step.

    Raises:
        ValueError: An argument is not what is accepted; the message says what is.
    """
    for name, number in (("n", n), ("batch_size", batch_size)):
        check_number(name, number, int, least=1)
    requests = list(range(n)) if only is None else list(only)
    strange = [i for i in requests if not isinstance(i, int) or not 0 <= i < n]
    if strange or not requests:
        what = f"request {strange[0]!r} is not" if strange else "only is empty: name some requests"
        raise GuidedError(f"{what} among the {n} of this run, 0 to {n - 1}")
    Streams(seed, [])  # a wrong seed is told before anything is loaded
    strategy = resolve_sampler(sampler)
    if reward is None and not isinstance(strategy, Unguided):
        raise GuidedError(f"sampler {type(strategy).__name__} needs a reward; only unguided does without")
    model = model if isinstance(model, Diffusion) else load(model)
    model = model if steps is None else model.with_steps(steps)
    model = against(model, negative)
    model = _started(model, image, strength, mask)
    wanted = Prompts.of(model, n, prompt, negative_prompt, guidance, rescale)
    objective = None
    if reward is not None:
        objective = resolve_reward(reward, aggregate=aggregate, on_error=on_error, time_limit=time_limit)
        objective.check(model.modality)
        whole = wanted.checked(model)
        decoded = Evaluator(DECODED.get(model.modality))
        if value is None:
            value = PosteriorMean(objective, draws, decoded)
        else:
            value = _learned(value, whole, objective, strategy, plain=wanted.plain and model.requests.editing is None)
    else:
        wanted.checked(model)
        value = None if isinstance(value, str | Path) else value  # the unguided sampler asks no value
    blocks = [list(block) for _, block in groupby(requests, key=lambda i: i // batch_size)]
    return batches_of(model, wanted, objective, strategy, value, blocks, seed, progress)


def _learned(value: Value | str | Path, model: Diffusion, objective: Objective, sampler: Sampler, plain: bool) -> Value:
    """A learned value, or that of a folder, for this run; another value as it is."""
    if isinstance(value, str | Path):
        value = load_value(value)
    if isinstance(value, LearnedValue):
        if not plain:
            raise GuidedError(
                "a learned value was fitted to runs from noise, without negative prompts and guidance rescale; "
                "leave out image, negative_prompt and rescale, or the value"
            )
        return value.bind(model, objective, getattr(sampler, "alpha", ()))
    return value


def against(model: Diffusion, negative: str | Path | None) -> Diffusion:
    """The model with a negative checkpoint, if one is named; options may follow the name.

    Raises:
        ValueError: There is no such checkpoint or option, or it is of another base.
    """
    if negative is None:
        return model
    from guided.negatives.attach import attach

    place, options = split_options(negative)
    check_options(attach, options, f"negative checkpoint {place!r}")
    return attach(model, place, **options)


def _started(model: Diffusion, image: Any, strength: float | None, mask: Any) -> Diffusion:
    """The model that starts from an image, if there is one."""
    if image is None:
        for name, given in (("strength", strength), ("mask", mask)):
            if given is not None:
                raise GuidedError(f"{name} is for runs that start from an image; give the image too")
        return model
    edited = model.edited(image, strength, mask)
    edited.requests.first_step(edited.steps)  # raises where no step is left
    return edited
