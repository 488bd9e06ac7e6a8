"""The description of a training: `guided.NegativeTraining`, and the other options of `guided npo train`."""

__all__ = ["NegativeConfig", "NegativeTraining"]

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from guided.runs.config import Aggregate, Cache, Device, Dtype, TrustRewards, Workers
from guided.runs.options import REQUIRED, Config, Option

if TYPE_CHECKING:
    from guided.core.diffusion import Diffusion

PRECISIONS = ("no", "bf16", "fp16")
RATES = {"lora": 1e-4, "masked": 1e-4, "full": 1e-6}


@dataclass(frozen=True)
class NegativeTraining(Config):
    """How a negative checkpoint is trained. Steps, batch and weight decay default to those of the Self-NPO paper.

    Args:
        steps: The number of updates.
        batch: The number of rows per update, over all processes.
        lr: The learning rate; None for 1e-6 for full weights of a continuous model, as published, and 1e-4 for LoRA
            weights and for masked models.
        weight_decay: The weight decay of AdamW.
        clip: The largest norm of a gradient.
        warmup: Updates over which the learning rate rises.
        ema: The decay of the running average of the weights, which is what is saved; 0 for none.
        lora: The rank of LoRA weights; 0 for full ones, None for 16 in a pipeline and full ones elsewhere.
        accumulate: Parts into which a batch is split, to save memory.
        precision: Mixed precision of the networks, "no", "bf16" or "fp16".
        n: The number of the model's own samples.
        seed: The seed.
        batch_size: Samples that are drawn together.
        sheet: Updates between sheets of samples; 0 for none.

    Raises:
        GuidedError: A number is out of range.
    """

    steps: Annotated[int, Option("The number of training updates.", "Training", least=1)] = 1000
    batch: Annotated[int, Option("The number of samples per update, over all processes.", "Training", least=1)] = 20
    lr: Annotated[
        float | None,
        Option("The learning rate. If not given, 1e-6, or 1e-4 for LoRA and for masked models.", "Training", above=0),
    ] = None
    weight_decay: Annotated[float, Option("The weight decay of AdamW.", "Training", least=0)] = 1e-3
    clip: Annotated[
        float, Option("The largest gradient norm; larger gradients are scaled down.", "Training", above=0)
    ] = 1.0
    warmup: Annotated[int, Option("Updates over which the learning rate rises.", "Training", least=0)] = 20
    ema: Annotated[
        float, Option("The decay of the running average of the weights; 0 for none.", "Training", least=0, below=1)
    ] = 0.99
    lora: Annotated[
        int | None,
        Option(
            "The rank of LoRA weights; 0 trains all weights. If not given, 16 for a pipeline and 0 for other models.",
            "Training",
            least=0,
        ),
    ] = None
    accumulate: Annotated[
        int, Option("The number of parts that a batch is split into, to save memory.", "Training", least=1)
    ] = 1
    precision: Annotated[str, Option("Mixed precision: no, bf16 or fp16.", "Training", choices=PRECISIONS)] = "no"
    n: Annotated[int, Option("The number of the model's own samples to train on.", flags=("-n",), least=2)] = 512
    seed: Annotated[int, Option("The random seed.", least=0)] = 0
    batch_size: Annotated[int, Option("The number of samples that are drawn and written together.", least=1)] = 64
    sheet: Annotated[int, Option("Updates between two sheets of samples; 0 for no sheets.", "Training", least=0)] = 0

    def rank(self, model: "Diffusion") -> int:
        """The rank of LoRA weights for a model; 0 for full weights."""
        if self.lora is not None:
            return self.lora
        return 16 if model.network is not None and model.network.part else 0

    def rate(self, model: "Diffusion") -> float:
        """The learning rate for a model."""
        if self.lr is not None:
            return self.lr
        return RATES["lora" if self.rank(model) else "full" if model.process.tokens is None else "masked"]


@dataclass(frozen=True)
class NegativeConfig(Config):
    """The whole description of a training."""

    model: Annotated[str, Option("A name from `guided models`, or the path of a checkpoint.", "Model")]
    out: Annotated[
        Path,
        Option(
            "The folder of the checkpoint; the same command resumes a training that was stopped.",
            metavar="DIR",
            shell_default=REQUIRED,
        ),
    ]
    reward: Annotated[
        list[str],
        Option(
            "A reward to train against, by flipped DPO instead of Self-NPO. Several rewards are combined.",
            panel="Reward",
            flags=("--reward", "-r"),
            metavar="R",
        ),
    ] = field(default_factory=list)
    aggregate: Aggregate = "mean"
    workers: Workers = 0
    cache: Cache = None
    trust_rewards: TrustRewards = False
    prompts: Annotated[
        Path | None,
        Option(
            "A file with one prompt per line. If not given, the model's own prompts.", "Conditioning", metavar="FILE"
        ),
    ] = None
    guidance: Annotated[
        float | None,
        Option(
            "The weight of classifier-free guidance for the training samples. If not given, the model's default.",
            "Conditioning",
        ),
    ] = None
    set: Annotated[
        list[str],
        Option("A hyperparameter of the training method, as in --set j=5.", "Training", metavar="NAME=VALUE"),
    ] = field(default_factory=list)
    sampling_steps: Annotated[
        int | None,
        Option("The number of reverse steps for the training samples. If not given, the model's default.", least=1),
    ] = None
    device: Device = "auto"
    dtype: Dtype = "float32"
    training: NegativeTraining = field(default_factory=NegativeTraining)
