"""Tiny pipelines with random weights, of many families."""

__all__ = ["CASES"]

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

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
    return kin(diffusers.StableDiffusionXLControlNetPipeline, base, controlnet=controlnet(base.unet), add_watermarker=False)


@case("image to image", "Stable Diffusion 3", "sd3-img2img", IMG)
def _() -> Any:
    return kin(diffusers.StableDiffusion3Img2ImgPipeline, build("sd3"))


@case("inpainting", "Stable Diffusion 3", "sd3-inpaint", {**INPAINT, "strength": 1.0})
def _() -> Any:
    return kin(diffusers.StableDiffusion3InpaintPipeline, build("sd3"))


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


@case("editing", "Flux", "flux-kontext", {"image": picture(), "height": 16, "width": 16, "_auto_resize": False})
def _() -> Any:
    return kin(diffusers.FluxKontextPipeline, build("flux"))
