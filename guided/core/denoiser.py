"""The network inside a denoiser, so that another one with the same architecture can take its place."""

__all__ = ["Denoiser", "Network", "view"]

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

#: `(x, t, **cond) -> y`: maps noisy rows `(n, *event)` at times `(n,)`, with conditions `(n, *)`, to clean means
#: `(n, *event)` or to token log-probabilities `(n, L, V)`, the mask excluded.
Denoiser: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True)
class Network:
    """A network and what turns it, or another one like it, into a denoiser.

    Args:
        module: The network; frozen.
        around: Maps a network of the same architecture to its denoiser.
        part: Its name among the parts of a pipeline, "unet" or "transformer"; "" where there is no pipeline.
        read_lora: Maps LoRA weights in any published layout to those by `part.layer.lora_A.weight` and so on, with
            the layers' alphas if there are any; None where only our own layout is known.
    """

    module: nn.Module
    around: Callable[[nn.Module], Denoiser]
    part: str = ""
    read_lora: Callable[[Mapping[str, Tensor]], tuple[Mapping[str, Tensor], Mapping[str, float] | None]] | None = None

    @property
    def bare(self) -> nn.Module:
        """The network as it was before it was compiled."""
        module: Any = getattr(self.module, "_orig_mod", self.module)
        return module


def view(module: nn.Module) -> Any:
    """A copy of a network's layers on the same weights: adapters can be added to it without a second copy of them."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)
