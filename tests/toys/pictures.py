"""A model of tiny pictures: an exact Gaussian law of 3 x 4 x 4 pixels, whose mean is the prompt's colour."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian
from guided.core.prompting import Prompting

SIDE = 4
SCALE = 6  # each pixel is so many pixels of the picture
COLOURS = {"red": (0.6, -0.6, -0.6), "green": (-0.6, 0.6, -0.6)}


def decode(x):
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture.repeat(SCALE, 0).repeat(SCALE, 1)) for picture in pixels]


def encode(image):
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1) / 127.5 - 1


def region(mask):
    small = mask.convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(small))[None] > 127


def condition(prompts):
    unknown = [prompt for prompt in prompts if prompt and prompt not in COLOURS]
    if unknown:
        raise ValueError(f"there is no prompt {unknown[0]!r}")
    return {"mean": torch.tensor([COLOURS.get(prompt, (0.0, 0.0, 0.0)) for prompt in prompts])[:, :, None, None]}


def pictures(K=6, preview=False):
    """Data N(mean, 0.09 I), with its exact denoiser; weights of guidance other than 1 move the mean."""
    times = [1 - k / K for k in range(K + 1)]
    grid = [(1 - t, t) for t in times]
    table = {round(t, 6): pair for t, pair in zip(times, grid, strict=True)}

    def denoiser(x, t, mean):
        a, s = table[round(float(t[0]), 6)]
        return mean + 0.09 * a * (x - a * mean) / (0.09 * a * a + s * s)

    denoiser.raw = lambda x, t, y: y  # it predicts the clean mean
    denoiser.clean = lambda x, t, raw: raw
    process = Gaussian((3, SIDE, SIDE), [a for a, _ in grid], [s for _, s in grid], times)
    codec = Codec(decode, (lambda x: decode(x * 0.9)) if preview else None, encode, region, "images")
    return Diffusion(denoiser, process, codec, Prompting(condition))


def videos(K=6):
    """The same with two frames: a picture, and its mirror image."""
    model = pictures(K)
    return replace(
        model, codec=Codec(lambda x: [[p, p.transpose(0)] for p in decode(x)], region=region, modality="videos")
    )


def redness(samples):
    """The mean of red less that of the others, of a picture or of a video's frames."""
    frames = [sample if isinstance(sample, list) else [sample] for sample in samples]
    arrays = [np.array([np.asarray(frame, dtype=float) for frame in these]) for these in frames]
    return [float(a[..., 0].mean() - a[..., 1:].mean()) / 255 for a in arrays]
