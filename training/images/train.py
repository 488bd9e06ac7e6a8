r"""How the shipped text-to-image model was made: latent diffusion over Noto Emoji, in the layout of Stable Diffusion 1.

    python -m training.images.train prepare              # images by npm, packed into two files of 11 MB
    python -m training.images.train vae --minutes 13     # each training resumes where it was stopped
    python -m training.images.train latents              # encodes varied and recoloured images; learns the tokens
    python -m training.images.train train --minutes 60   # text encoder and UNet
    python -m training.images.train decoder --minutes 6  # only the decoder, with fixed latents
    python -m training.images.train tiny --minutes 4     # a second decoder, three times cheaper
    python -m training.images.train export               # the averaged weights, into guided/checkpoints/images

Only `prepare` needs npm. Each command takes a GPU if there is one: data, draws and changes of images are then on it.

References:
    | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022)
    | https://arxiv.org/abs/2112.10752
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023)
    | https://arxiv.org/abs/2305.08891
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import distributed, nn

from guided.fitting.loop import Alone
from guided.fitting.state import read_state, write_state
from guided.storage import read_tensors, write_tensors
from training.images.augmentation import image_loss, psnr, vary
from training.images.colours import NAMES
from training.images.dataset import Latents, batches, coloured_rows, encode, token_table, weights_of_rows
from training.images.emoji import Emoji, caption, fetch, held_out, load_entries, load_images, recoloured, write_images
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
# Images of a batch, and the learning rate, of each training.
BATCHES = {
    "vae": {"cpu": (10, 1.5e-3), "gpu": (128, 3e-3)},
    "train": {"cpu": (64, 1.5e-3), "gpu": (512, 2e-3)},
    "decoder": {"cpu": (10, 8e-4), "gpu": (128, 1.5e-3)},
    "tiny": {"cpu": (10, 2e-3), "gpu": (128, 3e-3)},
}
Of = Annotated[float | None, typer.Option("--of")]
app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0], pretty_exceptions_enable=False)


@app.command()
def prepare(work: Path = HERE / "work") -> None:
    """Fetches the images with npm, and writes `entries.json` and `pictures.npz`, all that the trainings read."""
    fetch(work)
    print(f"{write_images(work)} images")


def device_of(name: str) -> Alone:
    """One process on a device by name; with bf16 on an NVIDIA GPU."""
    processes = processes_on(name)
    return processes_on(name, "bf16") if processes.device.type == "cuda" else processes


def sizes(training: str, processes: Alone, batch: int | None, lr: float | None) -> tuple[int, float]:
    """The batch and the learning rate of a training, which follow the device where they are not given."""
    images, rate = BATCHES[training]["cpu" if processes.device.type == "cpu" else "gpu"]
    return batch or images, lr or rate


def loss_on(loss: Callable[..., torch.Tensor], processes: Alone) -> Callable[..., torch.Tensor]:
    """A loss in the precision of the processes, compiled with its draws and its network on an NVIDIA GPU."""
    call = torch.compile(loss, dynamic=False) if processes.device.type == "cuda" else loss

    def value(*args: Any) -> torch.Tensor:
        with processes.autocast():
            return call(*args)

    return value


def resume(
    net: nn.Module, lr: float, inner: tuple[str, ...], folder: Path, processes: Alone, half: bool = False
) -> Trainer:
    """A trainer with the state in the folder, if there is one; random numbers continue from its step.

    Args:
        net: The network; it is moved to the processes' device.
        lr: The learning rate.
        inner: Words in the names of the weights that Muon trains.
        folder: The folder of the state.
        processes: The processes of the training.
        half: Whether the state is saved in half the bytes; a resumed training then goes on from rounded numbers.
    """
    torch.set_flush_denormal(True)
    net = net.to(processes.device)
    trainer = Trainer(net, lr, image_optimizers(net, lr, inner), processes, half=half)
    trainer.load(folder)
    torch.manual_seed(trainer.step)
    return trainer


class Several(Alone):
    """The processes of `torch.distributed`."""

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        """The sum of a tensor over all processes."""
        distributed.all_reduce(tensor)
        return tensor


def vae_loss(net: Any, x: torch.Tensor) -> torch.Tensor:
    """The error of `(B, 3, 64, 64)` after a draw of the latents, and 1e-4 times the divergence of a latent."""
    latents = net.encode(x).latent_dist
    return image_loss(net.decode(latents.sample()).sample, x) + 1e-4 * latents.kl().mean() / latents.mean[0].numel()


@app.command()
def vae(
    work: Path = HERE / "work",
    minutes: float = 13.0,
    of: Of = None,
    batch: int | None = None,
    lr: float | None = None,
    device: str = "auto",
) -> None:
    """Trains the autoencoder; the state is saved every minute into `vae/`."""
    torch.manual_seed(0)
    processes = device_of(device)
    batch, lr = sizes("vae", processes, batch, lr)
    trainer = resume(make_vae(), lr, ("block",), work / "vae", processes)
    source, loss = batches(*load_images(work), batch, processes.device), loss_on(vae_loss, processes)
    for progress in trainer.run(of or minutes, work / "vae", minutes):
        trainer.update(loss(trainer.net, next(source)), progress)


def known_scale(folder: Path) -> float | None:
    """The scaling factor of restored weights, whose latents are already centred; None for other weights."""
    scale = (read_state(folder) or {}).get("scale")
    return None if scale is None else float(scale)


@app.command()
def latents(
    work: Path = HERE / "work",
    plain: int | None = None,
    coloured: int | None = None,
    captions: int = 24,
    device: str = "auto",
) -> None:
    """Writes `latents.safetensors`, all that `train` reads: scaled latents, weights of rows, tokens of captions.

    Every image is moved and resized `plain` times as it is, and `coloured` times in every other colour: 6 and 1 times
    on a CPU, 32 and 6 times on a GPU. Learns tokens from captions if there are none.
    """
    processes, (entries, images) = device_of(device), load_images(work)
    cpu = processes.device.type == "cpu"
    torch.manual_seed(0)
    rows = coloured_rows(entries, images, plain or (6 if cpu else 32), coloured or (1 if cpu else 6))
    z = encode(average(make_vae(), work / "vae"), rows, entries, 64 if cpu else 512, processes.device)
    scale, middle = known_scale(work / "vae"), torch.zeros(z.shape[1])
    if scale is None:  # otherwise those of trained weights, which the other networks fit
        middle = z.mean((0, 2, 3))
        scale = float(1 / (z - middle[:, None, None]).std())
    z = z - middle[:, None, None]
    facts = [(i, colour, new) for i, colour, new, _ in rows]
    entry, new = torch.tensor([i for i, *_ in facts]), torch.tensor([new for *_, new in facts])
    data = {"latents": (z * scale).half(), "weight": weights_of_rows(entries, entry, new)}
    data |= token_table(facts, entries, tokens_of(work, entries), captions, np.random.default_rng(0))
    data |= {"middle": middle, "scale": torch.tensor(scale, dtype=torch.float64)}
    write_tensors(work / LATENTS_FILE, data)
    print(f"{len(z)} latents, scaled by {scale:.4f}")


def tokens_of(work: Path, entries: list[Emoji]) -> Callable[[list[str]], list[list[int]]]:
    """Maps captions to their tokens, `LENGTH` each; learns the tokens if there are none in the work folder."""
    from transformers import CLIPTokenizer

    if not (work / "tokenizer").exists():  # the tokens of existing weights are kept
        rng, kept = np.random.default_rng(0), [e for e in entries if not e.variant and not held_out(e)]
        texts = [caption(e, NAMES[c], False, rng) for e in kept for c in rng.integers(len(NAMES), size=20)]
        make_tokenizer(texts + list(NAMES) * 30, work / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    return lambda texts: tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True).input_ids


def v_loss(net: nn.Module, z: torch.Tensor, ids: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """The squared error of v at stratified times, weighted by `min(1, 5 / (snr + 1))`.

    That is min-SNR with the +1 of v, so that the last time, where the ratio is zero, is learned too.

    References:
        | Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023)
        | https://arxiv.org/abs/2303.09556
    """
    rows, device = len(z), z.device
    share = (torch.randperm(rows, device=device) + torch.rand(rows, device=device)) / rows  # stratified
    t = (share * len(alphas)).long().clamp(max=len(alphas) - 1)
    alpha, noise = alphas[t].view(-1, 1, 1, 1), torch.randn_like(z)
    noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
    v = net(noisy.contiguous(memory_format=torch.channels_last), t, ids)
    error = (v - alpha.sqrt() * noise + (1 - alpha).sqrt() * z).square().mean((1, 2, 3))
    return (error * (5 * (1 - alpha.flatten())).clamp(max=1)).mean()  # snr + 1 = 1 / (1 - alpha)


@app.command()
def train(
    work: Path = HERE / "work",
    minutes: float = 60.0,
    of: Of = None,
    batch: int | None = None,
    lr: float | None = None,
    processes: int = 2,
    device: str = "auto",
) -> None:
    """Trains text encoder and UNet for a number of minutes, or until those of all sessions are `of`.

    The state is saved every minute into `images/`. On a CPU every one of the processes has one thread and its share of
    the batch: threads would wait for each other at every operation. On a GPU there is one process.
    """
    alone = device_of(device)
    batch, lr = sizes("train", alone, batch, lr)
    if alone.device.type != "cpu" or processes == 1:
        return train_alone(alone, work, minutes, of, batch, lr)
    from torch import multiprocessing

    spawn: Any = multiprocessing.spawn  # type: ignore[attr-defined]
    (work / "rendezvous").unlink(missing_ok=True)
    spawn(train_process, (processes, work, minutes, of, batch // processes, lr), processes)


def text_trainer(work: Path, lr: float, processes: Alone) -> Trainer:
    """The training of text encoder and UNet, with the state in `images/` if there is one."""
    torch.manual_seed(0)
    net: Any = TextToImage()
    net = net.to(memory_format=torch.channels_last)
    return resume(net, lr, ("block", "layers"), work / "images", processes, half=True)  # or it would be 115 MB


def train_alone(alone: Alone, work: Path, minutes: float, of: float | None, batch: int, lr: float) -> None:
    """`train` in this process, with all data on its device."""
    trainer = text_trainer(work, lr, alone)
    source = Latents(read_tensors(work / LATENTS_FILE), batch, alone.device)
    alphas, loss = make_scheduler().alphas_cumprod.to(alone.device), loss_on(v_loss, alone)
    for progress in trainer.run(of or minutes, work / "images", minutes):
        trainer.update(loss(trainer.net, *next(source), alphas), progress)


def train_process(
    rank: int, processes: int, work: Path, minutes: float, of: float | None, batch: int, lr: float
) -> None:
    """One process of `train`; the first one keeps the clock and writes the checkpoints."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{work / 'rendezvous'}", rank=rank, world_size=processes)
    trainer = text_trainer(work, lr, Several(process_index=rank, num_processes=processes, is_main_process=rank == 0))
    torch.manual_seed(trainer.step * processes + rank)
    source, alphas = Latents(read_tensors(work / LATENTS_FILE), batch), make_scheduler().alphas_cumprod
    distributed.barrier()
    limits = (of or minutes, work / "images", minutes) if rank == 0 else (float("inf"), work / "images")
    for progress in trainer.run(*limits):
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


def decoder_pairs(work: Path, batch: int, processes: Alone) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless scaled latents `(batch, LATENTS, 8, 8)`, a little noisy, with their images `(batch, 3, 64, 64)`."""
    net, device = trained_vae(work).to(processes.device), processes.device
    for x in batches(*load_images(work), batch, device):
        with torch.no_grad(), processes.autocast():
            z = net.encode(x).latent_dist.mode().float() * net.config.scaling_factor
        yield z + 0.05 * torch.rand(batch, 1, 1, 1, device=device) * torch.randn_like(z), x


def decoder_loss(net: Any, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The error of `(B, 3, 64, 64)`, decoded out of the inputs of the decoder, `(B, LATENTS, 8, 8)`."""
    return image_loss(net(z), x)


@app.command()
def decoder(
    work: Path = HERE / "work",
    minutes: float = 6.0,
    of: Of = None,
    batch: int | None = None,
    lr: float | None = None,
    device: str = "auto",
) -> None:
    """Trains only the decoder for longer; the state is saved every minute into `decoder/`."""
    processes = device_of(device)
    batch, lr = sizes("decoder", processes, batch, lr)
    net = trained_vae(work).to(processes.device)
    trainer = resume(net.decoder, lr, ("block",), work / "decoder", processes)
    source, loss = decoder_pairs(work, batch, processes), loss_on(decoder_loss, processes)
    for progress in trainer.run(of or minutes, work / "decoder", minutes):
        z, x = next(source)
        with torch.no_grad():
            z = net.post_quant_conv(z / net.config.scaling_factor)
        trainer.update(loss(trainer.net, z, x), progress)


def tiny_loss(net: Any, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The error of `(B, 3, 64, 64)`, decoded out of scaled latents, and a tenth of that of the latents, encoded."""
    return image_loss(net.decode(z).sample, x) + 0.1 * (net.encode(x).latents - z).square().mean()


@app.command()
def tiny(
    work: Path = HERE / "work",
    minutes: float = 4.0,
    of: Of = None,
    batch: int | None = None,
    lr: float | None = None,
    device: str = "auto",
) -> None:
    """Trains the small autoencoder on the same scaled latents, in both directions; the state is saved into `tiny/`."""
    torch.manual_seed(0)
    processes = device_of(device)
    batch, lr = sizes("tiny", processes, batch, lr)
    trainer = resume(make_tiny(), lr, ("layers",), work / "tiny", processes)
    source, loss = decoder_pairs(work, batch, processes), loss_on(tiny_loss, processes)
    for progress in trainer.run(of or minutes, work / "tiny", minutes):
        trainer.update(loss(trainer.net, *next(source)), progress)


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
    state = {key: weight.float() for key, weight in read_tensors(folder / "vae" / weights).items()}
    write_state(work / "vae", {"average": state, "scale": read_scale(folder)})
    small, net = make_tiny(), TextToImage()
    small.load_state_dict(read_tensors(folder / "vae_tiny" / weights))
    net.text.load_state_dict(read_tensors(folder / "text_encoder" / "model.safetensors"))
    net.unet.load_state_dict(read_tensors(folder / "unet" / weights))
    for name, module, inner in (("tiny", small, ("layers",)), ("images", net, ("block", "layers"))):
        optimizers = image_optimizers(module, 1.5e-3, inner)
        Trainer(module, 1.5e-3, optimizers, half=name == "images").save(work / name)


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
    (out / "prompts.txt").write_text("\n".join(prompts(load_entries(work))) + "\n")
    average(make_tiny(), work / "tiny").half().save_pretrained(out / "vae_tiny")
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{total / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
