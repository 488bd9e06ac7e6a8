"""The optimizers of the shipped models: Muon for the matrices inside, AdamW for all else."""

__all__ = ["Muon", "image_optimizers", "orthogonal", "token_optimizers"]

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import nn


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal, for weights of any rank >= 2, in float32.

    Torch's own Muon takes only matrices, one at a time, and computes in bfloat16, which is slow on processors that lack
    it. Here, weights of one shape are moved together. The update is scaled to the size of AdamW's, so that learning
    rates carry over.

    References:
        | Muon is Scalable for LLM Training (Liu et al., 2025)
        | https://arxiv.org/abs/2502.16982
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves the weights."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for weights in alike.values():
                self._move(weights, group["lr"], group["momentum"], group["decay"])

    def _move(self, weights: list[nn.Parameter], lr: float, momentum: float, decay: float) -> None:
        """Moves weights of one shape."""
        for p in weights:
            if "mean" not in self.state[p]:
                self.state[p]["mean"] = torch.zeros_like(p)
        moved: list[torch.Tensor] = [*weights]
        grads = [p.grad for p in weights if p.grad is not None]
        means: list[torch.Tensor] = [self.state[p]["mean"] for p in weights]
        torch._foreach_lerp_(means, grads, 1 - momentum)
        ahead = torch._foreach_lerp(grads, means, momentum)
        updates = orthogonal(torch.stack([part.flatten(1) for part in ahead]))
        size = -lr * 0.2 * max(updates.shape[1:]) ** 0.5
        torch._foreach_mul_(moved, 1 - lr * decay)
        torch._foreach_add_(moved, [part.view_as(p) for part, p in zip(updates, weights, strict=True)], alpha=size)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Five Newton-Schulz iterations towards `U V^T` of the singular value decomposition of `(..., n, m)`.

    Every iterate is a polynomial of the Gram matrix times the first one, so that all runs in the smaller dimension.
    """
    x = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram, eye = x @ x.mT, torch.eye(x.shape[-2], device=x.device)
    total = eye
    for _ in range(5):
        factor = 3.4445 * eye - 4.775 * gram + 2.0315 * gram @ gram
        total, gram = factor @ total, factor @ gram @ factor
    x = total @ x
    return x.mT if matrix.shape[-2] > matrix.shape[-1] else x


def token_optimizers(net: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the network's `blocks`, AdamW for all other weights.

    On a CPU it is torch's Muon, whose bfloat16 is the faster one there; on a GPU ours, which launches fewer kernels.
    """
    matrices, rest = _parted(net, lambda name, p: p.ndim == 2 and name.startswith("blocks."))
    adam = _adam(rest, lr)
    if not matrices:
        return [adam]
    if matrices[0].is_cuda:
        return [Muon(matrices, lr), adam]
    return [torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), adam]


def image_optimizers(net: nn.Module, lr: float, inner: tuple[str, ...]) -> list[torch.optim.Optimizer]:
    """Muon for weights of rank two and more with one of these words in their names, AdamW for all others."""
    matrices, rest = _parted(net, lambda name, p: p.ndim >= 2 and any(word in name for word in inner))
    return [Muon(matrices, lr), _adam(rest, lr)]


def _parted(
    net: nn.Module, chosen: Callable[[str, nn.Parameter], bool]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The selected weights, and the rest."""
    parts: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, p in net.named_parameters():
        parts[not chosen(name, p)].append(p)
    return parts


def _adam(weights: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    fused = bool(weights) and weights[0].is_cuda
    return torch.optim.AdamW(weights, lr=lr, weight_decay=0.0, betas=(0.9, 0.99), fused=fused or None)
