"""Parts of `gpu.py`: networks alone against the card's peak, whether rows depend on their neighbours, and rewards."""

__all__ = ["invariance", "networks", "rewards", "stable_diffusion"]

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from gpu_common import Setting, milliseconds, rows_line
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import guided
from guided.core.diffusion import Diffusion

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def operations(call: Callable[[], Any]) -> float:
    """The floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return float(counter.get_total_flops())


def asked(model: Diffusion, n: int) -> Callable[[], Tensor]:
    """A call of a model's network with `n` rows, through its micro-batches."""
    x = torch.randint(0, model.process.output[-1] + 1, (n, *model.process.event), device=model.device)
    given = (
        model.prompting.conditions([model.prompting.unconditional] * n)
        if model.prompting.unconditional is not None
        else {}
    )
    t = torch.full((n,), 0.5, device=model.device)

    def part(rows: Any) -> Tensor:
        return model.denoiser(x[rows], t[rows], **{name: c[rows] for name, c in given.items()})

    def call() -> Tensor:
        with torch.no_grad():
            return model.evaluator(part, n)

    return call


def networks(setting: Setting) -> Iterator[tuple[str, str]]:
    """The shipped networks: eager, compiled, and as CUDA graphs, in single and in half precision."""
    n = 32 if setting.small else 640
    names = ("dna",) if setting.small else ("dna", "molecules", "rna")
    ways = [("float32", None), ("bfloat16", None)]
    if setting.device.type == "cuda":
        ways += [("bfloat16", "graph"), ("bfloat16", "default"), ("float32", "graph")]
    for dtype, how in ways:
        for name in names:
            model = guided.load(name, device=str(setting.device), dtype=dtype, compile=how)
            flops = operations(asked(guided.load(name, device=str(setting.device), dtype=dtype), n))
            ms = milliseconds(asked(model, n), setting)
            yield f"{name}, {n} rows, {dtype}, {how or 'eager'}", rows_line(ms, n, flops, setting, DTYPES[dtype])


def invariance(setting: Setting) -> Iterator[tuple[str, str]]:
    """How many rows of 28 change a bit when they are evaluated alone."""
    for how in (None,) if setting.device.type != "cuda" else (None, "graph"):
        model = guided.load("dna", device=str(setting.device), compile=how)
        x = torch.randint(0, 5, (28, 200), device=setting.device)
        label, t = torch.full((28,), 3, device=setting.device), torch.zeros(28, device=setting.device)

        def rows(
            start: int, stop: int, model: Any = model, x: Tensor = x, label: Tensor = label, t: Tensor = t
        ) -> Tensor:
            def part(some: Any) -> Tensor:
                return model.denoiser(x[start:stop][some], t[start:stop][some], label=label[start:stop][some])

            with torch.no_grad():
                return model.evaluator(part, stop - start).clone()

        together = rows(0, 28)
        alone = torch.cat([rows(i, i + 1) for i in range(28)])
        changed = int((alone != together).flatten(1).any(1).sum())
        yield f"dna, {how or 'eager'}: rows of 28 that change when alone", str(changed)


def stable_diffusion(setting: Setting) -> Iterator[tuple[str, str]]:
    """The parts of Stable Diffusion 1.5 and XL with random weights, in half precision."""
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

    k = 1 if setting.small else 16
    dtype = torch.float16 if setting.device.type == "cuda" else torch.float32
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    wide = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, **blocks}
    tiny = {"block_out_channels": (32, 64), "cross_attention_dim": 768, "norm_num_groups": 8, "sample_size": 8}
    short = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    unet = {**tiny, **short} if setting.small else {"sample_size": 64, "cross_attention_dim": 768}
    parts: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
        ("SD 1.5, U-Net with guidance", lambda: UNet2DConditionModel(attention_head_dim=8, **unet), (2 * k, 4, 64, 64)),
        ("TAESD", AutoencoderTiny, (k, 4, 64, 64)),
    ]
    if not setting.small:
        parts += [
            ("SD 1.5, decoder", lambda: AutoencoderKL(**wide), (k, 4, 64, 64)),
            ("SDXL, U-Net with guidance", _xl, (8, 4, 128, 128)),
            ("SDXL, decoder", lambda: AutoencoderKL(**wide), (4, 4, 128, 128)),
        ]
    for name, make, shape in parts:
        with torch.device(setting.device):
            net = make().eval().requires_grad_(False).to(dtype=dtype, memory_format=torch.channels_last)
        x = torch.randn(shape, device=setting.device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        call = _call_of(name, net, x)
        flops = operations(call)
        yield (
            f"{name}, {shape[0]} rows, {dtype}",
            rows_line(milliseconds(call, setting, 5), len(x), flops, setting, dtype),
        )
        del net, call


def _xl() -> nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
    )


def _call_of(name: str, net: Any, x: Tensor) -> Callable[[], Any]:
    """A call of a U-Net with a text of 77 tokens, or of a decoder."""
    text = torch.zeros(len(x), 77, 2048 if "SDXL" in name else 768, device=x.device, dtype=x.dtype)
    t = torch.full((len(x),), 500, device=x.device)

    def call() -> Any:
        with torch.no_grad():
            return net(x, t, text) if "U-Net" in name else net.decode(x)

    return call


def rewards(setting: Setting) -> Iterator[tuple[str, str]]:
    """Rewards on the device, and JPEG on the host by the number of threads."""
    n = 32 if setting.small else 640
    codes = torch.randint(0, 4, (n, 200), device=setting.device)
    for name in ("activity", "gc", "homopolymer"):
        function = guided.scoring.registry.rewards()[name].function
        given = {"target": "HepG2"} if name == "activity" else {}
        ms = milliseconds(lambda f=function, g=given: f(codes, **g), setting)  # type: ignore[misc]
        yield f"{name} of {n} sequences", f"{ms:.2f} ms"
    size, k = (64, 4) if setting.small else (512, 80)
    pixels = torch.randint(0, 256, (k, 3, size, size), device=setting.device, dtype=torch.uint8)
    for name in ("brightness", "colourfulness", "symmetry"):
        function = guided.scoring.registry.rewards()[name].function
        yield f"{name} of {k} images", f"{milliseconds(lambda f=function: f(pixels), setting):.2f} ms"  # type: ignore[misc]
    pictures = [np.ascontiguousarray(image) for image in pixels.permute(0, 2, 3, 1).cpu().numpy()]
    for threads in (1, 4, 16):
        with ThreadPoolExecutor(threads) as pool:
            ms = milliseconds(lambda pool=pool: list(pool.map(_jpeg, pictures)), setting, 5)  # type: ignore[misc]
        yield f"JPEG of {k} images, {threads} threads", f"{ms:.1f} ms"


def _jpeg(image: Any) -> int:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.tell()
