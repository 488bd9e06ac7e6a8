r"""What the adapters of published masked models (MDLM's line) share: loading weights, and networks as denoisers.

The total noise at time `t` is :math:`\sigma(t) = -\log(1 - (1 - \epsilon) t)`, :math:`\epsilon = 10^{-3}`. Released
models were trained without time conditioning and are fed zero. SUBS, the parametrisation: the mask's logit is left
out and the others are normalised; the process keeps revealed tokens.

The published sampler goes from `t = 1` to `1e-5` in `K` equal steps, :class:`guided.core.masked.Masked` to 0. Both
reveal a masked token with probability `(t - s) / t` in the step from `t` to `s`, since :math:`1 - \epsilon` cancels, so
the distributions of the step at which a token is revealed are 1e-5 apart in total variation. The share of 1e-5 that the
published sampler leaves masked at its end, and then fills with the likeliest token, is drawn in the last step here.

References:
    | Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024)
    | https://arxiv.org/abs/2406.07524
"""

__all__ = ["check", "check_length", "fill", "subs", "total_noise"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from guided.checkpoints.weights import check_finite, check_shapes
from guided.core.denoiser import Denoiser
from guided.core.memory import check_memory
from guided.errors import check_number

EPS = 1e-3

#: Parameters of the time's embedding: they stay in float32, as do buffers.
TIMING = ("time_embedder", "time_layers", "sigma_map", "adaLN_modulation")


class Network(Protocol):
    """Maps tokens `(n, L)`, and the embedded total noise, to logits `(n, L, V + 1)`, the mask's the last."""

    def embed(self, sigma: Tensor) -> list[Tensor]: ...

    def __call__(self, x: Tensor, embedded: Sequence[Tensor]) -> Tensor: ...


def total_noise(t: Tensor) -> Tensor:
    """The total noise of the log-linear schedule at times `t`."""
    return -torch.log1p(-(1 - EPS) * t)


def subs(net: Network, dtype: torch.dtype, device: torch.device, timed: bool = False) -> Denoiser:
    """A network as a denoiser: `(n, L)` to log-probabilities of the clean tokens, with shape `(n, L, V)`.

    Args:
        net: The network, on its device.
        dtype: The precision of its output's computation; the time's embedding is made in float32.
        device: The device.
        timed: Whether it was trained with time conditioning.
    """

    def embed(sigma: Tensor) -> list[Tensor]:
        return [part.to(dtype) for part in net.embed(sigma)]

    with torch.no_grad():  # made once, not trained
        constant = None if timed else embed(torch.zeros(1, device=device))

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        embedded = embed(total_noise(t)) if constant is None else constant
        return net(x, embedded)[..., :-1].float().log_softmax(-1)

    return denoiser


def check_length(length: Any, width: int, tokens: int, device: torch.device) -> int:
    """The number of tokens of a row, if one row of a network of that width fits in memory.

    Raises:
        GuidedError: It is not a whole number, below 1, or too large.
    """
    number = check_number("length", length, int, least=1)
    check_memory("length", number, 4 * number * (2 * width + tokens), device)  # features before and after a layer
    return number


def check(net: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Compares weights with a network.

    Raises:
        GuidedError: A key or a shape differs; the message names the first, in the network's order.
    """
    wanted = net.state_dict()
    found = {key: tuple(weight.shape) for key, weight in weights.items()}
    check_shapes(wanted, found, path, (*wanted, *(key for key in weights if key not in wanted)))


def fill(net: nn.Module, weights: Mapping[str, Tensor], path: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Puts weights into a network and makes it ready for inference.

    Raises:
        GuidedError: They do not fit.
    """
    check(net, weights, path)
    check_finite(weights, path)
    net.load_state_dict(weights)
    net.eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        if not any(part in name for part in TIMING):
            parameter.data = parameter.data.to(dtype)
    net.to(device)
