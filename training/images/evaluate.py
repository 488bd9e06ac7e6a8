r"""Judges the shipped image model: categories, Fréchet distance, copies, colours recombined, reconstructions.

    python -m training.images.evaluate              # into guided/checkpoints/images/metrics.json
    python -m training.images.evaluate --sheet      # only the contact sheet

The judge is a classifier of categories (training/images/classifier.py) that was trained on the same images as the
model; one image in twenty was held out of both. Fréchet distances are between its 64 features. They are biased upwards
for few images, so the distance of as many real images is reported for comparison.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch.nn import functional as F

import guided
from guided.metrics.molecules import frechet_distance
from training.images.augmentation import psnr, vary
from training.images.classifier import CATEGORIES, Classifier, labels, train_classifier
from training.images.colours import COLOURS, main_colour, on_white, recolour
from training.images.emoji import Emoji, held_out, held_out_pair, load_images, recoloured, thing
from training.images.nets import LATENTS, LENGTH, diffusers
from training.images.train import CHECKPOINT

HERE = Path(__file__).parents[1]
SHEET = (
    *("red apple", "smiling cat face", "blue car", "green leaf", "yellow star", "pizza", "house", "purple fish"),
    *("banana", "strawberry", "hamburger", "dog face", "rocket", "umbrella", "cactus", "snowman"),
    *("alarm clock", "guitar", "pink heart", "blue butterfly", "green book", "orange bird", "purple flower", "red key"),
)


class Sampler:
    """The shipped folder, sampled by this package.

    diffusers' DDIM at eta = 1 takes the root of a rounding error below zero where the first level has no signal.
    """

    def __init__(self, folder: Path) -> None:
        self.pipeline = diffusers().StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        self.model = guided.load(self.pipeline, steps=50)

    def __call__(self, prompts: list[str], guidance: float, seed: int = 0) -> torch.Tensor:
        """An image of each prompt, `(n, 3, 64, 64)` in [-1, 1], after 50 steps."""
        options: dict[str, Any] = {"prompt": prompts, "guidance": guidance}
        run = guided.sample(self.model, None, "unguided", len(prompts), seed, **options)
        return as_rows(run.samples)


def as_rows(images: Sequence[Any]) -> torch.Tensor:
    """Images `(n, 3, 64, 64)` in [-1, 1]; those of another size are resized."""
    from PIL import Image

    small = [image.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS) for image in images]
    return torch.from_numpy(np.stack([np.asarray(image) for image in small])).permute(0, 3, 1, 2) / 127.5 - 1


def as_bytes(x: torch.Tensor) -> NDArray[np.uint8]:
    """`(n, 64, 64, 3)` out of `(n, 3, 64, 64)` in [-1, 1]."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def still(rgba: torch.Tensor) -> torch.Tensor:
    """Images `(n, 4, 64, 64)` in bytes as they are, on white, `(n, 3, 64, 64)` in [-1, 1]."""
    return vary(rgba / 255, turned=0.0, flipped=0.0, moved=0.0)


def chosen_rows(entries: list[Emoji], each: int, seed: int = 0) -> list[int]:
    """The indices of a number of random images of each category, without held-out ones."""
    rng, label = np.random.default_rng(seed), labels(entries)
    kept = [[i for i, e in enumerate(entries) if label[i] == c and not held_out(e)] for c in range(len(CATEGORIES))]
    return [int(i) for rows in kept for i in rng.permutation(rows)[:each]]


def frechet(net: Classifier, x: torch.Tensor, y: torch.Tensor) -> float:
    """Fréchet distance of images in the features of the classifier."""
    with torch.no_grad():
        a, b = net.features(x).double().numpy(), net.features(y).double().numpy()
    return frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))


def nearest(x: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Root mean square distance of values in [0, 1] at 16 x 16 to the closest of `real`, mirrored or not; its row."""
    small, known = F.avg_pool2d(x, 4).flatten(1), F.avg_pool2d(torch.cat([real, real.flip(3)]), 4).flatten(1)
    value, row = torch.cdist(small, known).min(1)
    return value / 2 / small.shape[1] ** 0.5, row % len(real)


@torch.no_grad()
def categories(sampler: Sampler, net: Classifier, entries: list[Emoji], images: torch.Tensor) -> dict[str, Any]:
    """Accuracy of the category and of the name, Fréchet distance and copies, at several guidances."""
    rows, label = chosen_rows(entries, 12), labels(entries)
    kept = [i for i, e in enumerate(entries) if label[i] >= 0 and not held_out(e)]
    test = [i for i, e in enumerate(entries) if label[i] >= 0 and held_out(e)]
    known = still(images[kept])
    real = vary(images[chosen_rows(entries, 60, 1)] / 255, turned=0.0)
    moved = vary(images[rows] / 255, turned=0.0)
    out: dict[str, Any] = {
        "held_out": {
            "pictures": len(test),
            "category": accuracy(net, still(images[test]), label[test]),
            "nearest": quantiles(nearest(still(images[test]), known)[0]),
        },
        "trained_on": {
            "pictures": len(rows),
            "category": accuracy(net, moved, label[rows]),
            "named": named(moved, known, kept, rows),
            "frechet": round(frechet(net, moved, real), 4),
            "nearest": quantiles(nearest(moved, known)[0]),
        },
    }
    for guidance in (1.0, 3.0, 5.0, 7.0):
        x = sampler([entries[i].names[0] for i in rows], guidance)
        out[f"guidance {guidance:g}"] = {
            "category": accuracy(net, x, label[rows]),
            "named": named(x, known, kept, rows),
            "frechet": round(frechet(net, x, real), 4),
            "nearest": quantiles(nearest(x, known)[0]),
        }
        print(guidance, out[f"guidance {guidance:g}"], flush=True)
    return out


def accuracy(net: Classifier, x: torch.Tensor, label: torch.Tensor) -> float:
    """The share of images whose category the classifier recognises."""
    return round(float((net(x).argmax(1) == label).float().mean()), 4)


def named(x: torch.Tensor, known: torch.Tensor, kept: list[int], rows: list[int]) -> float:
    """The share of images whose closest training image is that of their prompt."""
    found = nearest(x, known)[1].tolist()
    return round(float(np.mean([kept[j] == i for j, i in zip(found, rows, strict=True)])), 4)


def quantiles(values: torch.Tensor) -> list[float]:
    """The 5, 50 and 95 % quantiles."""
    return [round(v, 4) for v in torch.quantile(values, torch.tensor([0.05, 0.5, 0.95])).tolist()]


def pairs(entries: list[Emoji], held: bool) -> list[tuple[int, str]]:
    """Random pairs of an entry and a colour, held out or trained on, that no original image of that name has."""
    rng = np.random.default_rng(int(held))
    kept = [i for i, e in enumerate(entries) if recoloured(e) and not e.variant and not held_out(e)]
    kept = [i for i in kept if entries[i].category != "Smileys & Emotion" and len(thing(entries[i]).split()) <= 2]
    found = [(i, c) for i in kept for c in COLOURS if held_out_pair(c, thing(entries[i])) == held]
    return [found[k] for k in rng.permutation(len(found))]


def colours(sampler: Sampler, entries: list[Emoji], images: torch.Tensor, guidance: float) -> dict[str, Any]:
    """Share of samples of "<colour> <thing>" with that main colour, with that shape, and with both.

    The shape is right if the closest of all things, each recoloured with the colour, is the named one.
    """
    rgba = images.permute(0, 2, 3, 1).numpy()
    things = [i for i, e in enumerate(entries) if recoloured(e) and not e.variant and not held_out(e)]
    whole = [i for i, e in enumerate(entries) if not e.variant]
    natural = {(thing(entries[i]), main_colour(rgba[i][..., :3], rgba[i][..., 3])) for i in whole}
    natural |= {(thing(entries[i]), word) for i in whole for word in entries[i].names[0].split()}
    out: dict[str, Any] = {"guidance": guidance, "colours": list(COLOURS)}
    for held in (True, False):
        every = pairs(entries, held)
        chosen = [(i, c) for i, c in every if (thing(entries[i]), c) not in natural][:100]
        x = sampler([f"{c} {thing(entries[i])}" for i, c in chosen], guidance)
        colour = np.array([main_colour(p) == c for p, (_, c) in zip(as_bytes(x), chosen, strict=True)])
        shape = np.zeros(len(chosen), dtype=bool)
        for c in COLOURS:
            at = [k for k, pair in enumerate(chosen) if pair[1] == c]
            if at:
                known = still(torch.from_numpy(np.stack([recolour(rgba[i], c) for i in things])).permute(0, 3, 1, 2))
                found = nearest(x[at], known)[1].tolist()
                shape[at] = [things[j] == chosen[k][0] for k, j in zip(at, found, strict=True)]
        out["held_out" if held else "trained_on"] = {
            "pairs": len(chosen),
            "colour": round(float(colour.mean()), 4),
            "shape": round(float(shape.mean()), 4),
            "both": round(float((colour & shape).mean()), 4),
        }
        print(held, out["held_out" if held else "trained_on"], flush=True)
    recoloured_right = [main_colour(on_white(recolour(rgba[i], c))) == c for i, c in pairs(entries, False)[:500]]
    out["ceiling_colour"] = round(float(np.mean(recoloured_right)), 4)
    return out


@torch.no_grad()
def parts(sampler: Sampler, folder: Path, entries: list[Emoji], images: torch.Tensor) -> dict[str, Any]:
    """Weights, multiplications per row (of decoding) and bytes of each part; errors on held-out images."""
    from torch.utils.flop_counter import FlopCounterMode

    pipe = sampler.pipeline
    tiny = diffusers().AutoencoderTiny.from_pretrained(folder / "vae_tiny", torch_dtype=torch.float32)
    z, ids = torch.zeros(1, LATENTS, 8, 8), torch.full((1, LENGTH), 2047)
    text = pipe.text_encoder(ids).last_hidden_state
    calls: dict[str, tuple[Any, Callable[[], Any]]] = {
        "text_encoder": (pipe.text_encoder, lambda: pipe.text_encoder(ids)),
        "unet": (pipe.unet, lambda: pipe.unet(z, torch.tensor([0]), text)),
        "vae": (pipe.vae, lambda: pipe.vae.decode(z)),
        "vae_tiny": (tiny, lambda: tiny.decode(z)),
    }
    out: dict[str, Any] = {}
    for name, (module, call) in calls.items():
        counter: Any = FlopCounterMode(display=False)
        with counter:
            call()
        out[name] = {
            "weights": sum(p.numel() for p in module.parameters()),
            "mmac": round(counter.get_total_flops() / 2e6, 1),
            "bytes": sum(path.stat().st_size for path in (folder / name).iterdir()),
        }
    x = still(images[[held_out(e) and not e.variant and e.category != "Flags" for e in entries]])
    z = pipe.vae.encode(x).latent_dist.mode()
    out["vae"]["held_out_db"] = round(psnr(pipe.vae.decode(z).sample, x), 2)
    out["vae_tiny"]["held_out_db"] = round(psnr(tiny.decode(z * pipe.vae.config.scaling_factor).sample, x), 2)
    out["held_out_images"] = len(x)
    return out


def contact_sheet(sampler: Sampler, path: Path, guidance: float) -> None:
    """Four images of each of 24 prompts, in three columns."""
    from PIL import Image

    x = as_bytes(sampler([prompt for prompt in SHEET for _ in range(4)], guidance))
    grid = x.reshape(3, 8, 4, 64, 64, 3).transpose(1, 3, 0, 2, 4, 5).reshape(512, 768, 3)
    Image.fromarray(grid).save(path, optimize=True)


def main(work: Path = HERE / "work", folder: Path = CHECKPOINT, guidance: float = 5.0, sheet: bool = False) -> None:
    """Writes `samples.png` and, unless `--sheet` is given, `metrics.json` into the folder."""
    sampler = Sampler(folder)
    contact_sheet(sampler, folder / "samples.png", guidance)
    if sheet:
        return
    entries, images = load_images(work)
    net = train_classifier(work)
    torch.manual_seed(0)  # the same images whether or not the classifier was trained just now
    metrics: dict[str, Any] = {"steps": 50, "eta": 1.0, "parts": parts(sampler, folder, entries, images)}
    metrics["categories"] = categories(sampler, net, entries, images)
    metrics["colours"] = colours(sampler, entries, images, guidance)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
