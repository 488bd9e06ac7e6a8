"""What the image model learns from: recoloured images, their latents and tokens, and batches on any device."""

__all__ = ["Latents", "Row", "batches", "coloured_rows", "encode", "token_table", "weights_of_rows"]

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import Pool
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.images.augmentation import vary
from training.images.colours import COLOURS, main_colour, recolour
from training.images.emoji import Emoji, caption, held_out, held_out_pair, recoloured, thing

Row = tuple[int, str, bool, NDArray[Any]]
EMPTY = 0.1  # the share of captions that are empty, for guidance
RARE = {"Flags": 0.05, "People & Body": 0.25, "Symbols": 0.3, "Component": 0.1}


def batches(
    entries: list[Emoji], images: torch.Tensor, batch: int, device: torch.device | str = "cpu"
) -> Iterator[torch.Tensor]:
    """Endless randomly changed images `(batch, 3, 64, 64)`, none of them held out; skin tones and flags are rare."""
    rare = [0.15 if e.variant or e.category == "Flags" else 1.0 for e in entries]
    weight = [0.0 if held_out(e) else share for e, share in zip(entries, rare, strict=True)]
    draw, images = drawn(torch.tensor(weight), batch, device), images.to(device)
    while True:
        yield vary(images[draw()] / 255)


def drawn(weight: torch.Tensor, batch: int, device: torch.device | str) -> Callable[[], torch.Tensor]:
    """A draw of `(batch,)` numbers of rows by their weights, `(rows,)`, on a device, which nothing waits for."""
    ends = weight.double().cumsum(0)
    ends = (ends / ends[-1]).float().to(device)
    return lambda: torch.searchsorted(ends, torch.rand(batch, device=device), right=True)


def coloured_rows(entries: list[Emoji], images: torch.Tensor, plain: int, coloured: int = 1) -> list[Row]:
    """The images to encode: index of the entry, main colour, whether that is a new one, and the image `(64, 64, 4)`.

    Each image occurs `plain` times unchanged (flags twice), and `coloured` times in every colour whose pair is not
    held out. Images are recoloured by as many processes as there are cores.
    """
    rows: list[Row] = []
    pairs: list[tuple[int, str]] = []
    for i, entry in enumerate(entries):
        if entry.variant or held_out(entry):
            continue
        image = images[i].permute(1, 2, 0).numpy()
        own = main_colour(image[..., :3], image[..., 3])
        rows += [(i, own, False, image)] * (2 if entry.category == "Flags" else plain)
        pairs += [(i, c) for c in COLOURS if recoloured(entry) and not held_out_pair(c, thing(entry))]
    with Pool(min(os.cpu_count() or 1, 1 + len(pairs) // 100)) as pool:
        new = pool.starmap(recolour, [(images[i].permute(1, 2, 0).numpy(), c) for i, c in pairs], chunksize=20)
    for (i, colour), image in zip(pairs, new, strict=True):
        rows += [(i, colour, True, image)] * coloured
    return rows


@torch.no_grad()
def encode(
    net: Any, rows: list[Row], entries: list[Emoji], batch: int = 64, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Latents `(rows, LATENTS, 8, 8)` of moved and resized images, flipped if that keeps the meaning."""
    net, out = net.to(device), []
    for k in range(0, len(rows), batch):
        part = rows[k : k + batch]
        rgba = torch.from_numpy(np.stack([image for *_, image in part])).to(device).permute(0, 3, 1, 2) / 255
        fixed = [entries[i].category in ("Symbols", "Flags") or "arrow" in entries[i].names[0] for i, *_ in part]
        x = vary(rgba, turned=0.0, flipped=(0.5 * ~torch.tensor(fixed)).to(device))
        out.append(net.encode(x).latent_dist.mode().float().cpu())
    return torch.cat(out)


def weights_of_rows(entries: list[Emoji], entry: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Sampling weights `(rows,)`: a subcategory of n images has weight sqrt(n), a recoloured image 40 %, people less.

    Args:
        entries: All entries.
        entry: The index of each row's entry.
        new: Whether the row shows it in another colour.
    """
    keys = list(zip(entry.tolist(), new.tolist(), strict=True))
    sizes = Counter(entries[i].subcategory for i in {i for i, _ in keys})
    counts = Counter(keys)
    weights = []
    for i, coloured in keys:
        share = 1.0 if not recoloured(entries[i]) else 0.4 if coloured else 0.6
        share *= RARE.get(entries[i].category, 1.0)
        share *= 0.3 if entries[i].subcategory in ("keycap", "alphanum") else 1.0
        weights.append(share / counts[i, coloured] / sizes[entries[i].subcategory] ** 0.5)
    return torch.tensor(weights, dtype=torch.float64)


def token_table(
    facts: Sequence[tuple[int, str, bool]],
    entries: list[Emoji],
    tokens: Callable[[list[str]], list[list[int]]],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, torch.Tensor]:
    """Tokens of random captions, so that none is made in an update.

    Args:
        facts: The index of the entry, the main colour, and whether that is a new one, of each row.
        entries: All entries.
        tokens: Maps captions to their tokens, `LENGTH` each.
        draws: How many captions are drawn for each distinct row.
        rng: The random number generator.

    Returns:
        `ids`, `(distinct rows, draws, LENGTH)`; `kind`, the number of the distinct row of each row, `(rows,)`; and
        `empty`, the tokens of the empty caption, `(LENGTH,)`.
    """
    kinds = {fact: k for k, fact in enumerate(dict.fromkeys(facts))}
    texts = [caption(entries[i], colour, new, rng) for i, colour, new in kinds for _ in range(draws)]
    found = {text: k for k, text in enumerate(dict.fromkeys(["", *texts]))}
    table = torch.tensor(tokens(list(found)), dtype=torch.int16)
    ids = table[[found[text] for text in texts]].view(len(kinds), draws, -1)
    return {"ids": ids, "kind": torch.tensor([kinds[fact] for fact in facts]), "empty": table[0].clone()}


class Latents:
    """Endless batches of latents with tokens, drawn on the device that holds the data.

    Args:
        data: `latents` `(rows, LATENTS, 8, 8)`, `weight` `(rows,)`, and the tables of `token_table`.
        batch: The number of rows of a batch.
        device: The device of the batches.
    """

    def __init__(self, data: dict[str, torch.Tensor], batch: int, device: torch.device | str = "cpu") -> None:
        self.latents, self.kind = data["latents"].to(device), data["kind"].to(device)
        self.ids, self.empty = data["ids"].to(device), data["empty"].to(device)
        self.draw, self.batch = drawn(data["weight"], batch, device), batch

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents `(batch, LATENTS, 8, 8)` and tokens `(batch, LENGTH)`; one caption in ten is empty."""
        rows, device = self.draw(), self.latents.device
        which = torch.randint(self.ids.shape[1], (self.batch,), device=device)
        ids = self.ids[self.kind[rows], which]
        ids = torch.where(torch.rand(self.batch, 1, device=device) < EMPTY, self.empty, ids)
        return self.latents[rows].float(), ids.long()
