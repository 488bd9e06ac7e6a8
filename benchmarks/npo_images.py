"""How images are judged: the classifier of categories that judges the shipped image model, and PIQE.

The prompts are names of images that the model was trained on, the eight categories in turn. `accuracy` is the share
whose category the classifier recognises; `Fréchet` the distance of its 64 features to those of 480 real images, biased
upwards for few samples; `PIQE` is a distortion, 0 to 100. Imported by npo.py; it does nothing by itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from npo_common import CFG, NPO, Arm, Results
from npo_summary import best_by_score
from npo_task import Metric, Options, Task

from examples.sheets import sheet
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError
from guided.rewards.images.piqe import piqe
from guided.scoring.objective import resolve_reward
from training.images.augmentation import vary
from training.images.classifier import CATEGORIES, labels, train_classifier
from training.images.emoji import load_images
from training.images.evaluate import as_rows, chosen_rows, frechet

CATEGORY = "category"  # the judge: the log-probability, in nats, that the classifier gives the prompt's category
METRICS = (Metric("accuracy"), Metric("Fréchet", -math.inf), Metric("PIQE", -math.inf), Metric(CATEGORY))
SHOWN = 16


def image_task(model: Diffusion, n: int, judges: Sequence[str], work: Path) -> Task:
    """The task for n images, judged by rewards of images too.

    Raises:
        GuidedError: The model does not make images, or the images that the classifier learns from are missing.
    """
    if model.modality != "images" or not model.prompting.conditional:
        raise GuidedError(f"{model.name!r} is not a model of images with prompts")
    if not (work / "pictures.npz").is_file():
        raise GuidedError(
            f"there are no images in {str(work)!r} for the classifier to learn from; "
            "get them with `python -m training.images.train prepare`"
        )
    rewards = {judge: resolve_reward(judge) for judge in judges}
    for reward in rewards.values():
        reward.check("images")
    torch.manual_seed(0)
    net = train_classifier(work)
    entries, images = load_images(work)
    each = -(-n // len(CATEGORIES))
    rows = np.array(chosen_rows(entries, each)).reshape(len(CATEGORIES), each).T.flatten()[:n]
    label, prompts = labels(entries)[torch.from_numpy(rows)], [entries[i].names[0] for i in rows]
    torch.manual_seed(0)
    real = vary(images[chosen_rows(entries, 60, 1)] / 255, turned=0.0)

    def scores(samples: list[Any]) -> dict[str, Sequence[float]]:
        logp = net(as_rows(samples)).log_softmax(1).gather(1, label[:, None])[:, 0]
        return {CATEGORY: logp.tolist(), **{name: r(samples, prompts).tolist() for name, r in rewards.items()}}

    def measure(samples: list[Any]) -> Mapping[str, float]:
        x = as_rows(samples)
        return {
            "accuracy": float((net(x).argmax(1) == label).float().mean()),
            "Fréchet": frechet(net, x, real),
            "PIQE": -float(np.mean(piqe(samples))),
            **{name: float(np.mean(values)) for name, values in scores(samples).items()},
        }

    metrics = [*METRICS, *map(Metric, rewards)]
    judge = {"judges": {name: reward.identity for name, reward in rewards.items()}, "real": len(real)}
    reference = {
        "accuracy": float((net(real).argmax(1) == labels(entries)[chosen_rows(entries, 60, 1)]).float().mean())
    }
    return Task("images", metrics, measure, prompts, scores, judge, reference)


def write_sheet(options: Options, task: Task, results: Results, arms: Sequence[Arm]) -> Path:
    """Images of CFG and NPO side by side, each at the weight that the classifier prefers; beside the results."""
    weight, n = best_by_score(results, CATEGORY), min(SHOWN, options.n)
    columns = []
    for method in (CFG, NPO):
        arm = next((a for a in arms if (a.method, a.weight) == (method, weight[method])), None)
        arm = arm or next(
            replace(a, weight=weight[method], guidance=weight[method]) for a in arms if a.method == method
        )
        columns.append(arm.draw(options, task, 0, only=range(n)).samples)
    scored = [results.of(method, weight[method])[0]["scores"][CATEGORY] for method in (CFG, NPO)]
    rows = [
        (prompt, [(column[i], f"{logp[i]:.2f}") for column, logp in zip(columns, scored, strict=True)])
        for i, prompt in enumerate(list(task.prompts or ())[:n])
    ]
    path = options.out.with_suffix(".png")
    heads = [f"{method}, w = {weight[method]:g}" for method in (CFG, NPO)]
    sheet(rows, path, "log-probability of the category, in nats", heads)
    return path
