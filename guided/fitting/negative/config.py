"""The description of a training: `guided.NegativeTraining`, and the other options of `guided npo train`."""

__all__ = ["NegativeConfig", "NegativeTraining"]

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from guided.runs.config import Aggregate, Device, Dtype
from guided.runs.options import REQUIRED, Config, Option

if TYPE_CHECKING:
    from guided.core.diffusion import Diffusion

PRECISIONS = ("no", "bf16", "fp16")
RATES = {"lora": 1e-4, "masked": 1e-4, "full": 1e-6}


@dataclass(frozen=True)
class NegativeTraining(Config):
    """How a negative checkpoint is trained. Steps, batch and weight decay are those of the published Self-NPO.

    Args:
        steps: Updates.
        batch: Rows of an update, over all processes.
        lr: The learning rate; None for 1e-6 for full weights of a continuous model, as published, and 1e-4 for LoRA
            weights and for masked models.
        weight_decay: AdamW's.
        clip: The largest norm of a gradient.
        warmup: Updates in which the learning rate grows.
        ema: The decay of the running average, which is what is kept; 0 for none.
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

    steps: Annotated[int, Option("Updates.", "Training", least=1)] = 1000
    batch: Annotated[int, Option("Samples of an update, over all processes.", "Training", least=1)] = 20
    lr: Annotated[
        float | None, Option("The learning rate; 1e-6, for LoRA or masked models 1e-4.", "Training", above=0)
    ] = None
    weight_decay: Annotated[float, Option("The weight decay of AdamW.", "Training", least=0)] = 1e-3
    clip: Annotated[float, Option("The largest norm of a gradient.", "Training", above=0)] = 1.0
    warmup: Annotated[int, Option("Updates in which the learning rate grows.", "Training", least=0)] = 20
    ema: Annotated[
        float, Option("The decay of the running average of the weights; 0 for none.", "Training", least=0, below=1)
    ] = 0.99
    lora: Annotated[int | None, Option("The rank of LoRA weights; 0 trains full weights.", "Training", least=0)] = None
    accumulate: Annotated[int, Option("Parts into which a batch is split, to save memory.", "Training", least=1)] = 1
    precision: Annotated[str, Option("Mixed precision: no, bf16 or fp16.", "Training", choices=PRECISIONS)] = "no"
    n: Annotated[int, Option("Samples of the model's own to learn from.", flags=("-n",), least=2)] = 512
    seed: Annotated[int, Option("The seed.", least=0)] = 0
    batch_size: Annotated[int, Option("Samples that are drawn, and written, together.", least=1)] = 64
    sheet: Annotated[int, Option("Updates between sheets of samples; 0 for none.", "Training", least=0)] = 0

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
    """A training, described whole."""

    model: Annotated[str, Option("A name of `guided models`, or the path of a checkpoint.", "Model")]
    out: Annotated[
        Path, Option("The checkpoint's folder; the same command again resumes.", metavar="DIR", shell_default=REQUIRED)
    ]
    reward: Annotated[
        list[str],
        Option(
            "Train away from what it likes (flipped DPO); several are combined.",
            panel="Reward",
            flags=("--reward", "-r"),
            metavar="R",
        ),
    ] = field(default_factory=list)
    aggregate: Aggregate = "mean"
    prompts: Annotated[
        Path | None,
        Option("A file with a prompt on each line; the model's own if not given.", "Conditioning", metavar="FILE"),
    ] = None
    guidance: Annotated[float | None, Option("The weight of guidance of these samples.", "Conditioning")] = None
    set: Annotated[
        list[str],
        Option("A hyperparameter of the method, as in --set j=5.", "Training", metavar="NAME=VALUE"),
    ] = field(default_factory=list)
    sampling_steps: Annotated[int | None, Option("Reverse steps of the samples.", least=1)] = None
    device: Device = "auto"
    dtype: Dtype = "float32"
    training: NegativeTraining = field(default_factory=NegativeTraining)
