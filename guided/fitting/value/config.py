"""The description of a fit: every option of `guided.fit_value` and `guided fit-value`, declared and checked here."""

__all__ = ["POSITIONAL", "TARGETS", "FitConfig", "FitShorthand"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import SkipValidation

from guided.errors import GuidedError, check_number, check_texts, nearest
from guided.runs.config import Aggregate, Cache, Device, Dtype, OnError, TimeLimit, TrustRewards, Workers, rewarded
from guided.runs.options import REQUIRED, Config, Option, spelled

TARGETS = ("mean", "soft", "bootstrap")
OBJECTIVES = ("regression", "contrastive")
POSITIONAL = ("model", "reward", "target", "alpha", "n", "out")
HELD_OUT = 10  # the least number of trajectories: one in ten is held out


@dataclass(frozen=True)
class FitConfig(Config):
    """A fit of a value to rollouts of the pretrained model."""

    model: Annotated[
        Any,
        Option(
            "A name from `guided models`, or the path of a checkpoint.",
            panel="Model",
            more="In Python also a model.",
            shell=str,
        ),
    ]
    reward: Annotated[
        Any,
        Option(
            "A reward, as for `guided sample`. Several rewards are combined.",
            panel="Reward",
            flags=("--reward", "-r"),
            metavar="R",
            more="A failed sample gets the lowest reward of the others.",
            shell=list[str],
        ),
    ] = None
    target: Annotated[
        str,
        SkipValidation,
        Option(
            "mean: E(r | x). soft and bootstrap: alpha log E(exp(r/alpha) | x), by Monte Carlo or Bellman backups.",
            "Fit",
        ),
    ] = "soft"
    alpha: Annotated[
        Any,
        Option(
            "The temperature of a soft value, in units of the reward, as in the sampler; mean does not use it.",
            "Fit",
            shell=float,
        ),
    ] = 0.1
    n: Annotated[
        int, Option("The number of rollouts, unguided samples to learn from.", flags=("-n",), least=HELD_OUT)
    ] = 2000
    out: Annotated[
        Path,
        Option(
            "The folder of the value; the same command resumes a fit that was stopped.",
            metavar="DIR",
            shell_default=REQUIRED,
        ),
    ] = Path("runs/value")
    prompt: Annotated[
        SkipValidation[str | Sequence[str] | None],
        Option(
            "The prompt that the value is for; rollouts take several prompts in turn.",
            panel="Conditioning",
            shell=list[str],
        ),
    ] = None
    guidance: Annotated[
        float | None, Option("The weight of classifier-free guidance. If not given, no guidance.", "Conditioning")
    ] = None
    steps: Annotated[
        int | None, Option("The number of reverse steps K of the rollouts. If not given, the model's default.", least=1)
    ] = None
    seed: Annotated[int, Option("The random seed of the rollouts, the fit and the check.", least=0, below=2**64)] = 0
    states: Annotated[int, Option("The number of states kept from each rollout, at random steps.", least=1)] = 16
    candidates: Annotated[
        int | None,
        Option(
            "Candidates of the next state kept with each state. If not given, 8 for bootstrap, otherwise 1.", least=1
        ),
    ] = None
    batch_size: Annotated[int, Option("The number of rollouts that are drawn and written together.", least=1)] = 64
    rollouts: Annotated[
        Path | None,
        Option(
            "A folder of rollouts that several values may share. If not given, it is inside the folder of the value.",
            metavar="DIR",
        ),
    ] = None
    network: Annotated[
        str | Mapping[str, Any] | Any,
        SkipValidation,
        Option(
            "The network: sequence, image, graph or vector. If not given, the one that fits the model.",
            panel="Fit",
            more="In Python also a mapping with its `kind`, `width` and so on, or a function that makes a network.",
            shell=str,
        ),
    ] = None
    objective: Annotated[
        str,
        SkipValidation,
        Option(
            "How a soft value is learned: regression on rewards, or contrastive, states of good samples against all.",
            "Fit",
        ),
    ] = "regression"
    updates: Annotated[int, Option("The number of training updates.", "Fit", least=2)] = 2000
    batch: Annotated[int, Option("The number of states per update.", "Fit", least=1)] = 128
    lr: Annotated[float, Option("The learning rate.", "Fit", least=0)] = 2e-3
    weight_decay: Annotated[float, Option("The weight decay of AdamW.", "Fit", least=0)] = 0.01
    n_check: Annotated[
        int,
        Option(
            "Samples drawn at the end, guided by the value and unguided, to compare their rewards; 0 for none.",
            flags=("--check",),
            least=0,
        ),
    ] = 32
    aggregate: Aggregate = "mean"
    on_error: OnError = "stop"
    time_limit: TimeLimit = None
    workers: Workers = 0
    cache: Cache = None
    trust_rewards: TrustRewards = False
    device: Device = "auto"
    dtype: Dtype = "float32"

    @property
    def how(self) -> dict[str, Any]:
        """The options of `resolve_reward`."""
        return rewarded(self)

    def check(self) -> None:
        """Checks the target and the options that it needs."""
        if self.reward is None:
            raise GuidedError(f"a value needs a {spelled('reward')}; `guided rewards` lists them")
        object.__setattr__(self, "prompt", check_texts(spelled("prompt"), self.prompt))
        target, alpha = self.target, self.alpha
        if target not in TARGETS:
            known = ", ".join(TARGETS)
            raise GuidedError(f"{spelled('target')} is {target!r}{nearest(str(target), TARGETS)}; it is one of {known}")
        if self.objective not in OBJECTIVES:
            hint, known = nearest(str(self.objective), OBJECTIVES), ", ".join(OBJECTIVES)
            raise GuidedError(f"{spelled('objective')} is {self.objective!r}{hint}; it is one of {known}")
        if self.objective == "contrastive" and target != "soft":
            raise GuidedError(f"{spelled('objective')} is 'contrastive', which is for the target soft, not {target}")
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
    """Shorter forms of other options, on the command line."""

    width: Annotated[int | None, Option("The width of the network.", "Fit", least=1)] = None
