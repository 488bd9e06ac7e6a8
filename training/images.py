"""How the shipped text-to-image model was made."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import nn
from torch.nn import functional as F

from training.emoji import (
    COLOURS,
    NAMES,
    Emoji,
    caption,
    fetch,
    held_out,
    held_out_pair,
    main_colour,
    read_entries,
    read_picture,
    recolour,
    recoloured,
    thing,
)
from training.trainer import Trainer

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent / "guided" / "checkpoints" / "images"
LATENTS = 12
LENGTH = 16
torch.set_flush_denormal(True)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal, for weights of any rank >= 2, in float32.

    The library's Muon takes matrices alone and computes in bfloat16, which is slow on processors that lack it.
    The update is scaled to the size of AdamW's, so that learning rates carry over.

    References:
        | Muon is Scalable for LLM Training (Liu et al., 2025)
        | https://arxiv.org/abs/2502.16982
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(mean, group["momentum"]).flatten(1))
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update.view_as(p), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Five Newton-Schulz iterations towards `U V^T` of the singular value decomposition of `(n, m)`.

    Every iterate is a polynomial of the Gram matrix times the first one, so that all runs in the smaller dimension.
    """
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    gram, eye = x @ x.T, torch.eye(len(x))
    total = eye
    for _ in range(5):
        factor = 3.4445 * eye - 4.775 * gram + 2.0315 * gram @ gram
        total, gram = factor @ total, factor @ gram @ factor
    x = total @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class ImageTrainer(Trainer):
    """The shared trainer with Muon for every inner weight of rank two and more, and a longer average."""

    def __init__(self, net: nn.Module, lr: float, inner: tuple[str, ...], final: float = 0.999) -> None:
        super().__init__(net, lr)
        named = list(net.named_parameters())
        matrices = [p for n, p in named if p.ndim >= 2 and any(part in n for part in inner)]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in chosen]
        adam = torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.99))
        self.optimizers = [Muon(matrices, lr), adam]


def make_vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def hue_turn(angle: torch.Tensor) -> torch.Tensor:
    """`(B, 3, 3)`: rotations of colour about the grey axis by `(B,)` radians."""
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    one, eye = torch.ones(3, 3) / 3, torch.eye(3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    return c * eye + s * cross + (1 - c) * one


def vary(rgba: torch.Tensor, turned: float = 0.5, flipped: float | torch.Tensor = 0.5) -> torch.Tensor:
    """`(B, 3, 64, 64)` in [-1, 1] on white, out of `(B, 4, 64, 64)` in [0, 1]: turned in hue, flipped, moved, resized."""
    rows = len(rgba)
    turn = hue_turn(torch.rand(rows) * 2 * torch.pi * (torch.rand(rows) < turned))
    colour = torch.einsum("bij,bjhw->bihw", turn, rgba[:, :3]).clamp(0, 1)
    white = (colour - 1) * rgba[:, 3:]  # 0 is white
    scale = 1 + 0.15 * (torch.rand(rows) * 2 - 0.7)
    theta = torch.zeros(rows, 2, 3)
    theta[:, 0, 0] = scale * (1 - 2 * (torch.rand(rows) < flipped).float())
    theta[:, 1, 1] = scale
    theta[:, :, 2] = torch.rand(rows, 2) * 0.16 - 0.08
    grid = F.affine_grid(theta, [rows, 3, 64, 64], align_corners=False)
    return F.grid_sample(white, grid, mode="bilinear", align_corners=False) * 2 + 1


def picture_loss(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error, the error of the slopes, and the error at half and quarter size."""
    error = out - x
    loss = error.abs().mean() + error.square().mean()
    loss = loss + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    for size in (2, 4):
        loss = loss + 0.5 * F.avg_pool2d(error, size).abs().mean()
    return loss


def vae_loss(net: Any, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    mean, log_variance = net.quant_conv(net.encoder(x)).chunk(2, dim=1)
    log_variance = log_variance.clamp(-30, 20)
    z = mean + (log_variance / 2).exp() * noise
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return picture_loss(net.decoder(net.post_quant_conv(z)), x) + 1e-4 * kl


def load_pictures(work: Path) -> tuple[list[Emoji], torch.Tensor]:
    return read_entries(work), torch.from_numpy(np.load(work / "pictures.npy")).permute(0, 3, 1, 2)


def psnr(out: torch.Tensor, x: torch.Tensor) -> float:
    """Mean over rows of the peak signal-to-noise ratio, in dB, of pictures in [-1, 1]."""
    error = (out.clamp(-1, 1) - x).square().flatten(1).mean(1) / 4
    return float((-10 * error.clamp(min=1e-10).log10()).mean())


@app.command()
def prepare(work: Path = HERE / "work") -> None:
    """Fetches the pictures with npm; `(pictures, 64, 64, 4)` bytes in `pictures.npy`."""
    fetch(work)
    pictures = np.stack([read_picture(work, entry) for entry in read_entries(work)])
    np.save(work / "pictures.npy", pictures)
    print(f"{len(pictures)} pictures")


@app.command()
def vae(work: Path = HERE / "work", minutes: float = 16.0, batch: int = 10, lr: float = 1.5e-3) -> None:
    """Trains the autoencoder; a checkpoint every minute in `vae.pt`."""
    entries, pictures = load_pictures(work)
    kept = torch.tensor([held_out(e) for e in entries])
    weight = torch.tensor([0.15 if e.variant or "flag" in e.subcategory else 1.0 for e in entries]) * ~kept
    test = pictures[kept & torch.tensor([not e.variant and "flag" not in e.subcategory for e in entries])] / 255
    test = (test[:, :3] - 1) * test[:, 3:] * 2 + 1
    torch.manual_seed(0)
    trainer, path = ImageTrainer(make_vae(), lr, ("block",)), work / "vae.pt"
    if path.exists():
        trainer.load(path)
        torch.manual_seed(trainer.step)
    for progress in trainer.run(minutes, path):
        rows = torch.multinomial(weight, batch, replacement=True)
        x = vary(pictures[rows] / 255)
        loss = vae_loss(trainer.net, x, torch.randn(batch, LATENTS, 8, 8))
        trainer.update(loss, progress)
        if trainer.step % 200 == 0:
            with torch.no_grad():
                z = trainer.average.encode(test).latent_dist.mode()
                print(
                    trainer.step,
                    "held-out dB",
                    psnr(trainer.average.decode(z).sample, test),
                    "std",
                    z.std().item(),
                    "mean",
                    z.mean((0, 2, 3)).abs().max().item(),
                    flush=True,
                )


def make_tokenizer(texts: list[str], folder: Path) -> None:
    """Learns 2,048 pieces by byte-pair encoding, in the order of CLIP's vocabulary, and writes CLIP's four files."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = pre_tokenizers.Whitespace()
    learned.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=2046, show_progress=False, end_of_word_suffix="</w>", min_frequency=2),
    )
    merges = [tuple(pair) for pair in json.loads(learned.to_str())["model"]["merges"]][: 2046 - 2 * len(letters)]
    pieces = [*letters, *(c + "</w>" for c in letters), *(a + b for a, b in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    assert len(pieces) == len(set(pieces)) == 2048
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        bos_token="<|startoftext|>",
        model_max_length=LENGTH,
        **special,
    ).save_pretrained(folder)


class TextToImage(nn.Module):
    """The text encoder and the UNet, trained as one."""

    def __init__(self) -> None:
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=2048,
                hidden_size=192,
                intermediate_size=768,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                projection_dim=192,
                bos_token_id=2046,
                eos_token_id=2047,
                pad_token_id=2047,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=LATENTS,
            out_channels=LATENTS,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(128, 160),
            layers_per_block=1,
            cross_attention_dim=192,
            attention_head_dim=4,
            norm_num_groups=16,
        )

    def forward(self, z: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.unet(z, t, self.text(ids).last_hidden_state).sample


def make_scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


@torch.no_grad()
def centre(vae: Any, middle: torch.Tensor) -> None:
    """Moves the latents of an autoencoder by `-middle`, `(LATENTS,)`, by its two 1 x 1 convolutions; pictures stay."""
    vae.quant_conv.bias[: len(middle)] -= middle
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ middle


@app.command()
def latents(work: Path = HERE / "work", plain: int = 6, coloured: int = 1, batch: int = 64) -> None:
    """Caches latents of varied pictures in `latents.pt`, with what the captions need, and learns the tokens.

    A picture is there `plain` times as it is and `coloured` times in every colour whose pair is not held out.
    """
    entries, pictures = load_pictures(work)
    vae = make_vae()
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True)["average"])
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    kept = [i for i, e in enumerate(entries) if not e.variant and not held_out(e)]
    rows = [
        (i, main_colour(p[..., :3], p[..., 3]), False, p)
        for i in kept
        for p in [pictures[i].numpy()]
        for _ in range(plain if entries[i].category != "Flags" else 2)
    ]
    for i in kept:
        if recoloured(entries[i]):
            for colour in COLOURS:
                if not held_out_pair(colour, thing(entries[i])):
                    rows += [(i, colour, True, recolour(pictures[i].numpy(), colour))] * coloured
    out = []
    with torch.no_grad():
        for k in range(0, len(rows), batch):
            part = rows[k : k + batch]
            rgba = torch.from_numpy(np.stack([row[3] for row in part]))
            fixed = torch.tensor(
                [
                    entries[row[0]].category in ("Symbols", "Flags") or "arrow" in entries[row[0]].names[0]
                    for row in part
                ]
            )
            x = vary(rgba / 255, turned=0.0, flipped=0.5 * ~fixed)
            out.append(vae.encode(x).latent_dist.mode())
            if k % 6400 == 0:
                print(k, len(rows), flush=True)
    z = torch.cat(out)
    middle = z.mean((0, 2, 3))
    z, scale = z - middle[:, None, None], float(1 / (z - middle[:, None, None]).std())
    print(
        f"{len(z)} latents, mean {z.mean(dim=(0, 2, 3)).tolist()}, std {z.std(dim=(0, 2, 3)).tolist()}, scale {scale}"
    )
    torch.save(
        {
            "latents": (z * scale).half(),
            "entry": torch.tensor([row[0] for row in rows]),
            "colour": torch.tensor([NAMES.index(row[1]) for row in rows]),
            "new": torch.tensor([row[2] for row in rows]),
            "scale": scale,
            "middle": middle,
        },
        work / "latents.pt",
    )
    texts = [caption(entries[i], NAMES[c], False, rng) for i in kept for c in rng.integers(len(NAMES), size=20)]
    make_tokenizer(texts + list(NAMES) * 30, work / "tokenizer")


def weights_of_rows(entries: list[Emoji], entry: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Sampling weights: a subcategory of n pictures counts sqrt(n), a picture 60 % as it is, people and flags less."""
    sizes: dict[str, int] = {}
    for i in entry.unique().tolist():
        sizes[entries[i].subcategory] = sizes.get(entries[i].subcategory, 0) + 1
    counts: dict[tuple[int, bool], int] = {}
    keys = list(zip(entry.tolist(), new.tolist(), strict=True))
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    weight = []
    for i, coloured in keys:
        of_picture = 1.0 if not recoloured(entries[i]) else 0.4 if coloured else 0.6
        rare = {"Flags": 0.1, "People & Body": 0.5, "Component": 0.3}.get(entries[i].category, 1.0)
        rare *= 0.3 if entries[i].subcategory in ("keycap", "alphanum") else 1.0
        weight.append(rare * of_picture / counts[i, coloured] / sizes[entries[i].subcategory] ** 0.5)
    return torch.tensor(weight, dtype=torch.float64)


@app.command()
def train(work: Path = HERE / "work", minutes: float = 75.0, batch: int = 64, lr: float = 1.5e-3) -> None:
    """Trains text encoder and UNet for so many minutes in all; a checkpoint every minute in `images.pt`.

    The loss is the squared error of v, weighed by `min(1, 5 / (snr + 1))`: min-SNR with the +1 of v, so that the
    last time, where the ratio is zero, is learned too.

    References:
        | Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023)
        | https://arxiv.org/abs/2303.09556
        | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023)
        | https://arxiv.org/abs/2305.08891
    """
    from transformers import CLIPTokenizer

    entries, data = read_entries(work), torch.load(work / "latents.pt", weights_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    alphas = make_scheduler().alphas_cumprod
    weight = weights_of_rows(entries, data["entry"], data["new"])
    torch.manual_seed(0)
    trainer, path = ImageTrainer(TextToImage().to(memory_format=torch.channels_last), lr, ("block", "layers")), work / "images.pt"
    if path.exists():
        trainer.load(path)
        torch.manual_seed(trainer.step)
    rng = np.random.default_rng(trainer.step)
    for progress in trainer.run(minutes, path):
        rows = torch.multinomial(weight, batch, replacement=True)
        texts = [
            "" if rng.random() < 0.1 else caption(entries[i], NAMES[c], bool(new), rng)
            for i, c, new in zip(*(data[key][rows].tolist() for key in ("entry", "colour", "new")), strict=True)
        ]
        ids = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
        t = ((torch.randperm(batch) + torch.rand(batch)) / batch * 1000).long().clamp(max=999)
        alpha = alphas[t].view(-1, 1, 1, 1)
        z, noise = data["latents"][rows].float(), torch.randn(batch, LATENTS, 8, 8)
        noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
        v = trainer.net(noisy.contiguous(memory_format=torch.channels_last), t, ids)
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * z
        # snr + 1 = 1 / (1 - alpha)
        loss = ((v - target).square().mean((1, 2, 3)) * (5 * (1 - alpha.flatten())).clamp(max=1)).mean()
        trainer.update(loss, progress)


def trained_vae(work: Path) -> Any:
    """The autoencoder with centred latents and its scaling factor, its decoder trained longer where there is one."""
    data, vae = torch.load(work / "latents.pt", weights_only=True), make_vae()
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True)["average"])
    centre(vae, data["middle"])
    if (work / "decoder.pt").exists():
        vae.decoder.load_state_dict(torch.load(work / "decoder.pt", weights_only=True)["average"])
    vae.register_to_config(scaling_factor=round(data["scale"], 6))
    return vae


def make_tiny() -> Any:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(8, 16, 24, 32),
        decoder_block_out_channels=(24, 24, 24, 24),
        latent_channels=LATENTS,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(3, 3, 2, 1),
        scaling_factor=1.0,
    )


def decoder_rows(work: Path, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless pairs of scaled latents `(batch, LATENTS, 8, 8)`, a little noisy, and their pictures."""
    entries, pictures = load_pictures(work)
    vae = trained_vae(work)
    kept = torch.tensor([held_out(e) for e in entries])
    weight = torch.tensor([0.15 if e.variant or "flag" in e.subcategory else 1.0 for e in entries]) * ~kept
    while True:
        x = vary(pictures[torch.multinomial(weight, batch, replacement=True)] / 255)
        with torch.no_grad():
            z = vae.encode(x).latent_dist.mode() * vae.config.scaling_factor
        yield z + 0.05 * torch.rand(batch, 1, 1, 1) * torch.randn_like(z), x


@app.command()
def decoder(work: Path = HERE / "work", minutes: float = 8.0, batch: int = 10, lr: float = 8e-4) -> None:
    """Trains the decoder alone for longer, the latents as they are; a checkpoint every minute in `decoder.pt`."""
    vae, path = trained_vae(work), work / "decoder.pt"
    scale = vae.config.scaling_factor
    trainer, source = ImageTrainer(vae.decoder, lr, ("block",)), decoder_rows(work, batch)
    if path.exists():
        trainer.load(path)
    torch.manual_seed(1 + trainer.step)
    for progress in trainer.run(minutes, path):
        z, x = next(source)
        with torch.no_grad():
            z = vae.post_quant_conv(z / scale)
        trainer.update(picture_loss(trainer.net(z), x), progress)


@app.command()
def tiny(work: Path = HERE / "work", minutes: float = 5.0, batch: int = 10, lr: float = 2e-3) -> None:
    """Trains the small autoencoder on the same scaled latents, both ways; a checkpoint every minute in `tiny.pt`."""
    trainer, path = ImageTrainer(make_tiny(), lr, ("layers",)), work / "tiny.pt"
    source = decoder_rows(work, batch)
    if path.exists():
        trainer.load(path)
    torch.manual_seed(2 + trainer.step)
    for progress in trainer.run(minutes, path):
        z, x = next(source)
        loss = picture_loss(trainer.net.decode(z).sample, x)
        loss = loss + 0.1 * (trainer.net.encode(x).latents - z).square().mean()
        trainer.update(loss, progress)


def average(net: nn.Module, path: Path) -> nn.Module:
    """The network with the averaged weights of a checkpoint, where there is one."""
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True)["average"])
    return net.eval()


@app.command()
def export(work: Path = HERE / "work", out: Path = CHECKPOINT) -> None:
    """Writes the pipeline's folder and `vae_tiny`, in half precision, out of the last checkpoints."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

    net = average(TextToImage(), work / "images.pt")
    pipeline = StableDiffusionPipeline(
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
    config = out / "text_encoder" / "config.json"  # transformers would compute in the precision that it names
    config.write_text(config.read_text().replace('"float16"', '"float32"'))
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(work / "tokenizer" / name, out / "tokenizer" / name)
    average(make_tiny(), work / "tiny.pt").half().save_pretrained(out / "vae_tiny")
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{total / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
