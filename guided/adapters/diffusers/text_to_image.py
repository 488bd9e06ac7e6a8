"""Families of images from text: Stable Diffusion XL and 3, Flux, PixArt."""

__all__ = ["Flux", "PixArt", "PixArtSigma", "StableDiffusion3", "StableDiffusionXL"]

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guided.adapters.diffusers.family import Conditions, Family, Prompts
from guided.adapters.diffusers.sizes import Size
from guided.errors import GuidedError


class StableDiffusionXL(Family):
    """Two encoders, with their pooled output and sizes as added conditions; some have zeros for no prompt."""

    guidance, upcasts = 5.0, True

    def __init__(self, pipeline: Any, size: Size) -> None:
        super().__init__(pipeline, size)
        if pipeline.config.get("requires_aesthetics_score", False):
            raise GuidedError("a refiner of SDXL (requires_aesthetics_score) is not supported; give the base model")

    def encode(self, prompts: Prompts) -> Conditions:
        texts = [p or "" for p in prompts]
        text, _, pooled, _ = self.pipeline.encode_prompt(
            texts, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        if self.pipeline.config.get("force_zeros_for_empty_prompt", True):
            none = torch.tensor([p is None for p in prompts], device=text.device)
            text, pooled = text.masked_fill(none[:, None, None], 0), pooled.masked_fill(none[:, None], 0)
        return {"text": text, "pooled": pooled}

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        height, width = self.size.height, self.size.width
        size = x.new_tensor([height, width, 0, 0, height, width]).expand(len(x), 6)  # original, crop, target
        added = {"text_embeds": cond["pooled"], "time_ids": size}
        return self.net(x, t, encoder_hidden_states=cond["text"], added_cond_kwargs=added, return_dict=False)[0]


class StableDiffusion3(Family):
    """A flow, with a transformer of three encoders' texts."""

    component, guidance, steps = "transformer", 7.0, 28

    @property
    def patch(self) -> int:  # type: ignore[override]
        return int(self.net.config.patch_size)

    def encode(self, prompts: Prompts) -> Conditions:
        texts = [p or "" for p in prompts]
        text, _, pooled, _ = self.pipeline.encode_prompt(
            texts, None, None, device=self.device, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.net(
            hidden_states=x,
            timestep=t,
            encoder_hidden_states=cond["text"],
            pooled_projections=cond["pooled"],
            return_dict=False,
        )[0]

    def timing(self, K: int) -> Mapping[str, Any]:
        return self.shift(self.event[1] * self.event[2] // self.patch**2)


class Flux(Family):
    """A flow whose transformer takes two by two latents as a token; distilled guidance is an input of the
    network. Classifier-free guidance is added to it, and is off by default.
    """

    component, guidance, steps, patch = "transformer", None, 28, 2
    distilled = 3.5

    @property
    def channels(self) -> int:
        return int(self.net.config.in_channels) // 4

    @property
    def own_size(self) -> int | tuple[int, int]:
        return int(self.pipeline.default_sample_size)

    def encode(self, prompts: Prompts) -> Conditions:
        text, pooled, _ = self.pipeline.encode_prompt([p or "" for p in prompts], None, device=self.device)
        return {"text": text, "pooled": pooled}

    def set_distilled(self, distilled: float) -> None:
        if not self.net.config.guidance_embeds:
            raise GuidedError(f"distilled is {distilled}, but this network takes no guidance input (guidance_embeds)")
        self.distilled = float(distilled)

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        grid = self.pipeline._prepare_latent_image_ids(n, height // 2, width // 2, x.device, x.dtype)
        guidance = torch.full((n,), self.distilled, device=x.device) if self.net.config.guidance_embeds else None
        y = self.net(
            hidden_states=self.pipeline._pack_latents(x, n, channels, height, width),
            timestep=t.to(x.dtype) / 1000,
            guidance=guidance,
            pooled_projections=cond["pooled"],
            encoder_hidden_states=cond["text"],
            txt_ids=torch.zeros(cond["text"].shape[1], 3, device=x.device, dtype=x.dtype),
            img_ids=grid,
            return_dict=False,
        )[0]
        y = y.view(n, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return y.reshape(x.shape)

    def timing(self, K: int) -> Mapping[str, Any]:
        if self.pipeline.scheduler.config.get("use_flow_sigmas", False):
            return self.shift(self.event[1] * self.event[2] // 4)
        return {"sigmas": np.linspace(1.0, 1 / K, K), **self.shift(self.event[1] * self.event[2] // 4)}


class PixArt(Family):
    """A diffusion transformer with T5's encoding of the text, and a mask of its length."""

    component, guidance, steps = "transformer", 4.5, 20

    @property
    def patch(self) -> int:  # type: ignore[override]
        return int(self.net.config.patch_size)

    def encode(self, prompts: Prompts) -> Conditions:
        text, mask, _, _ = self.pipeline.encode_prompt([p or "" for p in prompts], False, device=self.device)
        return {"text": text, "mask": mask}

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if getattr(self.net, "use_additional_conditions", False):
            height, width = float(self.size.height), float(self.size.width)
            added["resolution"] = x.new_tensor([height, width]).expand(len(x), 2)
            added["aspect_ratio"] = x.new_tensor([height / width]).expand(len(x), 1)
        return self.net(
            x,
            encoder_hidden_states=cond["text"],
            encoder_attention_mask=cond["mask"],
            timestep=t,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]


class PixArtSigma(PixArt):
    """PixArt with the autoencoder of SDXL."""

    upcasts = True
