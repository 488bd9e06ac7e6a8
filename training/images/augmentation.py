"""Images as tensors: random changes for training, and two reconstruction errors."""

__all__ = ["image_loss", "psnr", "vary"]

import torch
from torch.nn import functional as F


def hue_turn(angle: torch.Tensor) -> torch.Tensor:
    """`(B, 3, 3)`: rotations of colour about the grey axis by `(B,)` radians."""
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    one, eye = angle.new_ones(3, 3) / 3, torch.eye(3, device=angle.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) / 3**0.5
    return c * eye + s * cross + (1 - c) * one


def vary(
    rgba: torch.Tensor, turned: float = 0.5, flipped: float | torch.Tensor = 0.5, moved: float = 1.0
) -> torch.Tensor:
    """Randomly changed images on white, `(B, 3, 64, 64)` in [-1, 1], from `(B, 4, 64, 64)` in [0, 1].

    Random numbers are drawn on the device of the images.

    Args:
        rgba: Red, green, blue and opacity.
        turned: The share of images whose hue is rotated by a random angle.
        flipped: The share of images that are mirrored, or the probability for each image, `(B,)`.
        moved: How far images are shifted (1 is 2.5 pixels) and resized (1 is -16 to 12 %).
    """
    rows, device = len(rgba), rgba.device
    turn = hue_turn(torch.rand(rows, device=device) * 2 * torch.pi * (torch.rand(rows, device=device) < turned))
    colour = torch.einsum("bij,bjhw->bihw", turn, rgba[:, :3]).clamp(0, 1)
    white = (colour - 1) * rgba[:, 3:]  # 0 is white, as outside of the image
    scale = 1 + moved * 0.15 * (torch.rand(rows, device=device) * 2 - 0.7)
    theta = torch.zeros(rows, 2, 3, device=device)
    theta[:, 0, 0] = scale * (1 - 2 * (torch.rand(rows, device=device) < flipped).float())
    theta[:, 1, 1] = scale
    theta[:, :, 2] = moved * (torch.rand(rows, 2, device=device) * 0.16 - 0.08)
    grid = F.affine_grid(theta, [rows, 3, 64, 64], align_corners=False)
    return F.grid_sample(white, grid, mode="bilinear", align_corners=False) * 2 + 1


def image_loss(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The sum of absolute and squared error, the error of the gradients, and the errors at half and quarter size."""
    error = out - x
    loss = error.abs().mean() + error.square().mean()
    loss = loss + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    for size in (2, 4):
        loss = loss + 0.5 * F.avg_pool2d(error, size).abs().mean()
    return loss


def psnr(out: torch.Tensor, x: torch.Tensor) -> float:
    """Mean over rows of the peak signal-to-noise ratio, in dB, of images in [-1, 1]."""
    error = (out.clamp(-1, 1) - x).square().flatten(1).mean(1) / 4
    return float((-10 * error.clamp(min=1e-10).log10()).mean())
