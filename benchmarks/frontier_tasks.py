"""The tasks of the frontier, and the fields that give each sampler about the network rows of so many chains.

Sizes are such that the five seeds of a task take a quarter of an hour or so on one core.
"""

__all__ = ["SIZED", "TASKS", "Task", "named_colour"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guided.rewards.images.appearance import target_colour

CELECOXIB = "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"
PROMPTS = ("red apple", "blue car", "green leaf", "yellow star")


def named_colour(samples: Sequence[Any], prompts: Sequence[str]) -> list[float]:
    """Minus the mean distance of an image to the colour that its prompt begins with, in CIELAB, at most 0."""
    return [float(target_colour([s], colour=p.split()[0])[0]) for s, p in zip(samples, prompts, strict=True)]


@dataclass(frozen=True)
class Task:
    """A model with a reward, and what samples are judged by.

    Args:
        model: The model.
        reward: What guides.
        judge: What does not.
        alpha: The temperature of samplers that need one above 0, in units of the reward.
        sizes: The budgets, in chains of the model.
        n: The samples of a run.
        prompts: Those of samples, in turn.
        steps: Those of the chain, if not the model's own.
        guidance: The weight of classifier-free guidance, if not the model's own.
    """

    model: str
    reward: Any
    judge: str
    alpha: float
    sizes: tuple[int, ...]
    n: int
    prompts: tuple[str, ...] = ()
    steps: int | None = None
    guidance: float | None = None

    def prompted(self, n: int) -> list[str] | None:
        """The prompts of n samples; None for none."""
        return [self.prompts[i % len(self.prompts)] for i in range(n)] if self.prompts else None


TASKS = {
    "qed": Task("molecules", "qed", "sa", 0.02, (4, 16, 64), 8),
    "similarity": Task("molecules", f"similarity?target={CELECOXIB}", "qed", 0.02, (4, 16, 64), 8),
    "hepg2": Task("dna", "activity", "activity?oracle=judge", 0.3, (4, 16), 4, ("HepG2",), 32),
    "jpeg": Task("images", "compressibility", "symmetry", 0.2, (4, 16), 4, PROMPTS, 20, 1.0),
    "colour": Task("images", named_colour, "compressibility", 2.0, (4, 16), 4, PROMPTS, 20, 1.0),
}


def root(c: int) -> int:
    """The whole number nearest to the root."""
    return round(c**0.5)


Values = Mapping[str, Any]
#: From c chains and a task to the fields of a sampler that takes about the rows of c chains, before duplicates.
SIZED: dict[str, Callable[[int, Task], Values]] = {
    "unguided": lambda c, task: {},
    "best-of-n": lambda c, task: {"N": c},
    "svdd": lambda c, task: {"M": c},
    "rollover": lambda c, task: {"M": c},
    "beam": lambda c, task: {"N": root(c), "M": root(c)},
    "block-best-of-n": lambda c, task: {"N": c},
    "tree": lambda c, task: {"N": c},
    "elite": lambda c, task: {"N": max(4, c // 4), "rounds": 8 if c > 4 else 1},
    "noise-search": lambda c, task: {"N": root(c), "rounds": root(c)},
    "smc": lambda c, task: {"N": c, "alpha": task.alpha},
    "particle-gibbs": lambda c, task: {"N": c // 2, "rounds": 2, "alpha": task.alpha},
    "tilt": lambda c, task: {"N": max(1, c // 8), "draws": 8 if c > 4 else 4, "alpha": task.alpha},  # for its calls
    "refine": lambda c, task: {"rounds": 2 * (c - 1), "alpha": task.alpha, "best": True},
}
