"""One table of what differs between families of pipelines: how conditions are encoded, how the network is called, how
rows are laid out. Rows are latents as the pipeline holds them, `(C, h, w)`, videos `(F, C, h, w)`.
"""

__all__ = ["FAMILIES", "Family"]

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from guided.adapters.diffusers.sizes import Frames, Latents, Size, latent_size
from guided.errors import GuidedError, nearest

Prompts = Sequence[str | None]  # None stands for no prompt at all
Conditions = dict[str, Tensor]


class Family:
    """Stable Diffusion 1.x and 2.x; the other families say what they do otherwise.

    Args:
        pipeline: Of diffusers, on its device.
        size: Height and width in pixels, and the number of frames; None for the pipeline's own.

    Attributes:
        event: The shape of a row.

    Raises:
        GuidedError: The size does not fit, or the network takes more than a noisy sample.
    """

    component: ClassVar[str] = "unet"
    modality: ClassVar[str] = "images"
    guidance: ClassVar[float | None] = 7.5  # the defaults of the pipelines
    steps: ClassVar[int] = 50
    conditional: ClassVar[bool] = True
    patch: ClassVar[int] = 1  # latents a side that the network takes together
    _other: Any = None  # a network in place of the pipeline's

    def __init__(self, pipeline: Any, size: Size) -> None:
        self.pipeline = pipeline
        self.size, self.event = latent_size(size, self.latents, type(pipeline).__name__)
        if self.net.config.get("time_cond_proj_dim"):
            raise GuidedError("a latent consistency network, which is told its guidance, is not supported")

    @property
    def net(self) -> Any:
        return getattr(self.pipeline, self.component) if self._other is None else self._other

    def on(self, net: Any) -> "Family":
        """The same family around another network with the same architecture."""
        family = copy.copy(self)
        family._other = net
        return family

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipeline._execution_device)

    @property
    def channels(self) -> int:
        return int(self.net.config.in_channels)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the latents."""
        return self.event[-2], self.event[-1]

    @property
    def own_size(self) -> int | tuple[int, int]:
        """The side of the latents that the network was trained for."""
        size = self.net.config.sample_size
        return int(size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def latents(self) -> Latents:
        """The numbers that sizes are made of."""
        vae, own = getattr(self.pipeline, "vae", None), self.own_size
        return Latents(
            channels=self.channels,
            given=self.channels if vae is None else vae.config.latent_channels,
            own=(own, own) if isinstance(own, int) else own,
            factor=1 if vae is None else self.factor,
            patch=self.patch,
            frames=self.frames,
        )

    @property
    def factor(self) -> int:
        """Pixels a side of a latent."""
        factor = getattr(self.pipeline, "vae_scale_factor", None)  # DiT's pipeline has none
        return int(factor or 2 ** (len(self.pipeline.vae.config.block_out_channels) - 1))

    @property
    def frames(self) -> Frames | None:
        """Those of a video; None for images."""
        return None

    def encode(self, prompts: Prompts) -> Conditions:
        """The conditions of `n` prompts, with shape `(n, *)` each."""
        text, _ = self.pipeline.encode_prompt([p or "" for p in prompts], self.device, 1, False)
        return {"text": text}

    def __call__(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        """The raw prediction, rows `(n, *event)` at times `(n,)` to `(n, *event)`."""
        raw = self.predict(x.to(self.net.dtype), t, **cond)
        return raw[:, : self.channels].float() if raw.shape != x.shape else raw.float()  # a variance may follow

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.net(x, t, encoder_hidden_states=cond["text"], return_dict=False)[0]

    def tell(self, distilled: float) -> None:
        """Sets the guidance that a distilled network is told.

        Raises:
            GuidedError: It is told none.
        """
        raise GuidedError(f"distilled is {distilled}, but {type(self.pipeline).__name__} is told no guidance")

    def timing(self, K: int) -> Mapping[str, Any]:
        """What the scheduler is told beside the number of steps."""
        return {}

    def shift(self, length: int) -> dict[str, float]:
        """The shift of a flow's times for so many image tokens, where the scheduler asks for it."""
        config = self.pipeline.scheduler.config
        if not config.get("use_dynamic_shifting", False):
            return {}
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        return {"mu": least + (most - least) * (length - low) / (high - low)}


class StableDiffusionXL(Family):
    """Two encoders, their pooled output and sizes as added conditions; without a prompt some have zeros for it."""

    guidance = 5.0

    def __init__(self, pipeline: Any, size: Size) -> None:
        super().__init__(pipeline, size)
        if pipeline.config.get("requires_aesthetics_score", False):
            raise GuidedError("a refiner of SDXL (requires_aesthetics_score) is not supported; give the base model")

    def encode(self, prompts: Prompts) -> Conditions:
        words = [p or "" for p in prompts]
        text, _, pooled, _ = self.pipeline.encode_prompt(
            words, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
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
        words = [p or "" for p in prompts]
        text, _, pooled, _ = self.pipeline.encode_prompt(
            words, None, None, device=self.device, do_classifier_free_guidance=False
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
    """A flow whose transformer takes two by two latents as a token; a distilled guidance is a number that it is told.
    Classifier-free guidance comes on top, and is off unless it is asked for.
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

    def tell(self, distilled: float) -> None:
        if not self.net.config.guidance_embeds:
            raise GuidedError(f"distilled is {distilled}, but this network is told no guidance (guidance_embeds)")
        self.distilled = float(distilled)

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        grid = self.pipeline._prepare_latent_image_ids(n, height // 2, width // 2, x.device, x.dtype)
        told = torch.full((n,), self.distilled, device=x.device) if self.net.config.guidance_embeds else None
        y = self.net(
            hidden_states=self.pipeline._pack_latents(x, n, channels, height, width),
            timestep=t.to(x.dtype) / 1000,
            guidance=told,
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
    """A diffusion transformer with the texts of T5, of which a mask says how long they are."""

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
                f"prompt {prompt!r} is no class of the model{nearest(prompt, names)}; "
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


class CogVideoX(Family):
    """Videos: a transformer over frames, with the texts of T5."""

    component, modality, guidance = "transformer", "videos", 6.0

    @property
    def patch(self) -> int:  # type: ignore[override]
        return int(self.net.config.patch_size)

    @property
    def own_size(self) -> int | tuple[int, int]:
        return int(self.net.config.sample_height), int(self.net.config.sample_width)

    @property
    def factor(self) -> int:
        return int(self.pipeline.vae_scale_factor_spatial)

    @property
    def frames(self) -> Frames:
        config = self.net.config
        return Frames(config.sample_frames, self.pipeline.vae_scale_factor_temporal, config.patch_size_t or 1)

    def encode(self, prompts: Prompts) -> Conditions:
        text, _ = self.pipeline.encode_prompt(
            [p or "" for p in prompts], do_classifier_free_guidance=False, device=self.device,
            max_sequence_length=self.net.config.max_text_seq_length,
        )  # fmt: skip
        return {"text": text}

    def predict(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        rotary = None
        if self.net.config.use_rotary_positional_embeddings:
            height, width = self.size.height, self.size.width
            rotary = self.pipeline._prepare_rotary_positional_embeddings(height, width, x.shape[1], x.device)
        return self.net(
            hidden_states=x,
            encoder_hidden_states=cond["text"],
            timestep=t,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]


#: The families by the class that a pipeline's `model_index.json` names.
FAMILIES: dict[str, type[Family]] = {
    "StableDiffusionPipeline": Family,
    "StableDiffusionImg2ImgPipeline": Family,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusionXLImg2ImgPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "StableDiffusion3Img2ImgPipeline": StableDiffusion3,
    "FluxPipeline": Flux,
    "FluxImg2ImgPipeline": Flux,
    "PixArtAlphaPipeline": PixArt,
    "PixArtSigmaPipeline": PixArt,
    "DiTPipeline": DiT,
    "DDPMPipeline": Unconditional,
    "DDIMPipeline": Unconditional,
    "CogVideoXPipeline": CogVideoX,
}
