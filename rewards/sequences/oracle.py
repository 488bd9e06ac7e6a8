"""The networks that tell the activity of DNA in a cell type, and how they are loaded.

Apart from the rewards, so that those can be listed before torch is there.
"""

__all__ = ["Folded", "Member", "Oracle", "Products", "load_oracle", "log_odds", "smooth_log_odds"]

import copy
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guided.checkpoints import FOLDER, read_object
from guided.checkpoints.schemas import OracleConfig, validated
from guided.checkpoints.weights import header, load_network
from guided.errors import GuidedError, nearest
from guided.rewards.sequences.cells import CELLS
from guided.rewards.support.settings import device_of, in_precision, own_settings

ROWS = 64  # sequences in one pass: their features stay in a processor's cache
ROWS_ELSEWHERE = 2048  # on other devices, where passes of 64 took most of the time of a step
FEWEST = 8
SHORTEST = 16  # nt; both poolings need one whole window

_CODE = np.full(256, 4, dtype=np.uint8)
_CODE[np.frombuffer(b"ACGTUacgtu", dtype=np.uint8)] = [0, 1, 2, 3, 3] * 2


class Member(nn.Module):
    """One network of an ensemble: three convolutions, the strongest and the mean response, a linear read-out."""

    def __init__(self, width: int = 64, outputs: int = len(CELLS), dropout: float = 0.0) -> None:
        super().__init__()
        self.motifs = nn.Conv1d(4, width, 15, padding=7)
        self.grammar = nn.Conv1d(width, width, 7, padding=3)
        self.context = nn.Conv1d(width, width, 5, padding=2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps one-hot sequences, with shape `(n, 4, L)`, to log-odds, with shape `(n, outputs)`."""
        h = F.max_pool1d(F.relu(self.norms[0](self.motifs(x))), 4)
        h = F.max_pool1d(F.relu(self.norms[1](self.grammar(self.dropout(h)))), 4)
        h = F.relu(self.norms[2](self.context(self.dropout(h))))
        pooled = torch.cat([h.amax(2), h.mean(2)], dim=1)
        return self.out(self.dropout(F.relu(self.hidden(self.dropout(pooled)))))


class Oracle(nn.Module):
    """The mean of its members over both strands."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(Member(width) for _ in range(members))

    def forward(self, x: Tensor) -> Tensor:
        """Maps one-hot sequences, with shape `(n, 4, L)`, to log-odds, with shape `(n, 4)`."""
        both = torch.cat([x, x.flip(1, 2)])  # A, C, G, T backwards are T, G, C, A
        logits = torch.stack([member(both) for member in self.members]).mean(0)
        return logits.view(2, len(x), -1).mean(0)


class Folded(nn.Module):
    """The same function as that of an oracle, faster: norms are folded into convolutions, members are their groups."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        members = [cast("Member", member) for member in oracle.members]
        self.motifs = _folded([m.motifs for m in members], [m.norms[0] for m in members], 1)
        self.grammar = _folded([m.grammar for m in members], [m.norms[1] for m in members], len(members))
        self.context = _folded([m.context for m in members], [m.norms[2] for m in members], len(members))
        self.heads = nn.ModuleList(nn.Sequential(m.hidden, nn.ReLU(), m.out) for m in members)

    def forward(self, x: Tensor) -> Tensor:
        """Maps one-hot sequences, with shape `(n, 4, L)`, to log-odds, with shape `(n, 4)`."""
        both = torch.cat([x, x.flip(1, 2)])[:, :, None].contiguous(memory_format=torch.channels_last)
        h = F.relu_(F.max_pool2d(self.motifs(both), (1, 4)))  # ReLU after the maximum is the same, and less
        h = F.relu_(F.max_pool2d(self.grammar(h), (1, 4)))
        h = F.relu_(self.context(h))[:, :, 0]
        parts = h.chunk(len(self.heads), dim=1)
        pooled = [torch.cat([part.amax(2), part.mean(2)], dim=1) for part in parts]
        logits = torch.stack([head(part) for head, part in zip(self.heads, pooled, strict=True)]).mean(0)
        return logits.view(2, len(x), -1).mean(0)


class Products(nn.Module):
    """The same function on a GPU: convolutions are matrix products, of all members at once.

    In single precision cuDNN takes Fourier transforms for one of them, which was 25 of 30 ms for 640 sequences on an
    H100.
    """

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        members = [cast("Member", member) for member in oracle.members]
        names = ("motifs", "grammar", "context")
        self.convolutions = nn.ModuleList(
            _Product([getattr(m, name) for m in members], [m.norms[i] for m in members]) for i, name in enumerate(names)
        )
        self.heads = nn.ModuleList(nn.Sequential(m.hidden, nn.ReLU(), m.out) for m in members)

    def forward(self, x: Tensor) -> Tensor:
        """Maps one-hot sequences, with shape `(n, 4, L)`, to log-odds, with shape `(n, 4)`."""
        motifs, grammar, context = self.convolutions
        h = torch.cat([x, x.flip(1, 2)]).mT[None]  # (members or 1, 2 n, L, channels)
        h = F.relu(_strongest(grammar(F.relu(_strongest(motifs(h))))))
        h = F.relu(context(h))
        pooled = torch.cat([h.amax(2), h.mean(2)], dim=-1)
        logits = torch.stack([head(part) for head, part in zip(self.heads, pooled, strict=True)]).mean(0)
        return logits.view(2, len(x), -1).mean(0)


class _Product(nn.Module):
    """A convolution of each member, with its norm, as a product of matrices."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layers: Sequence[nn.Conv1d], norms: Sequence[nn.Module]) -> None:
        super().__init__()
        weights, biases = _with_norms(layers, norms)
        self.register_buffer("weight", torch.stack([weight.flatten(1).T for weight in weights]).float())
        self.register_buffer("bias", torch.stack(biases)[:, None].float())
        self.width = layers[0].kernel_size[0]

    def forward(self, h: Tensor) -> Tensor:
        """Maps `(members or 1, n, L, channels)` to `(members, n, L, outputs)`."""
        windows = F.pad(h, (0, 0, self.width // 2, self.width // 2)).unfold(2, self.width, 1)  # (..., channels, width)
        flat = windows.reshape(len(h), -1, self.weight.shape[1]).expand(len(self.weight), -1, -1)
        return torch.baddbmm(self.bias, flat, self.weight).view(-1, *h.shape[1:3], self.weight.shape[2])


def _strongest(h: Tensor) -> Tensor:
    """The largest of each four positions of `(members, n, L, channels)`; a rest is left out."""
    whole = h[:, :, : h.shape[2] // 4 * 4]
    return whole.unflatten(2, (-1, 4)).amax(3)


def _with_norms(layers: Sequence[nn.Conv1d], norms: Sequence[nn.Module]) -> tuple[list[Tensor], list[Tensor]]:
    """The weights and biases of convolutions that their norms are a part of, in double precision."""
    weights, biases = [], []
    for layer, norm in zip(layers, cast("Sequence[nn.BatchNorm1d]", norms), strict=True):
        assert layer.bias is not None and norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weights.append(layer.weight.double() * factor[:, None, None])
        biases.append((layer.bias.double() - norm.running_mean.double()) * factor + norm.bias.double())
    return weights, biases


def _folded(layers: Sequence[nn.Conv1d], norms: Sequence[nn.Module], groups: int) -> nn.Conv2d:
    """Convolutions with their norms as one, whose output has the channels of all."""
    weights, biases = _with_norms(layers, norms)
    width = layers[0].kernel_size[0]
    channels = (layers[0].in_channels * groups, layers[0].out_channels * len(layers))
    made = nn.Conv2d(*channels, (1, width), padding=(0, width // 2), groups=groups)
    made.load_state_dict({"weight": torch.cat(weights)[:, :, None].float(), "bias": torch.cat(biases).float()})
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_oracle(name: str = "guide") -> Oracle:
    """An ensemble by name, "guide" or "judge", or by the path of its folder.

    Raises:
        ValueError: There is no such ensemble, or its weights do not fit its configuration.
    """
    shipped = FOLDER / "dna_oracle"
    folder = shipped / name if name in ("guide", "judge") else Path(name)
    weights = folder / "model.safetensors"
    if not weights.is_file() or not (folder / "config.json").is_file():
        known = [entry.name for entry in shipped.iterdir() if entry.is_dir()] if shipped.is_dir() else []
        hint = nearest(name, known)
        raise GuidedError(
            f"no oracle is called {name!r}{hint}: guide, judge, or a folder with config.json and model.safetensors"
        )
    return _load(folder, weights.stat().st_mtime_ns)


@lru_cache(maxsize=8)
@own_settings
def _load(folder: Path, changed: int) -> Oracle:
    file, weights = folder / "config.json", folder / "model.safetensors"
    config = validated(OracleConfig, read_object(file), file)
    tensors = len(header(weights))
    if config.members > tensors:  # before so many networks are sketched
        raise GuidedError(f"{file} has members {config.members}; {weights.name} has {tensors} tensors in all")
    oracle, _ = load_network(lambda: Oracle(config.members, config.width), weights)
    return oracle.eval().requires_grad_(False)


@lru_cache(maxsize=16)
@own_settings
def _network_on(oracle: Oracle, device: torch.device) -> nn.Module:
    """A copy on the device: folded on a CPU; in products of matrices elsewhere."""
    own = copy.deepcopy(oracle)  # the faster ones share its heads
    return (Folded if device.type == "cpu" else Products)(own).eval().requires_grad_(False).to(device)


@own_settings
@torch.no_grad()
def log_odds(sequences: Sequence[str] | Tensor, oracle: str = "guide", precision: str = "float32") -> Tensor:
    """Log-odds (nats) of each cell type, with shape `(n, 4)`; -inf for an invalid sequence.

    Args:
        sequences: Of 16 nt or more. Text on the CPU, which may have different lengths, N is no base; or codes of bases,
            with shape `(n, L)`, as a model gives them to rewards, whose scores stay on their device.
        oracle: As in `load_oracle`.
        precision: That of the network (:mod:`guided.rewards.support.settings`).
    """
    network = _network_on(load_oracle(oracle), device_of(sequences))
    if isinstance(sequences, Tensor):
        return _of_codes(network, sequences, precision)
    scores = torch.full((len(sequences), len(CELLS)), -torch.inf)
    lengths: dict[int, list[int]] = {}
    for i, sequence in enumerate(sequences):
        lengths.setdefault(len(sequence) if isinstance(sequence, str) and sequence.isascii() else 0, []).append(i)
    for length, rows in lengths.items():
        if length >= SHORTEST:
            text = "".join(sequences[i] for i in rows).encode()
            codes = torch.from_numpy(_CODE[np.frombuffer(text, dtype=np.uint8).reshape(len(rows), length)])
            scores[rows] = _of_codes(network, codes.to(device_of(sequences)), precision).cpu()
    return scores


@own_settings
def smooth_log_odds(p: Tensor, oracle: str = "guide") -> Tensor:
    """Log-odds (nats) of each cell type, with shape `(n, 4)`, with gradients, in single precision.

    Args:
        p: Probabilities of A, C, G and T, with shape `(n, L, 4)`, of 16 nt or more.
        oracle: As in `load_oracle`.
    """
    if p.shape[1] < SHORTEST:
        return p.new_full((len(p), len(CELLS)), -torch.inf)
    return cast("Tensor", _network_on(load_oracle(oracle), p.device)(p.float().mT))


def _of_codes(network: nn.Module, codes: Tensor, precision: str) -> Tensor:
    """The log-odds of codes `(n, L)`, in parts of one size or smaller."""
    n, length = codes.shape
    if not n or length < SHORTEST:
        return torch.full((n, len(CELLS)), -torch.inf, device=codes.device)
    codes = codes.long().masked_fill((codes < 0) | (codes >= 4), 4)
    valid = codes.amax(1) < 4
    one_hot = torch.eye(5, 4, device=codes.device)  # of no base it is 0
    if n < FEWEST:  # a few rows would be added up in other ways
        codes = torch.cat([codes, codes[-1:].expand(FEWEST - n, -1)])
    with in_precision(precision, codes.device):
        parts = [network(F.embedding(part, one_hot).mT).float() for part in _split(codes)]
    return torch.where(valid[:, None], torch.cat(parts)[:n], -torch.inf)


def _split(codes: Tensor) -> Sequence[Tensor]:
    """Parts of `ROWS`, none of them of fewer than `FEWEST`."""
    most = ROWS if codes.device.type == "cpu" else ROWS_ELSEWHERE
    rest = len(codes) % most
    if not 0 < rest < FEWEST or len(codes) < most:
        return codes.split(most)
    return [*codes[: -rest - FEWEST].split(most), codes[-rest - FEWEST :]]
