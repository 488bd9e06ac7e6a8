"""The description of a fit: every option of `guided.fit_value` and `guided fit-value`, declared and checked here."""

__all__ = ["POSITIONAL", "TARGETS", "FitConfig", "FitShorthand"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import SkipValidation

from guided.errors import GuidedError, check_number, nearest
from guided.runs.config import Aggregate, Device, Dtype, OnError, TimeLimit, TrustRewards
from guided.runs.options import REQUIRED, Config, Option, spelled

TARGETS = ("mean", "soft", "bootstrap")
POSITIONAL = ("model", "reward", "target", "alpha", "n", "out")
HELD_OUT = 10  # trajectories at least: one in ten is held out


@dataclass(frozen=True)
class FitConfig(Config):
    """A fit of a value to rollouts of the pretrained model."""

    model: Annotated[
        Any,
        Option(
            "A name of `guided models`, or the path of a checkpoint.",
            panel="Model",
            more="In Python also a model.",
            shell=str,
        ),
    ]
    reward: Annotated[
        Any,
        Option(
            "As for `guided sample`; several are combined.",
            panel="Reward",
            flags=("--reward", "-r"),
            metavar="R",
            more="A sample that fails counts as the worst that did not.",
            shell=list[str],
        ),
    ] = None
    target: Annotated[
        str,
        SkipValidation,
        Option(
            "mean: E(r | x); soft or bootstrap: alpha log E(exp(r/alpha) | x), by Monte Carlo or Bellman backups.",
            "Fit",
        ),
    ] = "soft"
    alpha: Annotated[
        Any,
        Option(
            "The temperature of a soft value, that of the sampler, in units of the reward; the mean has none.",
            "Fit",
            shell=float,
        ),
    ] = 0.1
    n: Annotated[int, Option("The number of rollouts.", flags=("-n",), least=HELD_OUT)] = 2000
    out: Annotated[
        Path, Option("The value's folder; the same fit again goes on.", metavar="DIR", shell_default=REQUIRED)
    ] = Path("runs/value")
    prompt: Annotated[
        SkipValidation[str | Sequence[str] | None],
        Option(
            "The prompt that the value is for; of several, rollout i has the i-th, again and again.",
            panel="Conditioning",
            shell=list[str],
        ),
    ] = None
    guidance: Annotated[
        float | None, Option("The weight of classifier-free guidance; none if not given.", "Conditioning")
    ] = None
    steps: Annotated[
        int | None, Option("Reverse steps K of the rollouts; the model's own number if not given.", least=1)
    ] = None
    seed: Annotated[int, Option("The seed of rollouts, fit and check.", least=0, below=2**64)] = 0
    states: Annotated[int, Option("States that are kept of each rollout, at random steps.", least=1)] = 16
    candidates: Annotated[
        int | None, Option("Next states that are kept with each; 8 for bootstrap if not given.", least=1)
    ] = None
    batch_size: Annotated[int, Option("Rollouts that are drawn, and written, together.", least=1)] = 64
    rollouts: Annotated[
        Path | None, Option("A folder of rollouts that several values share; in `out` if not given.", metavar="DIR")
    ] = None
    network: Annotated[
        str | Mapping[str, Any] | Any,
        SkipValidation,
        Option(
            "sequence, image or vector; what suits the model, if not given.",
            panel="Fit",
            more="In Python also a mapping with this `kind`, `width` and so on, or a function that makes one.",
            shell=str,
        ),
    ] = None
    updates: Annotated[int, Option("Updates of the network.", "Fit", least=2)] = 2000
    batch: Annotated[int, Option("States of an update.", "Fit", least=1)] = 128
    lr: Annotated[float, Option("The learning rate.", "Fit", least=0)] = 2e-3
    weight_decay: Annotated[float, Option("The weight decay of AdamW.", "Fit", least=0)] = 0.01
    n_check: Annotated[
        int,
        Option(
            "Samples that are drawn at the end, with this value and unguided, to report their rewards; 0 for none.",
            flags=("--check",),
            least=0,
        ),
    ] = 32
    aggregate: Aggregate = "mean"
    on_error: OnError = "stop"
    time_limit: TimeLimit = None
    trust_rewards: TrustRewards = False
    device: Device = "auto"
    dtype: Dtype = "float32"

    def check(self) -> None:
        """Checks the target, and what it needs."""
        if self.reward is None:
            raise GuidedError(f"a value needs a {spelled('reward')}; `guided rewards` lists them")
        target, alpha = self.target, self.alpha
        if target not in TARGETS:
            known = ", ".join(TARGETS)
            raise GuidedError(f"{spelled('target')} is {target!r}{nearest(str(target), TARGETS)}; it is one of {known}")
        if target != "mean":
            object.__setattr__(self, "alpha", _checked_alpha(alpha))
        if target == "bootstrap" and self.candidates == 1:
            raise GuidedError(f"{spelled('candidates')} is 1; a bootstrapped value needs at least 2 of the next state")
        if target == "bootstrap" and self.states == 1:
            raise GuidedError(
                f"{spelled('states')} is 1, the last before the data; a bootstrapped value needs at least 2"
            )


def _checked_alpha(alpha: Any) -> float:
    try:
        return check_number("alpha", alpha, float, above=0)
    except GuidedError:
        what = 'for a soft value it must be a number above 0 (target "mean" has none)'
        raise GuidedError(f"{spelled('alpha')} is {alpha!r}; {what}") from None


@dataclass(frozen=True)
class FitShorthand(Config):
    """Options of the command line that stand for others."""

    width: Annotated[int | None, Option("The width of the network.", "Fit", least=1)] = None
