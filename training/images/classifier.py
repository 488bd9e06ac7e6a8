"""A small classifier of the category of an image, which judges the shipped image model."""

__all__ = ["CATEGORIES", "Classifier", "train_classifier"]

import itertools
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from guided.storage import read_tensors, write_network
from training.images.augmentation import vary
from training.images.emoji import Emoji, held_out, load_images

CATEGORIES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
)


class Classifier(nn.Module):
    """Five convolutions of stride 2 on `(B, 3, 64, 64)` in [-1, 1]; 64 features; a logit for each category."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [3, width, 2 * width, 3 * width, 4 * width]
        blocks: list[nn.Module] = []
        for left, right in itertools.pairwise(sizes):
            blocks += [nn.Conv2d(left, right, 3, 2, 1), nn.GroupNorm(8, right), nn.SiLU()]
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(4 * width, 64, 3, 1, 1), nn.SiLU())
        self.head = nn.Linear(64, len(CATEGORIES))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, 64)`, the mean over positions of the last layer."""
        return self.blocks(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, `(B, categories)`."""
        return self.head(F.dropout(self.features(x), 0.2, self.training))


def labels(entries: list[Emoji]) -> torch.Tensor:
    """The number of the category of each entry, `(n,)`; -1 for flags, skin tones and people in another skin tone."""
    known = {name: i for i, name in enumerate(CATEGORIES)}
    return torch.tensor([-1 if e.variant else known.get(e.category, -1) for e in entries])


def train_classifier(work: Path, steps: int = 1500, batch: int = 64) -> Classifier:
    """Trains on the training images of the image model, each category equally often; saved in the work folder."""
    path, net = work / "classifier.safetensors", Classifier()
    if path.exists():
        net.load_state_dict(read_tensors(path))
        return net.eval()
    entries, images = load_images(work)
    label = labels(entries)
    kept = (label >= 0) & ~torch.tensor([held_out(e) for e in entries])
    weight = torch.where(kept, 1 / torch.bincount(label[kept])[label], 0.0)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(steps):
        rows = torch.multinomial(weight, batch, replacement=True)
        logits = net(vary(images[rows] / 255, turned=0.3))
        F.cross_entropy(logits, label[rows], label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    write_network(path, net)
    return net.eval()
