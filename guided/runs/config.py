"""The description of a run: every option of `guided.sample` and `guided sample`, declared and checked here, once.

To add an option is to add a field to one of the parts. It is then an argument of `guided.sample` and `guided.stream`,
an option of the command line, an entry of TOML files and of `run.json`, and a row of the README's table.
"""

__all__ = [
    "POSITIONAL",
    "PROMPTS",
    "Aggregate",
    "BudgetOptions",
    "Cache",
    "Device",
    "Dtype",
    "EditingOptions",
    "ModelOptions",
    "OnError",
    "PlaceOptions",
    "PromptOptions",
    "RewardOptions",
    "RunConfig",
    "RunOptions",
    "SamplerOptions",
    "Seed",
    "Shorthand",
    "TimeLimit",
    "TrustRewards",
    "Workers",
    "rewarded",
]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import SkipValidation

from guided.core.budget import Budget
from guided.errors import GuidedError, check_number, check_texts, kind_of
from guided.runs.options import Config, Option, spelled
from guided.runs.pipe_args import read_pairs
from guided.runs.places import check_cluster, check_devices

AGGREGATES, ON_ERROR = ("mean", "product", "tchebycheff"), ("stop", "worst")
DTYPES = ("float32", "bfloat16", "float16")

Device: TypeAlias = Annotated[
    str, Option("Where the model runs: cpu, cuda, cuda:1, mps, or auto.", "Model", entry="always")
]
Dtype: TypeAlias = Annotated[
    str,
    Option("The precision of the network: float32, bfloat16 or float16.", "Model", entry="always", choices=DTYPES),
]
Aggregate: TypeAlias = Annotated[
    str,
    Option(
        "How several rewards are combined: weighted mean or product, or tchebycheff, the distance to 1 of the worst.",
        "Reward",
        choices=AGGREGATES,
        entry="",
    ),
]
OnError: TypeAlias = Annotated[
    str,
    Option(
        "What to do when a reward fails: stop the run, or count the sample as the worst.",
        "Reward",
        choices=ON_ERROR,
        entry="",
    ),
]
TimeLimit: TypeAlias = Annotated[
    float | None,
    Option("Seconds after which a call of a reward counts as failed.", "Reward", unit="seconds", above=0, entry=""),
]
Workers: TypeAlias = Annotated[
    int,
    Option(
        "How many workers score a batch side by side, in processes; 0 for none. With two batches or more, one is drawn "
        "while another is scored.",
        "Reward",
        least=0,
        most=1024,
        entry="",
    ),
]
Cache: TypeAlias = Annotated[
    Path | None,
    Option("A folder in which scores are kept, for other runs too.", "Reward", metavar="DIR", entry=""),
]
Seed: TypeAlias = Annotated[
    int, Option("The random seed; sample i of a seed is the same for every n.", least=0, below=2**64, entry="always")
]
POSITIONAL = ("model", "reward", "sampler", "n", "seed")  # positional arguments in Python
PROMPTS = ("prompt", "negative_prompt")  # options that may be a list with one text for each sample
TEXTS = SkipValidation[str | Sequence[str] | None]

TrustRewards: TypeAlias = Annotated[
    bool,
    Option(
        "Resume a folder even if nothing shows that its reward is still the same, as for a lambda.",
        "Reward",
        flags=("--trust-rewards",),
        entry="",
        recorded=False,
    ),
]


def rewarded(config: Any) -> dict[str, Any]:
    """The options of `resolve_reward` that a description has."""
    names = ("aggregate", "on_error", "time_limit", "workers", "cache", "trust_rewards")
    return {name: getattr(config, name) for name in names if hasattr(config, name)}


@dataclass(frozen=True)
class ModelOptions(Config):
    """The model that is sampled from."""

    model: Annotated[
        Any,
        Option(
            "A name from `guided models`, or the path of a checkpoint. Options may follow: `net.ckpt?length=200`.",
            panel="Model",
            more="In Python also a model or a diffusers pipeline.",
            shell=str,
            entry="always",
        ),
    ]
    device: Device = "auto"
    dtype: Dtype = "float32"
    pipe_args: Annotated[
        Any,
        Option(
            "Another argument of a pipeline's own call, as `--pipe-arg controlnet_conditioning_scale=0.7`; images are "
            "files, as `--pipe-arg image=edges.png`.",
            panel="Model",
            flags=("--pipe-arg",),
            metavar="NAME=VALUE",
            more="In Python a mapping from names to arguments.",
            shell=list[str],
        ),
    ] = None

    def check(self) -> None:
        """Reads the arguments of a pipeline."""
        object.__setattr__(self, "pipe_args", read_pairs(self.pipe_args) or None)


@dataclass(frozen=True)
class PromptOptions(Config):
    """What samples are conditioned on."""

    prompt: Annotated[
        TEXTS,
        Option(
            "The prompt for all samples of a conditional model.",
            panel="Conditioning",
            more="In Python also a list with one prompt for each sample.",
            shell=str,
            entry="always",
        ),
    ] = None
    negative_prompt: Annotated[
        TEXTS, Option("The prompt that guidance steers away from.", panel="Conditioning", shell=str)
    ] = None
    guidance: Annotated[
        float | None,
        Option(
            "The weight of classifier-free guidance; 1 is no guidance. If not given, the model's default.",
            panel="Conditioning",
            entry="always",
        ),
    ] = None
    rescale: Annotated[
        float,
        Option(
            "How much guidance rescale is applied (Lin et al., 2023), 0 to 1.", panel="Conditioning", least=0, most=1
        ),
    ] = 0.0
    guider: Annotated[
        Any,
        Option(
            "A guider of diffusers, in place of a weight, for pipelines: `adaptive-projected?guidance_scale=4&eta=.5`.",
            panel="Conditioning",
            metavar="NAME",
            more="In Python also a guider, or a mapping with its name and parameters.",
            shell=str,
        ),
    ] = None
    negative: Annotated[
        str | Path | None,
        SkipValidation,
        Option(
            "A negative checkpoint from `guided npo train`, for the negative side of guidance. Options may follow: "
            '"DIR?alpha=0.5" weakens it; beta and base are others.',
            panel="Conditioning",
            metavar="DIR",
            shell=str,
        ),
    ] = None

    def check(self) -> None:
        """Checks that prompts are texts, and that there is guidance where it is needed, of one kind."""
        for name in PROMPTS:
            object.__setattr__(self, name, check_texts(spelled(name), getattr(self, name)))
        for name in ("guidance", "rescale"):
            if self.guider is not None and getattr(self, name):
                own = f"guidance_{'scale' if name == 'guidance' else name}"
                raise GuidedError(
                    f"{spelled(name)} and {spelled('guider')} do not go together; a guider has its own, {own}"
                )
        for name, value in (("negative_prompt", self.negative_prompt), ("rescale", self.rescale or None)):
            if value is not None and self.guidance == 1:
                raise GuidedError(
                    f"{spelled(name)} needs guidance, and {spelled('guidance')} 1 is none; give another weight"
                )


@dataclass(frozen=True)
class EditingOptions(Config):
    """The image that samples start from, instead of noise."""

    image: Annotated[
        Any,
        Option(
            "An image file to start from, instead of noise.",
            panel="Image",
            metavar="FILE",
            more="In Python also an image.",
            shell=Path,
        ),
    ] = None
    strength: Annotated[
        float | None,
        Option(
            "With an image: the share of the steps to run, above 0 and up to 1. If not given, 0.8, or 1 with a mask.",
            panel="Image",
            above=0,
            most=1,
        ),
    ] = None
    mask: Annotated[
        Any,
        Option(
            "With an image: a second image file, white where the first may change and black where it is kept.",
            panel="Image",
            metavar="FILE",
            more="In Python also an image.",
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
    """The reward that samples are selected by."""

    reward: Annotated[
        Any,
        Option(
            "A reward: `qed`, `sa?weight=0.5`, `file.py:function`, `package.module:function` or `exec:program`. "
            "Several rewards are combined.",
            panel="Reward",
            flags=("--reward", "-r"),
            metavar="R",
            more="In Python also a function, or a mapping from rewards to weights.",
            shell=list[str],
            entry="always",
        ),
    ] = None
    aggregate: Aggregate = "mean"
    preferences: Annotated[
        Any,
        Option(
            "Weights of several rewards that differ from sample to sample: `grid=16` takes 16 vectors of weights in "
            "turn, `dirichlet` draws one for each sample, `adaptive` aims each batch at gaps of the front so far.",
            "Reward",
            metavar="HOW",
            more="In Python also `n` rows of weights.",
            shell=str,
        ),
    ] = None
    on_error: OnError = "stop"
    time_limit: TimeLimit = None
    workers: Workers = 0
    cache: Cache = None
    trust_rewards: TrustRewards = False

    @property
    def how(self) -> dict[str, Any]:
        """The options of `resolve_reward`."""
        return rewarded(self)


@dataclass(frozen=True)
class SamplerOptions(Config):
    """How samples are guided."""

    sampler: Annotated[
        Any,
        Option(
            "A name from `guided samplers`; `auto` chooses by the model, the budget and alpha.",
            panel="Sampler",
            more="In Python also a sampler, as `SVDD(M=10)`, or a mapping with its name and hyperparameters.",
            shell=str,
            entry="always",
        ),
    ] = "svdd"
    steps: Annotated[
        int | None,
        Option("The number of reverse steps K. If not given, the model's default.", "Sampler", least=1, entry="always"),
    ] = None
    value: Annotated[
        Any,
        Option(
            "A value from `guided fit-value`, to select candidates by, instead of the reward of look-aheads; or "
            "`rollout?steps=3`, the reward of look-aheads after a few steps of the model.",
            panel="Sampler",
            metavar="DIR",
            more="In Python also a value.",
            shell=Path,
        ),
    ] = None
    draws: Annotated[
        int,
        Option(
            "For masked models: clean samples drawn for each look-ahead; 1 takes the mode instead.",
            "Sampler",
            least=1,
            entry="always",
        ),
    ] = 1

    def check(self) -> None:
        """Checks what the value is."""
        if not (self.value is None or isinstance(self.value, str | Path) or callable(self.value)):
            raise GuidedError(
                f"{spelled('value')} is {kind_of(self.value)}; it must be a folder from `guided fit-value`, or a value"
            )


@dataclass(frozen=True)
class BudgetOptions(Config):
    """What each sample may cost. A run that has spent it goes on without looking ahead, and ends with its best."""

    budget_calls: Annotated[
        int | None,
        Option(
            "The most samples that the reward is asked about for each sample of the run; repeated ones are free.",
            "Budget",
            least=1,
        ),
    ] = None
    budget_rows: Annotated[
        int | None,
        Option(
            "The most rows of the network for each sample of the run; one chain of the model is always drawn.",
            "Budget",
            least=1,
        ),
    ] = None
    budget_seconds: Annotated[
        float | None,
        Option(
            "Seconds after which a batch looks no further ahead, and ends. Samples depend on the clock then.",
            "Budget",
            unit="seconds",
            above=0,
        ),
    ] = None

    @property
    def budget(self) -> Budget:
        """The budget of each request."""
        return Budget(self.budget_calls, self.budget_rows, self.budget_seconds)


@dataclass(frozen=True)
class RunOptions(Config):
    """How many samples are drawn, and where they are written."""

    n: Annotated[int, Option("The number of samples.", flags=("-n",), least=1, entry="always", shell_default=64)] = 1
    seed: Seed = 0
    batch_size: Annotated[
        int, Option("The number of samples that are drawn and written together.", least=1, entry="always")
    ] = 64
    only: Annotated[
        SkipValidation[Sequence[int] | int | None],
        Option(
            "Draw again only this sample of the run, numbered from 0.",
            more="In Python also a list of numbers.",
            shell=int,
            entry="",
            recorded=False,
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(
            "The run folder; the same command resumes a run that was stopped.",
            metavar="DIR",
            entry="",
            recorded=False,
        ),
    ] = None
    poses: Annotated[
        bool,
        Option(
            "Write the docked pose of each finished sample into the run folder, as SDF.",
            flags=("--poses",),
            entry="",
            recorded=False,
        ),
    ] = False
    report: Annotated[
        bool,
        Option(
            "Write report.html into the run folder at the end.",
            flags=("--report/--no-report",),
            shell_default=True,
            entry="",
            recorded=False,
        ),
    ] = False

    def check(self) -> None:
        """Checks the numbers of the requests."""
        if self.only is None:
            return
        given: Any = self.only.tolist() if hasattr(self.only, "tolist") else self.only
        only = [_whole(i) for i in (given if isinstance(given, Iterable) else [given])]
        strange = [i for i in only if not isinstance(i, int) or not 0 <= i < self.n]
        if strange or not only:
            what = f"request {strange[0]!r} is not" if strange else "only is empty: name some requests"
            raise GuidedError(f"{what} among the {self.n} of this run, 0 to {self.n - 1}")
        object.__setattr__(self, "only", only)


@dataclass(frozen=True)
class PlaceOptions(Config):
    """The processes that draw a run; its samples do not depend on them."""

    devices: Annotated[
        Any,
        Option(
            "Draw in several processes, one for each device: their number, or their names as `cuda:0,cuda:1`.",
            panel="Model",
            metavar="N",
            more="In Python also a list of names.",
            shell=str,
            entry="",
            recorded=False,
        ),
    ] = None
    cluster: Annotated[
        Any,
        Option(
            "Draw on a cluster: `ray`. Options may follow: `ray?gpus=1&address=auto`.",
            panel="Model",
            metavar="NAME",
            more="In Python also an executor of `guided.distributed`.",
            shell=str,
            entry="",
            recorded=False,
        ),
    ] = None

    def check(self) -> None:
        """Reads the devices, and checks the cluster."""
        object.__setattr__(self, "devices", check_devices(self.devices))
        check_cluster(self.cluster)


@dataclass(frozen=True)
class RunConfig(Config):
    """The whole description of a run."""

    source: ModelOptions
    rewards: RewardOptions = field(default_factory=RewardOptions)
    search: SamplerOptions = field(default_factory=SamplerOptions)
    budgets: BudgetOptions = field(default_factory=BudgetOptions)
    prompting: PromptOptions = field(default_factory=PromptOptions)
    editing: EditingOptions = field(default_factory=EditingOptions)
    run: RunOptions = field(default_factory=RunOptions)
    places: PlaceOptions = field(default_factory=PlaceOptions)


@dataclass(frozen=True)
class Shorthand(Config):
    """Shorter forms of other options, on the command line and in files."""

    M: Annotated[
        Any, Option("The sampler's M; numbers separated by commas are a schedule.", "Sampler", metavar="M", shell=str)
    ] = None
    alpha: Annotated[
        Any,
        Option(
            "The sampler's alpha; numbers separated by commas are a schedule.", "Sampler", metavar="ALPHA", shell=str
        ),
    ] = None
    set: Annotated[
        list[str] | None,
        Option(
            "Another hyperparameter of the sampler, as in --set N=10.",
            "Sampler",
            metavar="FIELD=VALUE",
            shell=list[str],
        ),
    ] = None
    prompts: Annotated[
        Path | None,
        Option(
            "A file with one prompt per line. n must be a multiple of their number; each prompt gets as many samples.",
            "Conditioning",
            metavar="FILE",
        ),
    ] = None
    config: Annotated[
        Path | None,
        Option(
            "Read options from a TOML file or from the run.json of a run; options on the command line take precedence.",
            metavar="FILE",
        ),
    ] = None


def _whole(value: Any) -> Any:
    """A whole number as Python's own; anything else as it is."""
    try:
        return check_number("request", value, int)
    except GuidedError:
        return value
