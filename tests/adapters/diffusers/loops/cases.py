"""Tiny pipelines with random weights, of many families."""

__all__ = ["CASES"]

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import numpy as np
import torch
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
    for name in ("prompt_template", "prompt_template_encode"):
        setattr(pipeline, name, "{}")
    pipeline.prompt_template_encode_start_idx = 0
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


def words(kind: str, seed: int, width: int = 32, layers: int = 3) -> Any:
    """A language model that encodes prompts, "Qwen3" or "Llama", for the vocabulary of T5's tokenizer here."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(parts.t5_tokenizer()), hidden_size=width, intermediate_size=width, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=width // 2, attn_implementation="eager", pad_token_id=0,
    )  # fmt: skip
    return parts.scatter(getattr(transformers, f"{kind}Model")(config), seed)


@case("text to image", "Flux 2", "flux2-klein", {**SMALL, "max_sequence_length": 16, "text_encoder_out_layers": (1, 2)})
def flux2_klein() -> Any:
    net = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=64, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    return diffusers.Flux2KleinPipeline(
        scheduler=flow(use_dynamic_shifting=True), vae=flux2_vae(), transformer=parts.scatter(net, 0),
        text_encoder=words("Qwen3", 11), tokenizer=chatting()["tokenizer"],
    )  # fmt: skip


class Chats:
    """A processor of conversations, of which the texts are read."""

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        known = {"padding", "truncation", "max_length", "return_tensors"}
        texts = [" ".join(part["text"] for turn in chat[1:] for part in turn["content"]) for chat in messages]
        return parts.t5_tokenizer()(texts, **{name: value for name, value in options.items() if name in known})


@case("text to image", "Flux 2", "flux2", {**SMALL, "max_sequence_length": 16, "text_encoder_out_layers": (1, 2)})
def _() -> Any:
    net = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=64, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=True,
    )  # fmt: skip
    return diffusers.Flux2Pipeline(
        scheduler=flow(use_dynamic_shifting=True), vae=flux2_vae(), transformer=parts.scatter(net, 0),
        text_encoder=words("Llama", 11), tokenizer=Chats(),
    )  # fmt: skip


def flux2_vae() -> Any:
    """Its latents are normalised by the statistics of a layer."""
    vae = diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=16,
    )  # fmt: skip
    vae.bn.running_mean.fill_(0.2)
    vae.bn.running_var.fill_(1.5)
    return parts.scatter(vae, 1)


@case(
    "editing",
    "Flux 2",
    "flux2-klein-image",
    {**SMALL, "max_sequence_length": 16, "text_encoder_out_layers": (1, 2), "image": picture(64)},
)
def _() -> Any:
    return flux2_klein()


@case(
    "text to image",
    "HiDream",
    "hidream",
    {**SMALL, "max_sequence_length": 16},
)
def _() -> Any:
    net = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=2, caption_channels=[32, 32], text_emb_dim=32, num_routed_experts=4,
        num_activated_experts=2, axes_dims_rope=(4, 2, 2), max_resolution=(16, 16), llama_layers=[0, 1],
    )  # fmt: skip
    pipeline = diffusers.HiDreamImagePipeline(
        scheduler=flow(), vae=latents16(1), transformer=parts.scatter(net, 0),
        text_encoder=parts.clip(3, projection=16), tokenizer=parts.clip_tokenizer(),
        text_encoder_2=parts.clip(4, projection=16), tokenizer_2=parts.clip_tokenizer(),
        text_encoder_3=parts.t5(11, 32), tokenizer_3=parts.t5_tokenizer(),
        text_encoder_4=words("Llama", 5), tokenizer_4=parts.t5_tokenizer(),
    )  # fmt: skip
    pipeline.default_sample_size = 8  # others are made so large
    return pipeline


def kandinsky5(**config: Any) -> Any:
    net = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4, in_text_dim=32, in_text_dim2=16, time_dim=16, out_visual_dim=4, patch_size=(1, 2, 2),
        model_dim=16, ff_dim=32, num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 2, 2), **config,
    )  # fmt: skip
    return parts.scatter(net, 0)


class Texts:
    """A processor of texts, images and videos, which is given texts only."""

    def __init__(self) -> None:
        self.tokenizer = parts.t5_tokenizer()

    def __call__(self, text: Any, images: Any = None, videos: Any = None, **options: Any) -> Any:
        return self.tokenizer(text, **options)

    def decode(self, tokens: Any) -> str:
        return str(self.tokenizer.decode(tokens))


def kandinsky5_parts() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "text_encoder": words("Qwen3", 11),
        "tokenizer": Texts(),
        "text_encoder_2": parts.clip(3, length=77),
        "tokenizer_2": parts.clip_tokenizer(77),
    }


@case("text to image", "Kandinsky 5", "kandinsky5-image", {"height": 32, "width": 32, "max_sequence_length": 16})
def _() -> Any:
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=32,
    )  # fmt: skip
    pipeline = diffusers.Kandinsky5T2IPipeline(
        transformer=kandinsky5(), vae=parts.scatter(vae, 1), **kandinsky5_parts()
    )
    pipeline.resolutions = [(32, 32)]
    return bare(pipeline)


def hunyuan_vae() -> Any:
    vae = diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8), layers_per_block=1,
        norm_num_groups=4, spatial_compression_ratio=8, temporal_compression_ratio=4,
    )  # fmt: skip
    return parts.scatter(vae, 1)


@case(
    "text to video",
    "Kandinsky 5",
    "kandinsky5-video",
    {"height": 32, "width": 32, "num_frames": 5, "max_sequence_length": 16},
)
def _() -> Any:
    return bare(diffusers.Kandinsky5T2VPipeline(transformer=kandinsky5(), vae=hunyuan_vae(), **kandinsky5_parts()))


@case(
    "text to video",
    "HunyuanVideo",
    "hunyuan-video",
    {
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "max_sequence_length": 16,
        "prompt_template": {"template": "{}", "crop_start": 0},
    },
)
def _() -> Any:
    net = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=32,
        pooled_projection_dim=16, rope_axes_dim=(2, 2, 4),
    )  # fmt: skip
    return diffusers.HunyuanVideoPipeline(
        scheduler=flow(shift=7.0), vae=hunyuan_vae(), transformer=parts.scatter(net, 0),
        text_encoder=words("Llama", 5), tokenizer=parts.t5_tokenizer(), text_encoder_2=parts.clip(3, length=77),
        tokenizer_2=parts.clip_tokenizer(77),
    )  # fmt: skip


@case("text to video", "Mochi", "mochi", {"height": 16, "width": 16, "num_frames": 7, "max_sequence_length": 16})
def _() -> Any:
    net = diffusers.MochiTransformer3DModel(
        patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16,
        in_channels=12, text_embed_dim=32, time_embed_dim=4, max_sequence_length=16,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLMochi(
        latent_channels=12, out_channels=3, encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4,
        layers_per_block=(1,) * 5,
    )  # fmt: skip
    return diffusers.MochiPipeline(
        scheduler=flow(invert_sigmas=True, shift=1.0), vae=parts.scatter(vae, 1), transformer=parts.scatter(net, 0),
        **t5(),
    )  # fmt: skip


def seen(width: int = 16) -> dict[str, Any]:
    """A tiny CLIP that encodes images."""
    import transformers

    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8,
        projection_dim=width,
    )  # fmt: skip
    net = transformers.CLIPVisionModelWithProjection(config)
    extractor = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return {"image_encoder": parts.scatter(net, 6), "feature_extractor": extractor}


def with_ip_adapter(pipeline: Any, width: int) -> Any:
    """A pipeline with an IP-Adapter of random weights, from a state dict."""
    draw = torch.Generator().manual_seed(8)
    weights, inner, tokens, i = {}, pipeline.unet.config.cross_attention_dim, 4, 1
    state = pipeline.unet.state_dict()
    for name in pipeline.unet.attn_processors:
        if "attn2" not in name:
            continue
        out = state[name.removesuffix("processor") + "to_k.weight"].shape[0]
        for side in ("k", "v"):
            weights[f"{i}.to_{side}_ip.weight"] = torch.randn(out, inner, generator=draw) * inner**-0.5
        i += 2
    proj = {
        "proj.weight": torch.randn(tokens * inner, width, generator=draw) * width**-0.5,
        "proj.bias": torch.zeros(tokens * inner),
        "norm.weight": torch.ones(inner),
        "norm.bias": torch.zeros(inner),
    }
    pipeline.load_ip_adapter({"image_proj": proj, "ip_adapter": weights}, subfolder="", weight_name="")
    pipeline.set_ip_adapter_scale(0.8)
    return pipeline


@case("image prompt (IP-Adapter)", "Stable Diffusion", "sd-ip-adapter", {"ip_adapter_image": picture(16)})
def _() -> Any:
    return with_ip_adapter(kin(diffusers.StableDiffusionPipeline, sd(), safety_checker=None, **seen()), 16)


@case("image prompt (IP-Adapter)", "Stable Diffusion XL", "sdxl-ip-adapter", {"ip_adapter_image": picture(16)})
def _() -> Any:
    return with_ip_adapter(kin(diffusers.StableDiffusionXLPipeline, sdxl(), add_watermarker=False, **seen()), 16)


def clap() -> Any:
    """A tiny CLAP, of which the texts' side is used."""
    import transformers

    text = transformers.ClapTextConfig(
        vocab_size=len(parts.t5_tokenizer()), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=600, projection_dim=16, pad_token_id=0,
    )  # fmt: skip
    audio = transformers.ClapAudioConfig(
        spec_size=8, window_size=4, num_mel_bins=8, patch_size=2, patch_stride=2, hidden_size=16, depths=[1, 1],
        num_attention_heads=[1, 1], num_hidden_layers=2, patch_embeds_hidden_size=8, projection_dim=16,
    )  # fmt: skip
    config = transformers.ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=16)
    return parts.scatter(transformers.ClapModel(config), 3)


@case("text to audio", "AudioLDM 2", "audioldm2", {"audio_length_in_s": 0.064, "max_new_tokens": 2})
def _() -> Any:
    import transformers
    from diffusers.pipelines.audioldm2 import AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel

    net = AudioLDM2UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=((None, 16, 32), (None, 16, 32)), attention_head_dim=4,
    )  # fmt: skip
    vae = parts.autoencoder(1, in_channels=1, out_channels=1)
    language = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=16, n_head=2, n_layer=1, n_positions=64, vocab_size=8, bos_token_id=0, eos_token_id=0
        )
    )
    vocoder = transformers.SpeechT5HifiGan(
        transformers.SpeechT5HifiGanConfig(
            model_in_dim=16, sampling_rate=1000, upsample_initial_channel=8, upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
            normalize_before=False,
        )
    )  # fmt: skip
    projection = AudioLDM2ProjectionModel(text_encoder_dim=16, text_encoder_1_dim=32, langauge_model_dim=16)
    return diffusers.AudioLDM2Pipeline(
        vae=vae, text_encoder=clap(), tokenizer=parts.t5_tokenizer(), text_encoder_2=parts.t5(11, 32),
        tokenizer_2=parts.t5_tokenizer(), projection_model=parts.scatter(projection, 2),
        language_model=parts.scatter(language, 4), feature_extractor=transformers.ClapFeatureExtractor(),
        unet=parts.scatter(net, 0), scheduler=vp(), vocoder=parts.scatter(vocoder, 5),
    )  # fmt: skip
