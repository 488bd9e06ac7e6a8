"""The families of pipelines that are supported, by the pipeline's class."""

__all__ = ["FAMILIES", "Family"]

from guided.adapters.diffusers.family import Family
from guided.adapters.diffusers.text_to_image import Flux, PixArt, PixArtSigma, StableDiffusion3, StableDiffusionXL
from guided.adapters.diffusers.videos import CogVideoX
from guided.adapters.diffusers.without_text import DiT, Unconditional

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
    "PixArtSigmaPipeline": PixArtSigma,
    "DiTPipeline": DiT,
    "DDPMPipeline": Unconditional,
    "DDIMPipeline": Unconditional,
    "CogVideoXPipeline": CogVideoX,
}
