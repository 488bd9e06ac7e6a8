"""Muon for weights of any rank, in single precision, and the trainer that uses it."""

__all__ = ["ImageTrainer", "Muon", "orthogonal"]

import torch
from torch import distributed, nn

from training.trainer import Trainer


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
                if "mean" not in self.state[p]:
                    self.state[p]["mean"] = torch.zeros_like(p)
                mean = self.state[p]["mean"]
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
    """The shared trainer with Muon for every inner weight of rank two and more."""

    def __init__(self, net: nn.Module, lr: float, inner: tuple[str, ...]) -> None:
        super().__init__(net, lr)
        named = list(net.named_parameters())
        matrices = [p for n, p in named if p.ndim >= 2 and any(part in n for part in inner)]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in chosen]
        adam = torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.99))
        self.optimizers = [Muon(matrices, lr), adam]

    def share_gradients(self) -> None:
        """Averages the gradients over processes, where there are several."""
        if not distributed.is_initialized():
            return
        grads = [p.grad for p in self.net.parameters() if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        for grad, mean in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(mean.view(grad.shape))
