"""Inpainting guided by a reward: a part of an image is drawn anew, the rest is kept.

    python examples/inpaint.py --prompt "blue car" --reward "target_colour?colour=red" --out runs/inpaint

White in the mask may change. At every step the clean mean is set to the image where the mask is black, so look-aheads
show it as it will be. In a latent model it passes the autoencoder, which changes it a bit, most at the mask's border.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sheets import sheet

import guided
from guided.errors import GuidedError, check_number, one_line
from guided.samplers import SVDD, Unguided


def arguments() -> argparse.Namespace:
    """The command's options, checked before the model is loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="images", help="a name from `guided models`, a folder, or a name on the Hugging Face hub"
    )
    parser.add_argument("--prompt", default="blue car")
    parser.add_argument("--image", type=Path, help="the image; a sample of the model if not given")
    parser.add_argument("--mask", type=Path, help="white may change; the right half if not given")
    parser.add_argument("--reward", default="target_colour?colour=red")
    parser.add_argument("--strength", type=float, default=1.0, help="the share of the steps that are run")
    parser.add_argument("--n", type=int, default=4, help="number of images")
    parser.add_argument("-M", type=int, default=10, help="SVDD's candidates")
    parser.add_argument("--steps", type=int, default=50, help="reverse steps K")
    parser.add_argument("--guidance", type=float, default=5.0, help="the weight of classifier-free guidance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/inpaint"))
    options = parser.parse_args()
    for name, number in (("--n", options.n), ("-M", options.M), ("--steps", options.steps)):
        check_number(name, number, int, least=1)
    check_number("--strength", options.strength, float, above=0, most=1)
    guided.check_folder(options.out)
    options.image, options.mask = (
        None if path is None else guided.read_image(path, name)
        for name, path in (("--image", options.image), ("--mask", options.mask))
    )
    return options


def right_half(size: tuple[int, int]) -> Image.Image:
    """A mask that is black to the left and white to the right."""
    columns = np.where(np.arange(size[0]) < size[0] // 2, 0, 255).astype(np.uint8)
    return Image.fromarray(np.tile(columns, (size[1], 1)))


def change(before: Image.Image, after: Image.Image, mask: Image.Image, white: bool) -> float:
    """The mean absolute change where the mask is white, or where it is black, in levels of 255."""
    part = (np.asarray(mask.convert("L").resize(after.size, Image.Resampling.NEAREST)) > 127) == white
    gaps = np.abs(np.asarray(after, dtype=float) - np.asarray(before.convert("RGB").resize(after.size), dtype=float))
    return float(gaps[part].mean()) if part.any() else 0.0


def main() -> None:
    """Draws, prints and writes."""
    with one_line():
        options = arguments()
        objective = guided.resolve_reward(options.reward)
        model = guided.load(options.model, steps=options.steps)
        if model.modality != "images":
            raise GuidedError(
                f"the samples of {options.model!r} are {model.modality or 'of no known modality'}, not images"
            )
        objective.check(model.modality)
        drawing: dict[str, Any] = {"seed": options.seed, "prompt": options.prompt, "guidance": options.guidance}
        before = options.image or guided.sample(model, None, Unguided(), **drawing).samples[0]
        mask = options.mask or right_half(before.size)
        filling = {"image": before, "mask": mask, "strength": options.strength, **drawing}
        run = guided.sample(model, objective, SVDD(M=options.M), n=options.n, **filling)

        options.out.mkdir(parents=True, exist_ok=True)
        [old], new = objective([before.convert("RGB")], [options.prompt]).tolist(), run.rewards.tolist()
        after = [(sample, f"after {r:.3f}") for sample, r in zip(run.samples, new, strict=True)]
        row = [(before, f"before {old:.3f}"), (mask, "mask"), *after]
        sheet([(options.prompt, row)], options.out / "inpaint.png", options.reward)
        print(f"{options.reward}: {old:.3f} before, {np.mean(new):.3f} after (mean of {options.n})")
        for name, white in (("kept", False), ("free", True)):
            moved = np.mean([change(before, sample, mask, white) for sample in run.samples])
            print(f"mean change where it is {name}: {moved:.1f} of 255")
        print(f"wrote {options.out / 'inpaint.png'}")


if __name__ == "__main__":
    main()
