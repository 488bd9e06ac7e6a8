"""The networks that tell the activity of DNA in a cell type, and how they are loaded.

Apart from the rewards, so that those can be listed before torch is there.
"""

__all__ = ["Member", "Oracle", "load_oracle", "log_odds"]

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guided.checkpoints import FOLDER, read_object
from guided.checkpoints.schemas import OracleConfig, validated
from guided.checkpoints.weights import header, load_network
from guided.errors import GuidedError, nearest
from guided.rewards.sequences.cells import CELLS
from guided.rewards.support.settings import own_settings

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


@own_settings
@torch.no_grad()
def log_odds(sequences: Sequence[str], oracle: str = "guide") -> Tensor:
    """Log-odds (nats) of each cell type, with shape `(n, 4)`; -inf for an invalid sequence.

    Sequences may have different lengths, from 16 nt on; N is no base.
    """
    network, device = load_oracle(oracle), _device()
    scores = torch.full((len(sequences), len(CELLS)), -torch.inf)
    lengths: dict[int, list[int]] = {}
    for i, sequence in enumerate(sequences):
        lengths.setdefault(len(sequence) if isinstance(sequence, str) and sequence.isascii() else 0, []).append(i)
    for length, rows in lengths.items():
        if length < 16:
            continue
        text = "".join(sequences[i] for i in rows).encode()
        codes = torch.from_numpy(_CODE[np.frombuffer(text, dtype=np.uint8).reshape(len(rows), length)]).long()
        good = (codes < 4).all(1)
        if not good.any():
            continue
        index = torch.tensor(rows)[good]
        parts = F.one_hot(codes[good], 4).transpose(1, 2).float().split(256)
        network.to(device)
        scores[index] = torch.cat([network(part.to(device)).cpu() for part in parts])
    return scores


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
