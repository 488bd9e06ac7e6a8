r"""How the shipped oracles of cell-type activity were made: two ensembles on disjoint chromosomes.

    python -m training.dna.oracle guide   # odd chromosomes but 1
    python -m training.dna.oracle judge   # even chromosomes but 2, X and Y

Each member is trained on nine tenths of the sequences of its side, on both strands and shifted by up to 10 positions;
the last tenth, another one for each member, selects the epoch. A head for each cell type is trained by binary
cross-entropy; the negatives are the sequences of the other cell types, and first-order Markov chains with the
dinucleotides of each sequence. So a high activity means hypersensitive in this cell type, not only more than in others.
The area under the ROC curve of each cell type is measured on chromosomes 1 and 2, which neither side is trained on.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch.nn import functional as F

from guided.rewards.sequences.activity import CELLS
from guided.rewards.sequences.oracle import Member, Oracle
from guided.storage import write_json, write_network, write_whole
from training.dna.train import HELD_OUT, read

HERE = Path(__file__).parents[1]
CHECKPOINT = HERE.parent / "guided" / "checkpoints" / "dna_oracle"
SIDES = {
    "guide": [f"chr{i}" for i in range(3, 23, 2)],
    "judge": [*(f"chr{i}" for i in range(4, 23, 2)), "chrX", "chrY"],
}


def one_hot(x: torch.Tensor) -> torch.Tensor:
    """Tokens `(n, L)` to `(n, 4, L)`."""
    return F.one_hot(x, 4).transpose(1, 2).float()


def markov(x: torch.Tensor) -> torch.Tensor:
    """For each sequence, `(n, L)`, a Markov chain with its first base and its dinucleotide frequencies."""
    counts = torch.zeros(len(x), 16).scatter_add_(1, 4 * x[:, :-1] + x[:, 1:], torch.ones(len(x), x.shape[1] - 1))
    edges = (counts.view(-1, 4, 4) + 0.1).cumsum(2)
    edges = edges / edges[..., -1:]
    chain, rows, u = [x[:, 0]], torch.arange(len(x)), torch.rand(x.shape[1], len(x), 1)
    for step in range(1, x.shape[1]):
        chain.append((u[step] > edges[rows, chain[-1]]).sum(1).clamp(max=3))
    return torch.stack(chain, dim=1)


def augment(x: torch.Tensor) -> torch.Tensor:
    """A shift by up to 10 positions, the same for the batch, and a strand for each."""
    x = x.roll(int(torch.randint(-10, 11, ())), dims=1)
    return torch.where((torch.rand(len(x)) < 0.5)[:, None], 3 - x.flip(1), x)


def area(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve: the share of pairs in the right order, ties a half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (counts.cumsum() - (counts - 1) / 2)[inverse]
    ones = int(positive.sum())
    return float((rank[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(score) - ones)))


def areas(logits: torch.Tensor, label: torch.Tensor) -> dict[str, float]:
    """The area under the ROC curve of each cell type, with the others as negatives; labels start at 0."""
    scores = logits.double().numpy()
    return {cell: area(scores[:, i], (label == i).numpy()) for i, cell in enumerate(CELLS)}


def train_member(x: torch.Tensor, label: torch.Tensor, seed: int, width: int, epochs: int, batch: int) -> Member:
    """Trains one member; keeps the epoch with the best mean area on its held-out tenth."""
    torch.manual_seed(seed)
    order = torch.randperm(len(x))
    held, kept = order[: len(x) // 10], order[len(x) // 10 :]
    net, best, weights = Member(width, dropout=0.25), 0.0, {}
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    total = epochs * (len(kept) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=total + 1, pct_start=0.2)
    for epoch in range(epochs):
        net.train()
        for rows in kept[torch.randperm(len(kept))].split(batch):
            if len(rows) < batch:
                continue
            real = augment(x[rows])
            shown = torch.cat([real, markov(real[: batch // 4])])
            wanted = torch.cat([F.one_hot(label[rows], len(CELLS)), torch.zeros(batch // 4, len(CELLS))]).float()
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(one_hot(shown))
            loss = F.binary_cross_entropy_with_logits(logits.float(), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            score = float(np.mean([*areas(net(one_hot(x[held])), label[held]).values()]))
        if score > best:
            best, weights = score, {name: w.clone() for name, w in net.state_dict().items()}
        print(f"member {seed}, epoch {epoch + 1}: mean area {score:.4f}", flush=True)
    net.load_state_dict(weights)
    return net


def main(
    side: str,
    members: int = 3,
    width: int = 64,
    epochs: int = 12,
    batch: int = 128,
    work: Path = HERE / "work",
    out: Path = CHECKPOINT,
) -> None:
    """Trains one of the ensembles, `guide` or `judge`, and measures it on chromosomes 1 and 2."""
    data, chromosomes = read(work)
    x, label = data.tokens, torch.from_numpy(data.labels) - 1
    mine = torch.tensor([chromosome in SIDES[side] for chromosome in chromosomes])
    held_out = torch.tensor([chromosome in HELD_OUT for chromosome in chromosomes])
    oracle = Oracle(members, width)
    for i in range(members):
        seed = i + (0 if side == "guide" else 100)
        oracle.members[i].load_state_dict(train_member(x[mine], label[mine], seed, width, epochs, batch).state_dict())
    oracle.eval()
    with torch.no_grad():
        logits = torch.cat([oracle(one_hot(part)) for part in x[held_out].split(512)])
    found = {"auc": areas(logits, label[held_out]), "sequences": int(mine.sum()), "held_out": int(held_out.sum())}
    save(oracle, {"members": members, "width": width}, found, out / side)
    print(json.dumps(found))


def save(oracle: Oracle, config: dict[str, Any], metrics: dict[str, Any], out: Path) -> None:
    """Writes the ensemble with its configuration and measures."""
    out.mkdir(parents=True, exist_ok=True)
    write_network(out / "model.safetensors", oracle)
    write_whole(out / "config.json", json.dumps({"kind": "dna_oracle", "cells": CELLS, **config}) + "\n")
    write_json(out / "metrics.json", metrics)


if __name__ == "__main__":
    typer.run(main)
