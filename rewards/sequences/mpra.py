"""Published networks of reporter assays, from the weight files of their authors.

`dragonn` is MPRA-DragoNN, the convolutional one, 145 bp to their activity in 12 assays: Kipoi's MPRA-DragoNN/ConvModel,
`pretrained.hdf5` of github.com/kundajelab/mpra_minimal. `mrl` is Optimus 5-Prime, the one for design, a 5'UTR of 50 nt
to its mean ribosome load: `retrained_evolution_model.hdf5` of github.com/pjsample/human_5utr_modeling.

Both are unpadded convolutions and dense layers, and a dense layer on the flattened output of a convolution is itself a
convolution, with a kernel as wide as that output. So all windows of a longer sequence are read in one pass.

References:
    | Deciphering regulatory DNA sequences and noncoding genetic variants using neural network models of massively
      parallel reporter assays
    | (Movva, Greenside, Marinov, Nair, Shrikumar and Kundaje, PLoS ONE 14, e0218073, 2019)

    | Genome-scale high-resolution mapping of activating and repressive nucleotides in regulatory regions
    | (Ernst et al., Nature Biotechnology 34, 1180, 2016), the measurements behind it

    | Human 5' UTR design and variant effect prediction from a massively parallel translation assay
    | (Sample, Wang, Reid, Presnyak, McFadden, Morris and Seelig, Nature Biotechnology 37, 803, 2019)
"""

__all__ = ["TASKS", "dragonn", "mrl"]

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from guided.errors import GuidedError, nearest
from guided.rewards.sequences.composition import INVALID, Encoded, Given, Scores, encode, real, valid_codes
from guided.rewards.support.hub import version
from guided.rewards.support.keras_weights import read_weights
from guided.rewards.support.settings import Precision, device_of, in_precision, own_settings
from guided.scoring.registry import register_reward

ROWS = 256  # sequences in one pass; the widest layer takes 94 kB for one of 200 bp
ROWS_ELSEWHERE = 4096  # on other devices than a CPU

WINDOW = 145
TASKS = tuple(map("_".join, product(("k562", "hepg2"), ("minp", "sv40p"), ("rep1", "rep2", "pooled"))))
_NORM = ("gamma", "beta", "moving mean", "moving variance")
DRAGONN = {
    **{
        f"{array} {i}": shape
        for i, width in enumerate((4, 120, 120), start=1)
        for array, shape in {"kernel": (5, width, 120), **dict.fromkeys(("bias", *_NORM), (120,))}.items()
    },
    "dense kernel": (133 * 120, 12),
    "dense bias": (12,),
}

UTR = 50
START = np.array([0, 3, 2, 2], dtype=np.uint8)  # ATGG, with which the reporter's coding sequence begins
OPTIMUS = {
    "kernel 1": (8, 4, 40),
    "bias 1": (40,),
    "kernel 2": (8, 40, 40),
    "bias 2": (40,),
    "dense kernel 1": (40 * 40, 40),
    "dense bias 1": (40,),
    "dense kernel 2": (40, 1),
    "dense bias 2": (1,),
}


def _check_dragonn(
    weights: str, task: str = "hepg2_minp_pooled", stride: int = 1, pool: str = "mean", **others: Any
) -> None:
    if stride < 1:
        raise GuidedError(f"stride is a number of bp, at least 1, given {stride}")
    if pool not in ("mean", "max"):
        raise GuidedError(f"pool is 'mean' or 'max', given {pool!r}")
    _dragonn(weights, task)


@register_reward("dragonn", modality="dna", takes="tokens", check=_check_dragonn, workers="none")
def dragonn(
    samples: Given,
    weights: str,
    task: str = "hepg2_minp_pooled",
    stride: int = 1,
    pool: str = "mean",
    precision: Precision = "float32",
) -> Scores | Tensor:
    """Reporter activity by MPRA-DragoNN, standardised log2(RNA / DNA): 0 is the assay's mean; -inf if invalid.

    The given strand is read in windows of 145 bp: those that start at 0, stride, 2 stride, … and the last one.

    Args:
        samples: n sequences of at least 145 bp.
        weights: Path of the weight file.
        task: The assay: a cell ("k562", "hepg2"), a promoter ("minp", "sv40p") and a replicate ("rep1", "rep2",
            "pooled"), joined by "_".
        stride: From one window to the next, in bp.
        pool: What a longer sequence scores, the "mean" of its windows or their "max".
        precision: That of the network (:mod:`guided.rewards.support.settings`).

    Raises:
        ImportError: h5py is not installed.
        ValueError: A parameter is wrong, the file is not that of MPRA-DragoNN, or a sequence is shorter than a window.
    """
    network = _dragonn(weights, task)
    if isinstance(samples, Tensor):
        return _pooled_codes(network, samples, stride, pool, precision)
    batch = encode(samples)
    lengths = batch.lengths[batch.valid]
    if (lengths < WINDOW).any():
        raise _too_short(lengths.min())
    activity = _apply(network, batch.codes[batch.valid], precision)
    start, last = np.arange(activity.shape[1]), lengths[:, None] - WINDOW
    chosen = (start <= last) & ((start % stride == 0) | (start == last))
    if pool == "mean":
        pooled = np.where(chosen, activity, 0).sum(axis=1) / chosen.sum(axis=1)
    else:
        pooled = np.where(chosen, activity, -np.inf).max(axis=1, initial=-np.inf)
    return _spread(batch, pooled)


def _pooled_codes(network: nn.Module, codes: Tensor, stride: int, pool: str, precision: str) -> Tensor:
    """The score of each row of codes `(n, L)`, which are of one length, on their device."""
    valid, last = valid_codes(codes), codes.shape[1] - WINDOW
    if last < 0:
        if valid.any():
            raise _too_short(codes.shape[1])
        return torch.full((len(codes),), -torch.inf, dtype=real(codes.device), device=codes.device)
    activity = _forward(network, codes, precision).to(real(codes.device))
    chosen = activity[:, : last + 1 : stride]
    if last % stride:
        chosen = torch.cat([chosen, activity[:, last:]], dim=1)
    return torch.where(valid, chosen.mean(1) if pool == "mean" else chosen.amax(1), -torch.inf)


def _too_short(length: int) -> GuidedError:
    return GuidedError(f"MPRA-DragoNN reads windows of {WINDOW} bp, given a sequence of {length}")


def _check_mrl(weights: str, **others: Any) -> None:
    _optimus(weights)


@register_reward("mrl", modality="dna", takes="tokens", check=_check_mrl, workers="none")
def mrl(samples: Given, weights: str, precision: Precision = "float32") -> Scores | Tensor:
    """Mean ribosome load of a 5'UTR by Optimus 5-Prime, standardised: 0 is its library's mean; -inf if invalid.

    The network was trained on UTRs of 50 nt before ATGG. Of a longer one the last 50 nt are read; a shorter one is
    preceded by zeros, as the same authors' network for 25 to 100 nt was trained, but this one was not.

    Args:
        samples: n UTRs, without the start codon.
        weights: Path of the weight file.
        precision: That of the network (:mod:`guided.rewards.support.settings`).

    Raises:
        ImportError: h5py is not installed.
        ValueError: The file is not that of Optimus 5-Prime for design.
    """
    network = _optimus(weights)
    if isinstance(samples, Tensor):
        utr = F.pad(samples[:, -UTR:], (max(0, UTR - samples.shape[1]), 0), value=INVALID)
        utr = torch.cat([utr, _start(samples.device).expand(len(utr), -1)], dim=1)
        load = _forward(network, utr, precision)
        return torch.where(valid_codes(samples), load[:, 0].to(real(samples.device)), -torch.inf)
    batch = encode(samples)
    place = batch.lengths[:, None] - UTR + np.arange(UTR)
    last = np.where(place < 0, INVALID, np.take_along_axis(batch.codes, place.clip(0), axis=1))
    codes = np.hstack([last, np.broadcast_to(START, (len(last), len(START)))]).astype(np.uint8)
    return _spread(batch, _apply(network, codes[batch.valid], precision)[:, 0])


@lru_cache(maxsize=16)
def _start(device: torch.device) -> Tensor:
    return torch.from_numpy(START).to(device)


def _spread(batch: Encoded, scores: NDArray[Any]) -> Scores:
    """Scores of the valid samples -> scores of all n."""
    spread = np.full(len(batch.valid), -np.inf)
    spread[batch.valid] = scores
    return spread


def _apply(network: nn.Module, codes: NDArray[np.uint8], precision: str) -> NDArray[np.float32]:
    """The single output of a network for m sequences, at each place where it fits, with shape `(m, places)`."""
    if not len(codes):
        return np.zeros((0, 1), dtype=np.float32)
    return _forward(network, torch.from_numpy(codes).to(device_of(None)), precision).cpu().numpy()


@own_settings
@torch.no_grad()
def _forward(network: nn.Module, codes: Tensor, precision: str) -> Tensor:
    """The same of codes `(m, L)` on a device, where other numbers than 0 to 3 are no base."""
    network.to(codes.device)
    bases = torch.arange(4, device=codes.device)
    with in_precision(precision, codes.device):
        parts = [
            network((part[:, None] == bases[:, None]).float())[:, 0].float()
            for part in codes.split(ROWS if codes.device.type == "cpu" else ROWS_ELSEWHERE)
        ]
    return torch.cat(parts)


def _dragonn(weights: str, task: str) -> nn.Module:
    if task not in TASKS:
        raise GuidedError(f"unknown task {task!r}{nearest(task, TASKS)}; it is one of {', '.join(TASKS)}")
    return _load(_build_dragonn, TASKS.index(task), *version(weights))


def _optimus(weights: str) -> nn.Module:
    return _load(_build_optimus, 0, *version(weights))


@lru_cache(maxsize=8)
@own_settings
def _load(build: Callable[[str, int], nn.Module], output: int, path: str, *version: int) -> nn.Module:
    return build(path, output).eval().requires_grad_(False)


def _build_dragonn(path: str, output: int) -> nn.Module:
    """One hot `(n, 4, L)` -> the activity in one assay of each of the windows, `(n, 1, L - 144)`."""
    arrays = iter(read_weights(path, "MPRA-DragoNN", DRAGONN))
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [_convolution(next(arrays), next(arrays)), nn.ReLU(), _norm(*(next(arrays) for _ in _NORM))]
    kernel, bias = arrays
    return nn.Sequential(*layers, _convolution(kernel.reshape(133, 120, 12)[:, :, [output]], bias[[output]]))


def _build_optimus(path: str, output: int) -> nn.Module:
    """One hot `(n, 4, 54)` -> load `(n, 1, 1)`."""
    kernels = read_weights(path, "Optimus 5-Prime for design", OPTIMUS)
    shapes = ((8, 4, 40), (8, 40, 40), (40, 40, 40), (1, 40, 1))
    layers: list[nn.Module] = []
    for shape, kernel, bias in zip(shapes, kernels[::2], kernels[1::2], strict=True):
        layers += [_convolution(kernel.reshape(shape), bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _convolution(kernel: Tensor, bias: Tensor) -> nn.Conv1d:
    """Keras' kernel `(width, in, out)`, or a dense one on a flattened `(position, channel)` that is shaped so."""
    layer = nn.Conv1d(kernel.shape[1], kernel.shape[2], kernel.shape[0])
    layer.load_state_dict({"weight": kernel.permute(2, 1, 0), "bias": bias})
    return layer


def _norm(gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(len(gamma), eps=1e-3)
    layer.load_state_dict({"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}, strict=False)
    return layer
