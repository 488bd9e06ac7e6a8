"""A tiny seeded pipeline of each family, with a scheduler like that of the family's published weights."""

__all__ = ["FAMILIES", "Family", "build"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers

from tests.adapters.diffusers.pipelines import parts

#: The published ones end at 0.02, where a random network's clean mean explodes.
LINEAR = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.006}
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@dataclass(frozen=True)
class Family:
    """How to build a pipeline.

    Attributes:
        build: Builds it, `build(seed)`.
        event: The shape of one sample's latents.
        words: Whether it takes prompts; a class-conditional one takes the names of classes.
        guided: Whether it takes classifier-free guidance.
    """

    build: Callable[[int], Any]
    event: tuple[int, ...]
    words: bool = True
    guided: bool = True


def unet(seed: int, width: int = 16, **config: Any) -> Any:
    net = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=width,
        attention_head_dim=config.pop("attention_head_dim", 4),
        **config,
    )
    return parts.scatter(net, seed)


def stable_diffusion(seed: int, scheduler: Any, **config: Any) -> Any:
    pipeline = diffusers.StableDiffusionPipeline(
        vae=parts.autoencoder(seed),
        text_encoder=parts.clip(seed + 1),
        tokenizer=parts.clip_tokenizer(),
        unet=unet(seed + 2, **config),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline


def sd(seed: int) -> Any:
    config = {**LATENT, "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
    return stable_diffusion(seed, diffusers.PNDMScheduler.from_config(config))


def sd_v(seed: int) -> Any:
    """Zero signal at the first step."""
    scheduler = diffusers.DDIMScheduler(
        **LATENT,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,  # or else StableDiffusionPipeline warns, though this grid has no use for it
        rescale_betas_zero_snr=True,
        clip_sample=False,
    )
    return stable_diffusion(seed, scheduler)


def sd2(seed: int) -> Any:
    """Heads by level, linear projections, v-prediction on the leading grid."""
    scheduler = diffusers.DDIMScheduler(
        **LATENT, prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1, clip_sample=False
    )
    return stable_diffusion(seed, scheduler, attention_head_dim=(2, 4), use_linear_projection=True)


def sdxl(seed: int) -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=parts.autoencoder(seed, scaling_factor=0.13025),
        text_encoder=parts.clip(seed + 1, 16),
        text_encoder_2=parts.clip(seed + 2, 16, projection=12),
        tokenizer=parts.clip_tokenizer(),
        tokenizer_2=parts.clip_tokenizer(),
        unet=unet(
            seed + 3,
            width=32,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 12,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(**LATENT, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )


def sd3(seed: int) -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=20,
        pos_embed_max_size=8,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=parts.scatter(transformer, seed),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=parts.autoencoder(
            seed + 1,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=parts.clip(seed + 2, 8, projection=8),
        tokenizer=parts.clip_tokenizer(),
        text_encoder_2=parts.clip(seed + 3, 16, projection=12),
        tokenizer_2=parts.clip_tokenizer(),
        text_encoder_3=parts.t5(seed + 4, 32),
        tokenizer_3=parts.t5_tokenizer(),
    )


def flux(seed: int, guidance_embeds: bool = False) -> Any:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(2, 2, 4),
    )
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=parts.autoencoder(
            seed + 1,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=parts.clip(seed + 2, 16),
        tokenizer=parts.clip_tokenizer(),
        text_encoder_2=parts.t5(seed + 3, 32),
        tokenizer_2=parts.t5_tokenizer(),
        transformer=parts.scatter(transformer, seed),
    )


def pixart(seed: int) -> Any:
    transformer = diffusers.PixArtTransformer2DModel(**pixart_config(8), use_additional_conditions=False)
    return diffusers.PixArtSigmaPipeline(
        tokenizer=parts.t5_tokenizer(),
        text_encoder=parts.t5(seed + 1, 32),
        vae=parts.autoencoder(seed + 2, scaling_factor=0.13025),
        transformer=parts.scatter(transformer, seed),
        scheduler=diffusers.DPMSolverMultistepScheduler(**LINEAR),
    )


def pixart_alpha(seed: int) -> Any:
    """Of side 128, where the network also takes the size in pixels."""
    transformer = diffusers.PixArtTransformer2DModel(**pixart_config(128))
    return diffusers.PixArtAlphaPipeline(
        tokenizer=parts.t5_tokenizer(),
        text_encoder=parts.t5(seed + 1, 32),
        vae=parts.autoencoder(seed + 2),
        transformer=parts.scatter(transformer, seed),
        scheduler=diffusers.DPMSolverMultistepScheduler(**LINEAR),
    )


def pixart_config(side: int) -> dict[str, Any]:
    return {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 2,
        "cross_attention_dim": 24,
        "sample_size": side,
        "patch_size": 2,
        "caption_channels": 32,
        "interpolation_scale": 1,
    }


def ddpm(seed: int, clip_sample: bool = False) -> Any:
    net = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    return diffusers.DDPMPipeline(parts.scatter(net, seed), diffusers.DDPMScheduler(**LINEAR, clip_sample=clip_sample))


def dit(seed: int) -> Any:
    """Eight channels come out, four of them variances; the pipeline has class 1000 stand for none."""
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )
    labels = {str(i): word for i, word in enumerate(parts.WORDS)}
    pipeline = diffusers.DiTPipeline(
        transformer=parts.scatter(transformer, seed),
        vae=parts.autoencoder(seed + 1),
        scheduler=diffusers.DDIMScheduler(**LINEAR, clip_sample=False),
        id2label=labels,
    )
    pipeline.register_to_config(id2label=labels)  # as the published ones have them in model_index.json
    return pipeline


def cogvideox(seed: int, rotary: bool = False) -> Any:
    """Three latent frames of 4x4; the channels come after the frames."""
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16 if rotary else 8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=32,
        num_layers=1,
        sample_width=4,
        sample_height=4,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=16,  # of 226 a word would drown
        use_rotary_positional_embeddings=rotary,
    )
    return diffusers.CogVideoXPipeline(
        tokenizer=parts.t5_tokenizer(),
        text_encoder=parts.t5(seed + 1, 32),
        vae=parts.video_autoencoder(seed + 2),
        transformer=parts.scatter(transformer, seed),
        scheduler=diffusers.CogVideoXDDIMScheduler(
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            rescale_betas_zero_snr=True,
            snr_shift_scale=1.0 if rotary else 3.0,
            clip_sample=False,
        ),
    )


FAMILIES = {
    "sd": Family(sd, (4, 8, 8)),
    "sd-v": Family(sd_v, (4, 8, 8)),
    "sd2": Family(sd2, (4, 8, 8)),
    "sdxl": Family(sdxl, (4, 8, 8)),
    "sd3": Family(sd3, (4, 8, 8)),
    "flux": Family(flux, (4, 8, 8)),
    "flux-distilled": Family(lambda seed: flux(seed, guidance_embeds=True), (4, 8, 8)),
    "pixart": Family(pixart, (4, 8, 8)),
    "pixart-alpha": Family(pixart_alpha, (4, 8, 8)),
    "ddpm": Family(ddpm, (3, 8, 8), words=False, guided=False),
    "ddpm-clipped": Family(lambda seed: ddpm(seed, clip_sample=True), (3, 8, 8), words=False, guided=False),
    "dit": Family(dit, (4, 8, 8)),
    "cogvideox": Family(cogvideox, (3, 4, 4, 4)),
    "cogvideox-rotary": Family(lambda seed: cogvideox(seed, rotary=True), (3, 4, 4, 4)),
}


def build(name: str, seed: int = 0) -> Any:
    """The pipeline of a family; different seeds give different weights."""
    pipeline = FAMILIES[name].build(1000 * seed)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
