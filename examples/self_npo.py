"""A small negative checkpoint of an image model, trained on the model's own images; a sheet shows its effect.

    python examples/self_npo.py --prompts examples/prompts.txt --out runs/self_npo

It trains LoRA weights by truncated fine-tuning (Self-NPO, docs/self_npo.md), which needs no data and no
labels. The defaults are for two CPU cores and the shipped model, with far fewer updates than in the paper. Then each
prompt is drawn with the same noise by classifier-free guidance (CFG) and with the checkpoint (NPO). The same command
resumes a training that was stopped.
"""

import argparse
from pathlib import Path
from typing import Any

from sheets import sheet

import guided
from guided import NegativeTraining, SelfNPO, attach, train_negative
from guided.errors import GuidedError, check_number, one_line

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    """The command's options, checked before the model is loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="images", help="a name from `guided models`, a folder, or a name on the Hugging Face hub"
    )
    parser.add_argument("--prompts", type=Path, default=HERE / "prompts.txt", help="a file with one prompt per line")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--learn",
        type=Path,
        help="a file with the prompts of the training images; the model's own prompts, or --prompts",
    )
    training.add_argument("--n", type=int, default=128, help="number of the model's own images to train on")
    training.add_argument("--sampling-steps", type=int, default=20, help="reverse steps of these")
    training.add_argument("--updates", type=int, default=150, help="updates of the weights")
    training.add_argument("--batch", type=int, default=16, help="rows of an update")
    training.add_argument("--lr", type=float, default=1e-4, help="the learning rate")
    training.add_argument("--lora", type=int, default=16, help="the rank of LoRA weights; 0 trains all weights")
    training.add_argument("--accumulate", type=int, default=1, help="number of parts that a batch is split into")
    training.add_argument("-K", type=int, default=25, help="the steps of the teacher's grid")
    training.add_argument("-j", type=int, default=3, help="the number of teacher steps from a random step")
    training.add_argument("-w", type=float, default=0.0, help="the teacher's guidance weight")
    drawing = parser.add_argument_group("the sheet")
    drawing.add_argument("--per-prompt", type=int, default=2, help="number of pairs of images of each prompt")
    drawing.add_argument("--steps", type=int, default=50, help="reverse steps K")
    drawing.add_argument("--guidance", type=float, default=5.0, help="the weight of guidance, of CFG and of NPO")
    drawing.add_argument("--alpha", type=float, default=1.0, help="how far the negative side moves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/self_npo"))
    options = parser.parse_args()
    for name, number in (("--per-prompt", options.per_prompt), ("--steps", options.steps)):
        check_number(name, number, int, least=1)
    if options.guidance == 1:
        raise GuidedError("--guidance is 1, which is no guidance at all; give another weight")
    guided.check_folder(options.out)
    options.texts = guided.read_prompts(options.prompts)
    options.lessons = None if options.learn is None else guided.read_prompts(options.learn)
    return options


def train(options: argparse.Namespace) -> Path:
    """The folder of the checkpoint."""
    method = SelfNPO(K=options.K, j=options.j, w=options.w)
    named = {"steps": options.updates, **{n: getattr(options, n) for n in ("n", "batch", "lr", "lora", "accumulate")}}
    training = NegativeTraining(**named, seed=options.seed)
    model = images(options.model, options.sampling_steps)
    prompts = options.lessons or (None if model.prompting.examples else options.texts)
    with guided.ProgressBar() as bar:
        out = options.out / "checkpoint"
        return train_negative(model, out, method=method, training=training, prompts=prompts, progress=bar)


def images(name: str, steps: int) -> guided.Diffusion:
    """The model.

    Raises:
        GuidedError: It is not an image model.
    """
    model = guided.load(name, steps=steps)
    if model.modality != "images" or not model.prompting.conditional:
        raise GuidedError(
            f"the samples of {name!r} are {model.modality or 'of no known modality'}, not images of prompts"
        )
    return model


def draw(options: argparse.Namespace, checkpoint: Path) -> dict[str, guided.Run]:
    """A run without and with the checkpoint over all prompts; prints its line of the table."""
    model = images(options.model, options.steps)
    sides = {"CFG": model, "NPO": attach(model, checkpoint, alpha=options.alpha)}
    prompts = [prompt for prompt in options.texts for _ in range(options.per_prompt)]
    shared: dict[str, Any] = {"n": len(prompts), "seed": options.seed, "prompt": prompts, "guidance": options.guidance}
    runs = {}
    print(f"{'':6}{'network rows':>14}{'seconds':>9}")
    for name, side in sides.items():
        runs[name] = guided.sample(side, sampler="unguided", **shared)
        stats = runs[name].stats
        print(f"{name:6}{stats.network_rows:14,}{stats.seconds['total']:9.1f}", flush=True)
    return runs


def write(runs: dict[str, guided.Run], options: argparse.Namespace) -> None:
    """The pairs, side by side, a row for each prompt."""
    m = options.per_prompt
    pairs = list(zip(*(run.samples for run in runs.values()), strict=True))
    rows = [
        (prompt, [(image, "") for pair in pairs[j * m : (j + 1) * m] for image in pair])
        for j, prompt in enumerate(options.texts)
    ]
    path = options.out / "before-after.png"
    sheet(rows, path, f"guidance {options.guidance:g}, the same noise in each pair", [*runs] * m)
    print(f"wrote {path}; the checkpoint: guided sample {options.model} --negative {options.out / 'checkpoint'}")


def main() -> None:
    """Trains, draws, prints and writes."""
    with one_line():
        options = arguments()
        write(draw(options, train(options)), options)


if __name__ == "__main__":
    main()
