r"""How the shipped text-to-image model was made: latent diffusion over Noto Emoji, in the layout of Stable Diffusion 1.

    python -m training.images.train prepare              # images by npm
    python -m training.images.train vae --minutes 13     # each training resumes where it was stopped
    python -m training.images.train latents              # encodes varied and recoloured images; learns the tokens
    python -m training.images.train train --minutes 60   # text encoder and UNet
    python -m training.images.train decoder --minutes 6  # only the decoder, with fixed latents
    python -m training.images.train tiny --minutes 4     # a second decoder, three times cheaper
    python -m training.images.train export               # the averaged weights, into guided/checkpoints/images

References:
    | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022)
    | https://arxiv.org/abs/2112.10752
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023)
    | https://arxiv.org/abs/2305.08891
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import distributed, nn

from guided.fitting.loop import Alone
from guided.fitting.state import read_state, write_state
from guided.storage import read_tensors, write_tensors
from training.images.augmentation import image_loss, psnr, vary
from training.images.colours import COLOURS, NAMES, main_colour, recolour
from training.images.emoji import (
    Emoji,
    caption,
    fetch,
    held_out,
    held_out_pair,
    load_images,
    read_entries,
    read_image,
    recoloured,
    thing,
)
from training.images.nets import (
    LENGTH,
    TextToImage,
    centre,
    diffusers,
    make_scheduler,
    make_tiny,
    make_tokenizer,
    make_vae,
)
from training.optimizers import image_optimizers
from training.trainer import Trainer, averaged_weights, processes_on

HERE = Path(__file__).parents[1]
CHECKPOINT = HERE.parent / "guided" / "checkpoints" / "images"
LATENTS_FILE = "latents.safetensors"
app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0], pretty_exceptions_enable=False)


@app.command()
def prepare(work: Path = HERE / "work") -> None:
    """Fetches the images with npm; `(images, 64, 64, 4)` bytes in `pictures.npy`."""
    fetch(work)
    images = np.stack([read_image(work, entry) for entry in read_entries(work)])
    np.save(work / "pictures.npy", images)
    print(f"{len(images)} images")


def resume(net: nn.Module, lr: float, inner: tuple[str, ...], folder: Path, processes: Alone) -> Trainer:
    """A trainer with the state in the folder, if there is one; random numbers continue from its step.

    Args:
        net: The network; it is moved to the processes' device.
        lr: The learning rate.
        inner: Words in the names of the weights that Muon trains.
        folder: The folder of the state.
        processes: The processes of the training.
    """
    torch.set_flush_denormal(True)
    net = net.to(processes.device)
    trainer = Trainer(net, lr, image_optimizers(net, lr, inner), processes)
    trainer.load(folder)
    torch.manual_seed(trainer.step)
    return trainer


class Several(Alone):
    """The processes of `torch.distributed`."""

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        """The sum of a tensor over all processes."""
        distributed.all_reduce(tensor)
        return tensor


def batches(entries: list[Emoji], images: torch.Tensor, batch: int) -> Iterator[torch.Tensor]:
    """Endless randomly changed images `(batch, 3, 64, 64)`, none of them held out; skin tones and flags are rare."""
    rare = [0.15 if e.variant or e.category == "Flags" else 1.0 for e in entries]
    weight = torch.tensor([0.0 if held_out(e) else share for e, share in zip(entries, rare, strict=True)])
    while True:
        yield vary(images[torch.multinomial(weight, batch, replacement=True)] / 255)


def vae_loss(net: Any, x: torch.Tensor) -> torch.Tensor:
    """The error of `(B, 3, 64, 64)` after a draw of the latents, and 1e-4 times the divergence of a latent."""
    latents = net.encode(x).latent_dist
    return image_loss(net.decode(latents.sample()).sample, x) + 1e-4 * latents.kl().mean() / latents.mean[0].numel()


@app.command()
def vae(
    work: Path = HERE / "work", minutes: float = 13.0, batch: int = 10, lr: float = 1.5e-3, device: str = "cpu"
) -> None:
    """Trains the autoencoder; the state is saved every minute into `vae/`."""
    torch.manual_seed(0)
    processes = processes_on(device)
    trainer = resume(make_vae(), lr, ("block",), work / "vae", processes)
    source = batches(*load_images(work), batch)
    for progress in trainer.run(minutes, work / "vae"):
        trainer.update(vae_loss(trainer.net, next(source).to(processes.device)), progress)


Row = tuple[int, str, bool, NDArray[Any]]


def coloured_rows(entries: list[Emoji], images: torch.Tensor, plain: int) -> list[Row]:
    """The images to encode: index of the entry, main colour, whether that is a new one, and the image `(64, 64, 4)`.

    Each image occurs `plain` times unchanged (flags twice), and once in every colour whose pair is not held out.
    """
    rows: list[Row] = []
    for i, entry in enumerate(entries):
        if entry.variant or held_out(entry):
            continue
        image = images[i].permute(1, 2, 0).numpy()
        own = main_colour(image[..., :3], image[..., 3])
        rows += [(i, own, False, image)] * (2 if entry.category == "Flags" else plain)
        new = [c for c in COLOURS if recoloured(entry) and not held_out_pair(c, thing(entry))]
        rows += [(i, colour, True, recolour(image, colour)) for colour in new]
    return rows


@torch.no_grad()
def encode(net: Any, rows: list[Row], entries: list[Emoji], batch: int = 64) -> torch.Tensor:
    """Latents `(rows, LATENTS, 8, 8)` of moved and resized images, flipped if that keeps the meaning."""
    out = []
    for k in range(0, len(rows), batch):
        part = rows[k : k + batch]
        rgba = torch.from_numpy(np.stack([image for *_, image in part])).permute(0, 3, 1, 2) / 255
        fixed = [entries[i].category in ("Symbols", "Flags") or "arrow" in entries[i].names[0] for i, *_ in part]
        out.append(net.encode(vary(rgba, turned=0.0, flipped=0.5 * ~torch.tensor(fixed))).latent_dist.mode())
    return torch.cat(out)


def known_scale(folder: Path) -> float | None:
    """The scaling factor of restored weights, whose latents are already centred; None for other weights."""
    scale = (read_state(folder) or {}).get("scale")
    return None if scale is None else float(scale)


@app.command()
def latents(work: Path = HERE / "work", plain: int = 6) -> None:
    """Caches scaled latents in `latents.safetensors`, with the data of captions, and learns tokens from captions."""
    entries, images = load_images(work)
    torch.manual_seed(0)
    rows = coloured_rows(entries, images, plain)
    z = encode(average(make_vae(), work / "vae"), rows, entries)
    scale, middle = known_scale(work / "vae"), torch.zeros(z.shape[1])
    if scale is None:  # otherwise those of trained weights, which the other networks fit
        middle = z.mean((0, 2, 3))
        scale = float(1 / (z - middle[:, None, None]).std())
    z = z - middle[:, None, None]
    columns = {
        "entry": torch.tensor([i for i, *_ in rows]),
        "colour": torch.tensor([NAMES.index(colour) for _, colour, *_ in rows]),
        "new": torch.tensor([new for *_, new, _ in rows]),
    }
    cached = {"latents": (z * scale).half(), **columns, "middle": middle}
    write_tensors(work / LATENTS_FILE, {**cached, "scale": torch.tensor(scale, dtype=torch.float64)})
    rng = np.random.default_rng(0)
    kept = sorted({i for i, *_ in rows})
    texts = [caption(entries[i], NAMES[c], False, rng) for i in kept for c in rng.integers(len(NAMES), size=20)]
    if not (work / "tokenizer").exists():  # the tokens of existing weights are kept
        make_tokenizer(texts + list(NAMES) * 30, work / "tokenizer")
    print(f"{len(z)} latents, scaled by {scale:.4f}")


def weights_of_rows(entries: list[Emoji], entry: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Sampling weights `(rows,)`: a subcategory of n images has weight sqrt(n), a recoloured image 40 %, people less.

    Args:
        entries: All entries.
        entry: The index of each row's entry.
        new: Whether the row shows it in another colour.
    """
    keys = list(zip(entry.tolist(), new.tolist(), strict=True))
    sizes = Counter(entries[i].subcategory for i in {i for i, _ in keys})
    counts = Counter(keys)
    rare = {"Flags": 0.05, "People & Body": 0.1, "Symbols": 0.2, "Component": 0.1}
    weights = []
    for i, coloured in keys:
        share = 1.0 if not recoloured(entries[i]) else 0.4 if coloured else 0.6
        share *= rare.get(entries[i].category, 1.0)
        share *= 0.3 if entries[i].subcategory in ("keycap", "alphanum") else 1.0
        weights.append(share / counts[i, coloured] / sizes[entries[i].subcategory] ** 0.5)
    return torch.tensor(weights, dtype=torch.float64)


def captioned(work: Path, batch: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless latents `(batch, LATENTS, 8, 8)` with tokens `(batch, LENGTH)`; one caption in ten is empty."""
    from transformers import CLIPTokenizer

    entries, data = read_entries(work), read_tensors(work / LATENTS_FILE)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    weight, rng = weights_of_rows(entries, data["entry"], data["new"]), np.random.default_rng(seed)
    while True:
        rows = torch.multinomial(weight, batch, replacement=True)
        facts = zip(*(data[key][rows].tolist() for key in ("entry", "colour", "new")), strict=True)
        texts = ["" if rng.random() < 0.1 else caption(entries[i], NAMES[c], new, rng) for i, c, new in facts]
        ids = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
        yield data["latents"][rows].float(), ids


def v_loss(net: nn.Module, z: torch.Tensor, ids: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """The squared error of v at stratified times, weighted by `min(1, 5 / (snr + 1))`.

    That is min-SNR with the +1 of v, so that the last time, where the ratio is zero, is learned too.

    References:
        | Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023)
        | https://arxiv.org/abs/2303.09556
    """
    rows = len(z)
    t = ((torch.randperm(rows) + torch.rand(rows)) / rows * len(alphas)).long().clamp(max=len(alphas) - 1)
    alpha, noise = alphas[t].view(-1, 1, 1, 1), torch.randn_like(z)
    noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
    v = net(noisy.contiguous(memory_format=torch.channels_last), t, ids)
    error = (v - alpha.sqrt() * noise + (1 - alpha).sqrt() * z).square().mean((1, 2, 3))
    return (error * (5 * (1 - alpha.flatten())).clamp(max=1)).mean()  # snr + 1 = 1 / (1 - alpha)


@app.command()
def train(
    work: Path = HERE / "work", minutes: float = 60.0, batch: int = 64, lr: float = 1.5e-3, processes: int = 2
) -> None:
    """Trains text encoder and UNet for a number of minutes; the state is saved every minute into `images/`.

    Every process has one thread and its share of the batch: threads would wait for each other at every operation.
    """
    from torch import multiprocessing

    spawn: Any = multiprocessing.spawn  # type: ignore[attr-defined]
    (work / "rendezvous").unlink(missing_ok=True)
    spawn(train_process, (processes, work, minutes, batch // processes, lr), processes)


def train_process(rank: int, processes: int, work: Path, minutes: float, batch: int, lr: float) -> None:
    """One process of `train`; the first one keeps the clock and writes the checkpoints."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{work / 'rendezvous'}", rank=rank, world_size=processes)
    torch.manual_seed(0)
    net: Any = TextToImage()
    net = net.to(memory_format=torch.channels_last)
    several = Several(process_index=rank, num_processes=processes, is_main_process=rank == 0)
    trainer = resume(net, lr, ("block", "layers"), work / "images", several)
    seed = trainer.step * processes + rank
    torch.manual_seed(seed)
    source, alphas = captioned(work, batch, seed), make_scheduler().alphas_cumprod
    distributed.barrier()
    for progress in trainer.run(minutes if rank == 0 else float("inf"), work / "images"):
        shared = torch.tensor([progress if rank == 0 else 0.0])
        distributed.all_reduce(shared)
        if shared.isnan():
            return
        trainer.update(v_loss(trainer.net, *next(source), alphas) / processes, shared.item())
    distributed.all_reduce(torch.full((1,), float("nan")))


def average(net: Any, folder: Path) -> Any:
    """The network with the averaged weights of a training, if there is one."""
    if folder.exists():
        net.load_state_dict(averaged_weights(folder)[0])
    return net.eval()


def trained_vae(work: Path) -> Any:
    """The autoencoder with centred latents and its scaling factor, with the longer trained decoder if there is one."""
    data, net = read_tensors(work / LATENTS_FILE), average(make_vae(), work / "vae")
    centre(net, data["middle"])
    average(net.decoder, work / "decoder")
    net.register_to_config(scaling_factor=round(float(data["scale"]), 6))
    return net


def decoder_pairs(work: Path, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless scaled latents `(batch, LATENTS, 8, 8)`, a little noisy, with their images `(batch, 3, 64, 64)`."""
    net = trained_vae(work)
    for x in batches(*load_images(work), batch):
        with torch.no_grad():
            z = net.encode(x).latent_dist.mode() * net.config.scaling_factor
        yield z + 0.05 * torch.rand(batch, 1, 1, 1) * torch.randn_like(z), x


@app.command()
def decoder(
    work: Path = HERE / "work", minutes: float = 6.0, batch: int = 10, lr: float = 8e-4, device: str = "cpu"
) -> None:
    """Trains only the decoder for longer; the state is saved every minute into `decoder/`."""
    processes = processes_on(device)
    net = trained_vae(work).to(processes.device)
    trainer = resume(net.decoder, lr, ("block",), work / "decoder", processes)
    source, scale = decoder_pairs(work, batch), net.config.scaling_factor
    for progress in trainer.run(minutes, work / "decoder"):
        z, x = (part.to(processes.device) for part in next(source))
        with torch.no_grad():
            z = net.post_quant_conv(z / scale)
        trainer.update(image_loss(trainer.net(z), x), progress)


@app.command()
def tiny(
    work: Path = HERE / "work", minutes: float = 4.0, batch: int = 10, lr: float = 2e-3, device: str = "cpu"
) -> None:
    """Trains the small autoencoder on the same scaled latents, in both directions; the state is saved into `tiny/`."""
    torch.manual_seed(0)
    processes = processes_on(device)
    trainer = resume(make_tiny(), lr, ("layers",), work / "tiny", processes)
    net: Any = trainer.net
    source = decoder_pairs(work, batch)
    for progress in trainer.run(minutes, work / "tiny"):
        z, x = (part.to(processes.device) for part in next(source))
        loss = image_loss(net.decode(z).sample, x) + 0.1 * (net.encode(x).latents - z).square().mean()
        trainer.update(loss, progress)


@app.command()
def check(work: Path = HERE / "work") -> None:
    """Prints the error of both autoencoders on the images that are held out of all trainings."""
    entries, images = load_images(work)
    x = vary(images[[held_out(e) and not e.variant for e in entries]] / 255, turned=0.0, flipped=0.0, moved=0.0)
    net, small = trained_vae(work), average(make_tiny(), work / "tiny")
    with torch.no_grad():
        z = net.encode(x).latent_dist.mode()
        print(f"{len(x)} images: {psnr(net.decode(z).sample, x):.2f} dB", end=", ")
        print(f"tiny {psnr(small.decode(z * net.config.scaling_factor).sample, x):.2f} dB")


def read_scale(folder: Path) -> float:
    """The factor of a pipeline's latents."""
    return float(json.loads((folder / "vae" / "config.json").read_text())["scaling_factor"])


@app.command()
def restore(work: Path = HERE / "work", folder: Path = CHECKPOINT) -> None:
    """Writes the shipped weights as states of the trainings, at step 0, to train them further on another machine."""
    if (work / "images").exists() or (work / "vae").exists():
        raise typer.BadParameter(f"{work} has weights of its own")
    work.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder / "tokenizer", work / "tokenizer", dirs_exist_ok=True)
    weights = "diffusion_pytorch_model.safetensors"
    for name, part in (("vae", "vae"), ("tiny", "vae_tiny")):
        state = {key: weight.float() for key, weight in read_tensors(folder / part / weights).items()}
        scale = {} if name == "tiny" else {"scale": read_scale(folder)}
        write_state(work / name, {"average": state, **scale})
    net = TextToImage()
    net.text.load_state_dict(read_tensors(folder / "text_encoder" / "model.safetensors"))
    net.unet.load_state_dict(read_tensors(folder / "unet" / weights))
    Trainer(net, 1.5e-3, image_optimizers(net, 1.5e-3, ("block", "layers"))).save(work / "images")


def prompts(entries: list[Emoji]) -> list[str]:
    """The example prompts: names of training images, without flags, signs and people."""
    known = [e for e in entries if not e.variant and not held_out(e) and recoloured(e)]
    return sorted({e.names[0] for e in known})


@app.command()
def export(work: Path = HERE / "work", out: Path = CHECKPOINT) -> None:
    """Writes the pipeline's folder and `vae_tiny`, in half precision, from the last states."""
    from transformers import CLIPTokenizer

    net = average(TextToImage(), work / "images")
    pipeline = diffusers().StableDiffusionPipeline(
        vae=trained_vae(work),
        text_encoder=net.text,
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=net.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out)
    config = out / "text_encoder" / "config.json"  # or transformers would compute in that precision
    config.write_text(config.read_text().replace('"float16"', '"float32"'))
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(work / "tokenizer" / name, out / "tokenizer" / name)
    (out / "prompts.txt").write_text("\n".join(prompts(read_entries(work))) + "\n")
    average(make_tiny(), work / "tiny").half().save_pretrained(out / "vae_tiny")
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{total / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
