"""The description of a run: every option of `guided.sample` and `guided sample`, declared and checked here, once.

To add an option is to add a field to one of the parts. It is then an argument of `guided.sample` and `guided.stream`,
an option of the command line, an entry of TOML files and of `run.json`, and a row of the README's table.
"""

__all__ = [
    "POSITIONAL",
    "Aggregate",
    "Device",
    "Dtype",
    "EditingOptions",
    "ModelOptions",
    "OnError",
    "PromptOptions",
    "RewardOptions",
    "RunConfig",
    "RunOptions",
    "SamplerOptions",
    "Seed",
    "Shorthand",
    "TimeLimit",
    "TrustRewards",
]

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import SkipValidation

from guided.errors import GuidedError
from guided.runs.options import Config, Option, spelled

AGGREGATES, ON_ERROR = ("mean", "product"), ("stop", "worst")
DTYPES = ("float32", "bfloat16", "float16")

Device: TypeAlias = Annotated[
    str, Option("Where the model runs: cpu, cuda, cuda:1, mps, or auto.", "Model", entry="always")
]
Dtype: TypeAlias = Annotated[
    str,
    Option("The precision of the network: float32, bfloat16 or float16.", "Model", entry="always", choices=DTYPES),
]
Aggregate: TypeAlias = Annotated[
    str, Option("How several rewards become one: weighted mean or product.", "Reward", choices=AGGREGATES, entry="")
]
OnError: TypeAlias = Annotated[
    str, Option("A failing reward: stop, or count the sample as worst.", "Reward", choices=ON_ERROR, entry="")
]
TimeLimit: TypeAlias = Annotated[
    float | None,
    Option("Seconds after which a call of a reward has failed.", "Reward", unit="seconds", above=0, entry=""),
]
Seed: TypeAlias = Annotated[
    int, Option("The seed; sample i of a seed is always the same.", least=0, below=2**64, entry="always")
]
POSITIONAL = ("model", "reward", "sampler", "n", "seed")  # what Python takes without a name, too
TEXTS = SkipValidation[str | Sequence[str] | None]

TrustRewards: TypeAlias = Annotated[
    bool,
    Option(
        "Resume a folder whose reward is a function without a name, of which nobody knows that it is the same.",
        "Reward",
        flags=("--trust-rewards",),
        entry="",
        recorded=False,
    ),
]


@dataclass(frozen=True)
class ModelOptions(Config):
    """What is sampled from."""

    model: Annotated[
        Any,
        Option(
            "A name of `guided models`, or the path of a checkpoint; options may follow, as in `net.ckpt?length=200`.",
            panel="Model",
            more="In Python also a model, or a pipeline of diffusers.",
            shell=str,
            entry="always",
        ),
    ]
    device: Device = "auto"
    dtype: Dtype = "float32"


@dataclass(frozen=True)
class PromptOptions(Config):
    """What samples are conditioned on."""

    prompt: Annotated[
        TEXTS,
        Option(
            "The prompt of all samples (conditional models).",
            panel="Conditioning",
            more="In Python also a list with one for each.",
            shell=str,
            entry="always",
        ),
    ] = None
    negative_prompt: Annotated[
        TEXTS, Option("What guidance leads away from, as `prompt`.", panel="Conditioning", shell=str)
    ] = None
    guidance: Annotated[
        float | None,
        Option(
            "The weight of classifier-free guidance; the model's own if not given, 1 for none.",
            panel="Conditioning",
            entry="always",
        ),
    ] = None
    rescale: Annotated[
        float,
        Option("The share of guidance rescale (Lin et al., 2023), 0 to 1.", panel="Conditioning", least=0, most=1),
    ] = 0.0
    negative: Annotated[
        str | Path | None,
        SkipValidation,
        Option(
            'A negative checkpoint of `guided npo train` for the unconditional side; "DIR?alpha=0.5" weakens it; '
            "also beta, base.",
            panel="Conditioning",
            metavar="DIR",
            shell=str,
        ),
    ] = None

    def check(self) -> None:
        """Checks that there is guidance where it is needed."""
        for name, value in (("negative_prompt", self.negative_prompt), ("rescale", self.rescale or None)):
            if value is not None and self.guidance == 1:
                raise GuidedError(
                    f"{spelled(name)} needs guidance, and {spelled('guidance')} 1 is none; give another weight"
                )


@dataclass(frozen=True)
class EditingOptions(Config):
    """What samples start from, if not from noise."""

    image: Annotated[
        Any,
        Option(
            "The file of an image to start from.",
            panel="Image",
            metavar="FILE",
            more="In Python also the image.",
            shell=Path,
        ),
    ] = None
    strength: Annotated[
        float | None,
        Option(
            "With an image: the share of the steps that are taken, above 0 to 1; 0.8 if not given, with a mask all.",
            panel="Image",
            above=0,
            most=1,
        ),
    ] = None
    mask: Annotated[
        Any,
        Option(
            "With an image: the file of an image that is white where it may change and black where it is kept.",
            panel="Image",
            metavar="FILE",
            more="In Python also the image.",
            shell=Path,
        ),
    ] = None

    def check(self) -> None:
        """Checks that there is an image."""
        for name, value in (("strength", self.strength), ("mask", self.mask)):
            if value is not None and self.image is None:
                word = spelled("image")
                raise GuidedError(
                    f"{spelled(name)} needs an {word} to start from"
                    if word != "image"
                    else f"{name} is for runs that start from an image; give the image too"
                )


@dataclass(frozen=True)
class RewardOptions(Config):
    """What decides."""

    reward: Annotated[
        Any,
        Option(
            "`qed`, `sa?weight=0.5`, `file.py:function`, `package.module:function` or `exec:program`; several are "
            "combined.",
            panel="Reward",
            flags=("--reward", "-r"),
            metavar="R",
            more="In Python also a function, or a mapping of these to weights.",
            shell=list[str],
            entry="always",
        ),
    ] = None
    aggregate: Aggregate = "mean"
    on_error: OnError = "stop"
    time_limit: TimeLimit = None
    trust_rewards: TrustRewards = False


@dataclass(frozen=True)
class SamplerOptions(Config):
    """How samples are guided."""

    sampler: Annotated[
        Any,
        Option(
            "A name of `guided samplers`.",
            panel="Sampler",
            more="In Python also the sampler, as `SVDD(M=10)`, or a mapping with its name and fields.",
            shell=str,
            entry="always",
        ),
    ] = "svdd"
    steps: Annotated[
        int | None,
        Option("Reverse steps K; the model's own number if not given.", "Sampler", least=1, entry="always"),
    ] = None
    value: Annotated[
        Any,
        Option(
            "Select by this value of `guided fit-value`, a folder, not by the reward of the look-ahead.",
            panel="Sampler",
            metavar="DIR",
            more="In Python also the value.",
            shell=Path,
        ),
    ] = None
    draws: Annotated[
        int,
        Option("Clean draws of a masked model's look-ahead, instead of its mode.", "Sampler", least=1, entry="always"),
    ] = 1


@dataclass(frozen=True)
class RunOptions(Config):
    """How much is drawn, and where to."""

    n: Annotated[int, Option("The number of samples.", flags=("-n",), least=1, entry="always", shell_default=64)] = 1
    seed: Seed = 0
    batch_size: Annotated[int, Option("Requests that are drawn, and written, together.", least=1, entry="always")] = 64
    only: Annotated[
        SkipValidation[Sequence[int] | int | None],
        Option(
            "Draw only this request of the run, the same sample again.",
            more="In Python a list of requests.",
            shell=int,
            entry="",
            recorded=False,
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(
            "The run folder; the same run again goes on where it was stopped.",
            metavar="DIR",
            entry="",
            recorded=False,
        ),
    ] = None
    report: Annotated[
        bool,
        Option(
            "With a folder, write report.html at the end.",
            flags=("--report/--no-report",),
            shell_default=True,
            entry="",
            recorded=False,
        ),
    ] = False

    def check(self) -> None:
        """Checks the requests."""
        if self.only is None:
            return
        only = [self.only] if isinstance(self.only, int) else list(self.only)
        strange = [i for i in only if not isinstance(i, int) or not 0 <= i < self.n]
        if strange or not only:
            what = f"request {strange[0]!r} is not" if strange else "only is empty: name some requests"
            raise GuidedError(f"{what} among the {self.n} of this run, 0 to {self.n - 1}")
        object.__setattr__(self, "only", only)


@dataclass(frozen=True)
class RunConfig(Config):
    """A run, described whole."""

    source: ModelOptions
    rewards: RewardOptions = field(default_factory=RewardOptions)
    search: SamplerOptions = field(default_factory=SamplerOptions)
    prompting: PromptOptions = field(default_factory=PromptOptions)
    editing: EditingOptions = field(default_factory=EditingOptions)
    run: RunOptions = field(default_factory=RunOptions)


@dataclass(frozen=True)
class Shorthand(Config):
    """Options of the command line and of files that stand for others."""

    M: Annotated[Any, Option("The sampler's M; commas make a schedule.", "Sampler", metavar="M", shell=str)] = None
    alpha: Annotated[
        Any, Option("The sampler's alpha; commas make a schedule.", "Sampler", metavar="ALPHA", shell=str)
    ] = None
    set: Annotated[
        list[str] | None,
        Option("Another field of the sampler, as in --set N=10.", "Sampler", metavar="FIELD=VALUE", shell=list[str]),
    ] = None
    prompts: Annotated[
        Path | None,
        Option(
            "A file with a prompt on each line; n must be a multiple of their number, and each has as many samples.",
            "Conditioning",
            metavar="FILE",
        ),
    ] = None
    config: Annotated[
        Path | None,
        Option(
            "Options from a TOML file, or from the run.json of a run; those of the command line win.",
            metavar="FILE",
        ),
    ] = None
