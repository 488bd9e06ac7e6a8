"""The images that the shipped image model learns from: Noto Emoji at 64 x 64, from two npm packages."""

__all__ = [
    "Emoji",
    "caption",
    "fetch",
    "held_out",
    "held_out_pair",
    "load_entries",
    "load_images",
    "read_entries",
    "read_image",
    "recoloured",
    "thing",
    "write_images",
]

import hashlib
import json
import shutil
import subprocess
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.images.colours import COLOURS

COLOUR_WORDS = {*COLOURS, "white", "grey", "gray", "dark", "light"}
PACKAGES = ("emoji-datasource-google@16.0.0", "emojibase-data@17.0.0")


@dataclass(frozen=True)
class Emoji:
    """One image: its file in the package, its names (the simplest first), keywords and category."""

    image: str
    names: tuple[str, ...]
    tags: tuple[str, ...]
    category: str
    subcategory: str
    variant: bool


def share(*parts: str) -> float:
    """A number in [0, 1) that depends only on the strings."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def held_out(entry: Emoji) -> bool:
    """Whether an image is held out of all trainings: one in twenty, together with its skin tones."""
    return share("kept from training", entry.names[0]) < 0.05


def fetch(work: Path) -> None:
    """Unpacks the two packages under `work` as `package name/package`, with the npm client."""
    work.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        name, version = package.rsplit("@", 1)
        archive = work / f"{name}-{version}.tgz"
        if not archive.exists():
            subprocess.run([shutil.which("npm") or "npm", "pack", "--silent", package], cwd=work, check=True)
        if not (work / name).exists():
            with tarfile.open(archive) as tar:
                tar.extractall(work / name, filter="data")


def words(name: str) -> str:
    """A caption in lower case, without punctuation."""
    kept = "".join(c if c.isalnum() or c in "'+" else " " for c in name.lower())
    return " ".join(kept.split())


def read_entries(work: Path) -> list[Emoji]:
    """All images of the package, the skin tones after their own entry."""
    folder = work / "emoji-datasource-google" / "package"
    data = json.loads((folder / "emoji.json").read_text())
    labels = {
        e["hexcode"]: (e["label"], tuple(e.get("tags", ())))
        for e in json.loads((work / "emojibase-data" / "package" / "en" / "data.json").read_text())
    }
    plain = {code.replace("-FE0F", ""): label for code, label in labels.items()}
    entries = []
    for row in data:
        if not row["has_img_google"]:
            continue
        label, tags = plain.get(row["unified"].replace("-FE0F", ""), (row["name"], ()))
        names = tuple(dict.fromkeys(words(n) for n in (label, row["name"], *row["short_names"]) if words(n)))
        used = {word for name in names for word in name.split()} - COLOUR_WORDS
        tags = tuple(tag for tag in tags if tag in used and len(tag) > 2)
        base = Emoji(row["image"], names, tags, row["category"], row["subcategory"], False)
        entries.append(base)
        for variation in row.get("skin_variations", {}).values():
            if variation["has_img_google"]:
                entries.append(Emoji(variation["image"], names, tags, row["category"], row["subcategory"], True))
    return entries


def read_image(work: Path, entry: Emoji) -> NDArray[np.uint8]:
    """`(64, 64, 4)` bytes: red, green, blue, opacity."""
    from PIL import Image

    path = work / "emoji-datasource-google" / "package" / "img" / "google" / "64" / entry.image
    return np.asarray(Image.open(path).convert("RGBA"))


def write_images(work: Path) -> int:
    """Writes all that the trainings read of the packages, 11 MB: `entries.json` and `pictures.npz`.

    Returns:
        The number of images.
    """
    entries = read_entries(work)
    (work / "entries.json").write_text(json.dumps([asdict(entry) for entry in entries]))
    np.savez_compressed(work / "pictures.npz", pictures=np.stack([read_image(work, entry) for entry in entries]))
    return len(entries)


def load_entries(work: Path) -> list[Emoji]:
    """The entries that `training/images/train.py prepare` wrote."""
    rows = json.loads((work / "entries.json").read_text())
    return [Emoji(**row | {"names": tuple(row["names"]), "tags": tuple(row["tags"])}) for row in rows]


def load_images(work: Path) -> tuple[list[Emoji], torch.Tensor]:
    """The output of `training/images/train.py prepare`: the entries, and their images as `(n, 4, 64, 64)` bytes."""
    pictures = torch.from_numpy(np.load(work / "pictures.npz")["pictures"])
    return load_entries(work), pictures.permute(0, 3, 1, 2)


def thing(entry: Emoji) -> str:
    """The simplest name, without colours."""
    return without_colour(entry.names[0])


def without_colour(name: str) -> str:
    """A name without its colour words; unchanged if nothing else would be left."""
    return " ".join(word for word in name.split() if word not in COLOUR_WORDS) or name


def held_out_pair(colour: str, what: str) -> bool:
    """Whether this thing in this colour is held out of training when recoloured: one pair in ten."""
    return share("pair", colour, what) < 0.1


def recoloured(entry: Emoji) -> bool:
    """Whether an image is recoloured: all but signs, flags and whole people."""
    return entry.category not in ("Symbols", "Flags", "Component", "People & Body") or entry.subcategory in (
        "heart",
        "geometric",
        "body-parts",
        "hand-fingers-open",
        "hand-fingers-closed",
    )


def caption(entry: Emoji, colour: str, new: bool, rng: np.random.Generator) -> str:
    """A random caption: one of the names, or a word of one; with the colour if it is new, otherwise sometimes.

    Args:
        entry: The entry of the image.
        colour: The main colour of the image as it is shown.
        new: Whether the image was given this colour.
        rng: The random number generator.
    """
    name = entry.names[0] if rng.random() < 0.5 else entry.names[rng.integers(len(entry.names))]
    if entry.tags and rng.random() < 0.1:
        name = entry.tags[rng.integers(len(entry.tags))]
    if new:
        return f"{colour} {without_colour(name)}"
    named = bool(COLOUR_WORDS & set(name.split()))
    if not named and recoloured(entry) and rng.random() < 0.3:
        return f"{colour} {name}"
    return without_colour(name) if named and rng.random() < 0.15 else name
