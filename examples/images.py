"""Images of prompts: unguided, best of N and SVDD, by any reward of images; a table and sheets.

    python examples/images.py --prompts examples/prompts.txt --reward compressibility -M 20 --out runs/images

Any diffusers pipeline can replace the small model that is shipped, as in `--model stabilityai/sdxl-turbo`. Best-of-N
takes N = M, which costs about as many network rows as SVDD; SVDD calls the reward at every step.
"""

import argparse
import csv
import re
from pathlib import Path
from typing import Any

from sheets import sheet

import guided
from guided.errors import GuidedError, check_number, one_line
from guided.samplers import SVDD, BestOfN, Unguided

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    """The command's options, checked before the model is loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="images", help="a name from `guided models`, a folder, or a name on the Hugging Face hub"
    )
    parser.add_argument("--prompts", type=Path, default=HERE / "prompts.txt", help="a file with one prompt per line")
    parser.add_argument("--per-prompt", type=int, default=4, help="number of images of each prompt and sampler")
    parser.add_argument("--reward", default="compressibility")
    parser.add_argument("-M", type=int, default=20, help="SVDD's candidates, and best-of-N's samples")
    parser.add_argument("--steps", type=int, default=50, help="reverse steps K")
    parser.add_argument("--guidance", type=float, default=5.0, help="the weight of classifier-free guidance")
    parser.add_argument("--lookahead", choices=("tiny", "full"), help="the decoder of look-aheads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/images"))
    options = parser.parse_args()
    for name, number in (("--per-prompt", options.per_prompt), ("-M", options.M), ("--steps", options.steps)):
        check_number(name, number, int, least=1)
    guided.check_folder(options.out)
    options.texts = guided.read_prompts(options.prompts)
    return options


def draw(model: guided.Diffusion, options: argparse.Namespace) -> dict[str, guided.Run]:
    """A run of each sampler over all prompts; prints its line of the table."""
    samplers = {"unguided": Unguided(), f"best of {options.M}": BestOfN(N=options.M), "SVDD": SVDD(M=options.M)}
    prompts = [prompt for prompt in options.texts for _ in range(options.per_prompt)]
    shared: dict[str, Any] = {"n": len(prompts), "seed": options.seed, "prompt": prompts, "guidance": options.guidance}
    runs = {}
    print(f"{'':12}{'median reward':>15}{'network rows':>14}{'reward calls':>14}{'decoding':>10}{'seconds':>9}")
    for name, sampler in samplers.items():
        run = guided.sample(model, options.reward, sampler, **shared)
        stats, seconds = run.stats, run.stats.seconds
        print(f"{name:12}{run.rewards.median():15.3f}{stats.network_rows:14,}{stats.reward_calls:14,}", end="")
        print(f"{seconds['decode']:8.1f} s{seconds['total']:9.1f}", flush=True)
        runs[name] = run
    return runs


def write(runs: dict[str, guided.Run], options: argparse.Namespace) -> None:
    """Every image, `samples.csv`, a sheet for each prompt, and one of the first image of each."""
    out, m = options.out, options.per_prompt
    captioned = {
        name: [(sample, f"{r:.3f}") for sample, r in zip(run.samples, run.rewards.tolist(), strict=True)]
        for name, run in runs.items()
    }
    with (out / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sampler", "prompt", "request", "reward", "file"])
        for name, run in runs.items():
            for i, (sample, reward) in enumerate(zip(run.samples, run.rewards.tolist(), strict=True)):
                path = Path("samples", slug(name), f"{i:05d}.png")
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                sample.save(out / path)
                writer.writerow([name, options.texts[i // m], i, reward, path])
    for j, prompt in enumerate(options.texts):
        rows = [(name, images[j * m : (j + 1) * m]) for name, images in captioned.items()]
        sheet(rows, out / f"{j:02d}-{slug(prompt)}.png", f"{prompt}: {options.reward}")
    first = [(prompt, [images[j * m] for images in captioned.values()]) for j, prompt in enumerate(options.texts)]
    sheet(first, out / "overview.png", f"first image of each prompt: {options.reward}", list(captioned))
    print(f"wrote {out / 'overview.png'}, a sheet for each prompt, and {out / 'samples.csv'}")


def slug(text: str) -> str:
    """The text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


def main() -> None:
    """Draws, prints and writes."""
    with one_line():
        options = arguments()
        chosen = {} if options.lookahead is None else {"lookahead": options.lookahead}
        model = guided.load(options.model, steps=options.steps, **chosen)
        if model.modality != "images":
            raise GuidedError(
                f"the samples of {options.model!r} are {model.modality or 'of no known modality'}, not images"
            )
        options.out.mkdir(parents=True, exist_ok=True)
        write(draw(model, options), options)


if __name__ == "__main__":
    main()
