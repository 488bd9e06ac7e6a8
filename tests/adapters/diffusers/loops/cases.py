"""Tiny pipelines with random weights, of many families."""

__all__ = ["CASES"]

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import numpy as np
from PIL import Image

from tests.adapters.diffusers.loops.own import Case
from tests.adapters.diffusers.pipelines import build, ddim, parts
from tests.adapters.diffusers.pipelines import families as shared

CASES: dict[str, Case] = {}


def case(
    kind: str, family: str, name: str, args: Mapping[str, Any] | None = None, **more: Any
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Registers the function that builds a case."""

    def register(make: Callable[[], Any]) -> Callable[[], Any]:
        CASES[name] = Case(make, kind, family, args or {}, **more)
        return make

    return register


def picture(side: int = 16, seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8))


def half(side: int = 16) -> Image.Image:
    """White in its right half."""
    pixels = np.zeros((side, side), dtype=np.uint8)
    pixels[:, side // 2 :] = 255
    return Image.fromarray(pixels)


def flow(**config: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **config})


def vp() -> Any:
    return diffusers.DDIMScheduler(**shared.LATENT, clip_sample=False, set_alpha_to_one=True, steps_offset=1)


def kin(kind: Any, base: Any, **more: Any) -> Any:
    """A pipeline of another class on the same parts."""
    import inspect

    known = inspect.signature(kind.__init__).parameters
    given = {name: part for name, part in base.components.items() if name in known}
    return kind(**{**given, **more})


def controlnet(net: Any, seed: int = 7) -> Any:
    found = parts.scatter(diffusers.ControlNetModel.from_unet(net, conditioning_embedding_out_channels=(8, 16)), seed)
    return found


IMG = {"image": picture(), "strength": 0.7}
INPAINT = {"image": picture(), "mask_image": half(), "height": 16, "width": 16}
HINT = {"controlnet_conditioning_scale": 0.7, "control_guidance_end": 0.6}
OLD = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def sd() -> Any:
    pipeline = build("sd")
    pipeline.scheduler = vp()
    return pipeline


def sdxl() -> Any:
    pipeline = build("sdxl")
    pipeline.scheduler = vp()
    return pipeline


case("text to image", "Stable Diffusion", "sd")(sd)
case("text to image", "Stable Diffusion XL", "sdxl")(sdxl)
case("text to image", "Stable Diffusion 3", "sd3")(lambda: build("sd3"))
case("text to image", "Flux", "flux", {"height": 16, "width": 16})(lambda: build("flux"))
case("text to image", "PixArt", "pixart", {"use_resolution_binning": False})(lambda: ddim(build("pixart")))
case("unconditional", "DDPM", "ddpm", guidance=None, prompted=False)(lambda: ddim(build("ddpm")))


@case("image to image", "Stable Diffusion", "sd-img2img", IMG)
def _() -> Any:
    return kin(diffusers.StableDiffusionImg2ImgPipeline, sd(), **OLD)


@case("inpainting", "Stable Diffusion", "sd-inpaint-4", {**INPAINT, "strength": 0.7})
def _() -> Any:
    return kin(diffusers.StableDiffusionInpaintPipeline, sd(), **OLD)


@case("inpainting", "Stable Diffusion", "sd-inpaint-9", INPAINT)
def _() -> Any:
    net = unet9()
    return kin(diffusers.StableDiffusionInpaintPipeline, sd(), unet=net, **OLD)


def unet9(channels: int = 9) -> Any:
    net = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
    )  # fmt: skip
    return parts.scatter(net, 5)


@case("ControlNet", "Stable Diffusion", "sd-controlnet", {"image": picture(), **HINT})
def _() -> Any:
    base = sd()
    return kin(diffusers.StableDiffusionControlNetPipeline, base, controlnet=controlnet(base.unet), **OLD)


@case("ControlNet", "Stable Diffusion", "sd-controlnet-img2img", {**IMG, "control_image": picture(16, 1), **HINT})
def _() -> Any:
    base = sd()
    return kin(diffusers.StableDiffusionControlNetImg2ImgPipeline, base, controlnet=controlnet(base.unet), **OLD)


@case(
    "ControlNet",
    "Stable Diffusion",
    "sd-controlnet-inpaint",
    {**INPAINT, "strength": 0.7, "control_image": picture(16, 1), **HINT},
)
def _() -> Any:
    base = sd()
    return kin(diffusers.StableDiffusionControlNetInpaintPipeline, base, controlnet=controlnet(base.unet), **OLD)


@case("editing", "Stable Diffusion", "sd-instruct", {"image": picture(), "image_guidance_scale": 1.5})
def _() -> Any:
    return kin(diffusers.StableDiffusionInstructPix2PixPipeline, sd(), unet=unet9(8), **OLD)


@case("text to image", "Perturbed attention", "sd-pag", {"pag_scale": 2.0})
def _() -> Any:
    return kin(diffusers.StableDiffusionPAGPipeline, sd(), pag_applied_layers="mid", **OLD)


@case("adapter", "Stable Diffusion", "sd-t2i-adapter", {"image": picture()})
def _() -> Any:
    net = diffusers.T2IAdapter(
        in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter"
    )
    return kin(diffusers.StableDiffusionAdapterPipeline, sd(), adapter=parts.scatter(net, 3), **OLD)


@case("text to image", "Latent consistency", "lcm", guidance=8.0)
def _() -> Any:
    base = sd()
    net = unet_lcm()
    scheduler = diffusers.LCMScheduler(**shared.LATENT, clip_sample=False, original_inference_steps=50)
    return kin(diffusers.LatentConsistencyModelPipeline, base, unet=net, scheduler=scheduler, **OLD)


def unet_lcm() -> Any:
    net = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4, time_cond_proj_dim=8,
    )  # fmt: skip
    return parts.scatter(net, 5)


@case("image to image", "Stable Diffusion XL", "sdxl-img2img", IMG)
def _() -> Any:
    return kin(diffusers.StableDiffusionXLImg2ImgPipeline, sdxl(), add_watermarker=False)


@case("inpainting", "Stable Diffusion XL", "sdxl-inpaint", {**INPAINT, "strength": 0.7})
def _() -> Any:
    return kin(diffusers.StableDiffusionXLInpaintPipeline, sdxl(), add_watermarker=False)


@case("ControlNet", "Stable Diffusion XL", "sdxl-controlnet", {"image": picture(), **HINT})
def _() -> Any:
    base = sdxl()
    return kin(
        diffusers.StableDiffusionXLControlNetPipeline, base, controlnet=controlnet(base.unet), add_watermarker=False
    )


@case("image to image", "Stable Diffusion 3", "sd3-img2img", IMG)
def _() -> Any:
    return kin(diffusers.StableDiffusion3Img2ImgPipeline, build("sd3"))


@case("image to image", "Flux", "flux-img2img", {**IMG, "height": 16, "width": 16})
def _() -> Any:
    return kin(diffusers.FluxImg2ImgPipeline, build("flux"))


@case("inpainting", "Flux", "flux-inpaint", {**INPAINT, "strength": 1.0})
def _() -> Any:
    return kin(diffusers.FluxInpaintPipeline, build("flux"))


@case("ControlNet", "Flux", "flux-controlnet", {"control_image": picture(), "height": 16, "width": 16, **HINT})
def _() -> Any:
    base = build("flux")
    net = diffusers.FluxControlNetModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    return kin(diffusers.FluxControlNetPipeline, base, controlnet=parts.scatter(net, 3))


@case(
    "editing",
    "Flux",
    "flux-kontext",
    {"image": picture(), "height": 16, "width": 16, "_auto_resize": False, "max_area": 256},
)
def _() -> Any:
    return kin(diffusers.FluxKontextPipeline, build("flux"))


def latents16(seed: int, **config: Any) -> Any:
    """An autoencoder of flows: with a shift, without convolutions around the latents."""
    options = {"scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False}
    return parts.autoencoder(seed, **{**options, **config})


def t5() -> dict[str, Any]:
    return {"text_encoder": parts.t5(11, 32), "tokenizer": parts.t5_tokenizer()}


SMALL = {"height": 16, "width": 16}


@case("text to image", "Chroma", "chroma", {**SMALL, "max_sequence_length": 16})
def chroma() -> Any:
    net = diffusers.ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(2, 2, 4), approximator_num_channels=8, approximator_hidden_dim=16,
        approximator_layers=1,
    )  # fmt: skip
    return diffusers.ChromaPipeline(scheduler=flow(), vae=latents16(1), transformer=parts.scatter(net, 0), **t5())


@case("image to image", "Chroma", "chroma-img2img", {**SMALL, **IMG, "max_sequence_length": 16})
def _() -> Any:
    return kin(diffusers.ChromaImg2ImgPipeline, chroma())


@case("text to image", "AuraFlow", "auraflow", {**SMALL, "max_sequence_length": 16})
def _() -> Any:
    net = diffusers.AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, out_channels=4, pos_embed_max_size=64,
    )  # fmt: skip
    return diffusers.AuraFlowPipeline(
        scheduler=flow(), vae=parts.autoencoder(1), transformer=parts.scatter(net, 0), **t5()
    )


@case("text to image", "Lumina 2", "lumina2", {**SMALL, "max_sequence_length": 16, "system_prompt": "a"})
def _() -> Any:
    net = diffusers.Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1,
        num_attention_heads=3, num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 2, 2), axes_lens=(64, 64, 64),
        cap_feat_dim=32,
    )  # fmt: skip
    return diffusers.Lumina2Pipeline(scheduler=flow(), vae=latents16(1), transformer=parts.scatter(net, 0), **t5())


@case(
    "text to image",
    "Sana",
    "sana",
    {
        "height": 32,
        "width": 32,
        "use_resolution_binning": False,
        "complex_human_instruction": None,
        "max_sequence_length": 16,
    },
)
def _() -> Any:
    net = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=32,
        sample_size=8,
    )  # fmt: skip
    vae = diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), scaling_factor=0.41,
    )  # fmt: skip
    return diffusers.SanaPipeline(
        scheduler=flow(), vae=parts.scatter(vae, 1), transformer=parts.scatter(net, 0), **t5()
    )


@case("text to image", "CogView 4", "cogview4", {**SMALL, "max_sequence_length": 16})
def _() -> Any:
    net = diffusers.CogView4Transformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        text_embed_dim=32, time_embed_dim=8, condition_dim=4, pos_embed_max_size=64, sample_size=8,
        rope_axes_dim=(64, 64),
    )  # fmt: skip
    scheduler = flow(base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear")
    return diffusers.CogView4Pipeline(
        scheduler=scheduler, vae=parts.autoencoder(1), transformer=parts.scatter(net, 0), **t5()
    )


def qwen_vae() -> Any:
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1] * 4, latents_std=[1.5] * 4,
    )  # fmt: skip
    return parts.scatter(vae, 1)


@case("text to image", "Qwen-Image", "qwen-image", {**SMALL})
def qwen() -> Any:
    net = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    pipeline = diffusers.QwenImagePipeline(
        scheduler=flow(use_dynamic_shifting=True), vae=qwen_vae(), transformer=parts.scatter(net, 0), **t5()
    )
    return bare(pipeline)


def bare(pipeline: Any) -> Any:
    """Without the template of a language model around prompts."""
    pipeline.prompt_template_encode, pipeline.prompt_template_encode_start_idx = "{}", 0
    return pipeline


@case("image to image", "Qwen-Image", "qwen-image-img2img", {**SMALL, **IMG})
def _() -> Any:
    return bare(kin(diffusers.QwenImageImg2ImgPipeline, qwen()))


@case("inpainting", "Qwen-Image", "qwen-image-inpaint", {**INPAINT, "strength": 1.0})
def _() -> Any:
    return bare(kin(diffusers.QwenImageInpaintPipeline, qwen()))


def chatting() -> dict[str, Any]:
    found = t5()
    found["tokenizer"].chat_template = "{{ messages[0]['content'] }}"
    return found


@case("text to image", "Z-Image", "z-image", {**SMALL, "max_sequence_length": 16})
def zimage() -> Any:
    net = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
        axes_dims=[8, 4, 4], axes_lens=[64, 32, 32],
    )  # fmt: skip
    return diffusers.ZImagePipeline(scheduler=flow(), vae=latents16(1), transformer=parts.scatter(net, 0), **chatting())


@case("image to image", "Z-Image", "z-image-img2img", {**SMALL, **IMG, "max_sequence_length": 16})
def _() -> Any:
    return kin(diffusers.ZImageImg2ImgPipeline, zimage())


def wan_vae() -> Any:
    vae = diffusers.AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False], latents_mean=[0.1] * 4,
        latents_std=[1.5] * 4, scale_factor_temporal=4, scale_factor_spatial=2,
    )  # fmt: skip
    return parts.scatter(vae, 1)


WAN = {"height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 16}


@case("text to video", "Wan", "wan", WAN)
def wan() -> Any:
    net = diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=32, freq_dim=16,
        ffn_dim=16, num_layers=1, rope_max_seq_len=32,
    )  # fmt: skip
    return diffusers.WanPipeline(scheduler=flow(), vae=wan_vae(), transformer=parts.scatter(net, 0), **t5())


@case("text to video", "LTX-Video", "ltx", {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 16})
def ltx() -> Any:
    net = diffusers.LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        num_layers=1, caption_channels=32,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        patch_size=1,
    )  # fmt: skip
    return diffusers.LTXPipeline(scheduler=flow(), vae=parts.scatter(vae, 1), transformer=parts.scatter(net, 0), **t5())


@case(
    "image to video",
    "LTX-Video",
    "ltx-image",
    {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 16, "image": picture(32)},
)
def _() -> Any:
    return kin(diffusers.LTXImageToVideoPipeline, ltx())


@case(
    "text to video",
    "CogVideoX",
    "cogvideox",
    {"height": 16, "width": 16, "num_frames": 9, "max_sequence_length": 16},
    steps=4,
)
def _() -> Any:
    return build("cogvideox")


@case(
    "text to video",
    "Latte",
    "latte",
    {"height": 16, "width": 16, "video_length": 2, "clean_caption": False, "mask_feature": False},
)
def _() -> Any:
    net = diffusers.LatteTransformer3DModel(
        sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, caption_channels=32,
        in_channels=4, cross_attention_dim=16, out_channels=8, attention_bias=True, activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False, video_length=2,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(**shared.LINEAR, clip_sample=False, steps_offset=1)
    return diffusers.LattePipeline(
        scheduler=scheduler, vae=parts.autoencoder(1), transformer=parts.scatter(net, 0), **t5()
    )


@case("text to video", "AnimateDiff", "animatediff", {"height": 16, "width": 16, "num_frames": 2})
def _() -> Any:
    base = sd()
    adapter = diffusers.MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4
    )
    return kin(diffusers.AnimateDiffPipeline, base, motion_adapter=parts.scatter(adapter, 4))


@case("text to audio", "Stable Audio", "stable-audio", {"audio_end_in_s": 2.0})
def _() -> Any:
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    net = diffusers.StableAudioDiTModel(
        sample_size=4, in_channels=3, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        num_key_value_attention_heads=2, out_channels=3, cross_attention_dim=8, time_proj_dim=8,
        global_states_input_dim=16, cross_attention_input_dim=8,
    )  # fmt: skip
    vae = diffusers.AutoencoderOobleck(
        encoder_hidden_size=6, downsampling_ratios=[1, 2], decoder_channels=3, decoder_input_channels=3,
        audio_channels=2, channel_multiples=[2, 4], sampling_rate=4,
    )  # fmt: skip
    projection = StableAudioProjectionModel(text_encoder_dim=32, conditioning_dim=8, min_value=0, max_value=32)
    scheduler = diffusers.DDIMScheduler(
        **shared.LATENT, clip_sample=False, prediction_type="v_prediction", steps_offset=1
    )
    return diffusers.StableAudioPipeline(
        transformer=parts.scatter(net, 0), scheduler=scheduler, vae=parts.scatter(vae, 1),
        projection_model=parts.scatter(projection, 2), **t5(),
    )  # fmt: skip
