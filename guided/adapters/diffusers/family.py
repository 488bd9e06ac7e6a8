"""A family of pipelines: how its conditions are encoded, how its network is called, how its rows are laid out.

Rows are latents as the pipeline has them, `(C, h, w)`, and for videos `(F, C, h, w)`.
"""

__all__ = ["Conditions", "Family", "Prompts"]

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from guided.adapters.diffusers.sizes import Frames, Latents, Size, latent_size
from guided.errors import GuidedError, check_number

Prompts = Sequence[str | None]  # None stands for no prompt
Conditions = dict[str, Tensor]


class Family:
    """Stable Diffusion 1.x and 2.x; the other families override what differs.

    Args:
        pipeline: A pipeline of diffusers, on its device.
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
    upcasts: ClassVar[bool] = False  # whether the autoencoder may overflow in float16, as SDXL's does
    _other: Any = None  # a network that replaces the pipeline's

    def __init__(self, pipeline: Any, size: Size) -> None:
        self.pipeline = pipeline
        self.size, self.event = latent_size(size, self.latents, type(pipeline).__name__)
        if self.net.config.get("time_cond_proj_dim"):
            raise GuidedError("a latent consistency network, which takes guidance as an input, is not supported")

    @property
    def net(self) -> Any:
        return getattr(self.pipeline, self.component) if self._other is None else self._other

    def on(self, net: Any) -> "Family":
        """The same family with another network of the same architecture."""
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
        if isinstance(size, list | tuple) and len(size) == 2:
            return check_number("sample_size", size[0], int, least=1), check_number(
                "sample_size", size[1], int, least=1
            )
        return check_number("sample_size of the network's configuration", size, int, least=1)

    @property
    def latents(self) -> Latents:
        """The latents that the network takes."""
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
        """The frames of a video; None for images."""
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

    def set_distilled(self, distilled: float) -> None:
        """Sets the guidance that a distilled network takes as an input.

        Raises:
            GuidedError: The network takes none.
        """
        raise GuidedError(f"distilled is {distilled}, but {type(self.pipeline).__name__} takes no guidance input")

    def timing(self, K: int) -> Mapping[str, Any]:
        """The other arguments of the scheduler's `set_timesteps`."""
        return {}

    def shift(self, length: int) -> dict[str, float]:
        """The shift of a flow's times for a number of image tokens, if the scheduler uses one."""
        config = self.pipeline.scheduler.config
        if not config.get("use_dynamic_shifting", False):
            return {}
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        return {"mu": least + (most - least) * (length - low) / (high - low)}
