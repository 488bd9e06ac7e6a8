"""Families of videos from text: CogVideoX."""

__all__ = ["CogVideoX"]

from torch import Tensor

from guided.adapters.diffusers.family import Conditions, Family, Prompts
from guided.adapters.diffusers.sizes import Frames


class CogVideoX(Family):
    """Videos: a transformer over frames, with T5's encoding of the text."""

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
