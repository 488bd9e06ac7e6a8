"""Families of images without text: classes, or no condition at all."""

__all__ = ["DiT", "Unconditional"]

import torch
from torch import Tensor

from guided.adapters.diffusers.family import Conditions, Family, Prompts
from guided.errors import GuidedError, nearest


class DiT(Family):
    """A diffusion transformer of classes: a prompt is a class by number or by name."""

    component, guidance = "transformer", 4.0

    @property
    def patch(self) -> int:  # type: ignore[override]
        return int(self.net.config.patch_size)

    def encode(self, prompts: Prompts) -> Conditions:
        return {"label": torch.tensor([self._label(p) for p in prompts], device=self.device)}

    def _label(self, prompt: str | None) -> int:
        none, names = int(self.net.config.num_embeds_ada_norm), dict(getattr(self.pipeline, "labels", None) or {})
        if not prompt:
            return none
        label = names.get(prompt, int(prompt) if prompt.isdecimal() else -1)
        if not 0 <= label < none:
            some = ", ".join(list(names)[:3])
            raise GuidedError(
                f"prompt {prompt!r} is not a class of the model{nearest(prompt, names)}; "
                f"it is a number from 0 to {none - 1}" + (f", or a name ({some}, …)" if some else "")
            )
        return int(label)

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.net(x, timestep=t, class_labels=cond["label"], return_dict=False)[0]


class Unconditional(Family):
    """A network of pixels alone (DDPM, DDIM)."""

    guidance, conditional = None, False

    def encode(self, prompts: Prompts) -> Conditions:
        raise AssertionError("an unconditional model is given no prompts")

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.net(x, t, return_dict=False)[0]
