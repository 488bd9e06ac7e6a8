"""The pictures that the shipped image model learns from: Noto Emoji at 64 x 64, out of two npm packages."""

__all__ = [
    "COLOURS",
    "NAMES",
    "Emoji",
    "caption",
    "fetch",
    "held_out",
    "held_out_pair",
    "main_colour",
    "on_white",
    "read_entries",
    "read_picture",
    "recolour",
    "recoloured",
    "thing",
]

import hashlib
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Hue in turns, saturation and value of the colours that pictures are recoloured with.
COLOURS = {
    "red": (0.0, 0.8, 0.87),
    "orange": (0.083, 0.85, 0.97),
    "yellow": (0.14, 0.75, 0.98),
    "green": (0.34, 0.65, 0.68),
    "blue": (0.585, 0.72, 0.88),
    "purple": (0.765, 0.6, 0.72),
    "pink": (0.93, 0.42, 0.97),
    "brown": (0.06, 0.55, 0.5),
    "black": (0.6, 0.08, 0.2),
}
COLOUR_WORDS = {*COLOURS, "white", "grey", "gray", "dark", "light"}
PACKAGES = ("emoji-datasource-google@16.0.0", "emojibase-data@17.0.0")


@dataclass(frozen=True)
class Emoji:
    """One picture: where it lies in the package, its names (the first is the plainest), keywords, category."""

    image: str
    names: tuple[str, ...]
    tags: tuple[str, ...]
    category: str
    subcategory: str
    variant: bool


def share(*parts: str) -> float:
    """A number in [0, 1) that depends on the strings alone."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def held_out(entry: Emoji) -> bool:
    """Whether a picture is kept from every training: one in twenty, and the skin tones of it with it."""
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
    """All pictures of the package, the skin tones after their own entry."""
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


def read_picture(work: Path, entry: Emoji) -> np.ndarray:
    """`(64, 64, 4)` bytes: red, green, blue, opacity."""
    from PIL import Image

    path = work / "emoji-datasource-google" / "package" / "img" / "google" / "64" / entry.image
    return np.asarray(Image.open(path).convert("RGBA"))


def thing(entry: Emoji) -> str:
    """The plainest name without colours: what is recoloured."""
    return without_colour(entry.names[0])


def without_colour(name: str) -> str:
    """A name without its words of colour; as it was where nothing else would be left."""
    return " ".join(word for word in name.split() if word not in COLOUR_WORDS) or name


def held_out_pair(colour: str, what: str) -> bool:
    """Whether no picture of this thing recoloured with this colour is ever trained on: one pair in ten."""
    return share("pair", colour, what) < 0.1


def recoloured(entry: Emoji) -> bool:
    """Whether a picture is recoloured: no signs, flags or whole people."""
    return entry.category not in ("Symbols", "Flags", "Component", "People & Body") or entry.subcategory in (
        "heart",
        "geometric",
        "body-parts",
        "hand-fingers-open",
        "hand-fingers-closed",
    )


def hsv(rgb: np.ndarray) -> np.ndarray:
    """`(..., 3)` in [0, 1] as hue in turns, saturation, value."""
    top, low = rgb.max(-1), rgb.min(-1)
    spread = np.where(top > low, top - low, 1)
    r, g, b = np.moveaxis(rgb, -1, 0)
    hue = np.where(top == r, (g - b) / spread % 6, np.where(top == g, (b - r) / spread + 2, (r - g) / spread + 4)) / 6
    return np.stack([np.where(top > low, hue, 0), (top - low) / np.maximum(top, 1e-6), top], -1)


def rgb(x: np.ndarray) -> np.ndarray:
    """The inverse of `hsv`."""
    k = (np.array([5.0, 3, 1]) + 6 * x[..., :1]) % 6
    return x[..., 2:] * (1 - x[..., 1:2] * np.clip(np.minimum(k, 4 - k), 0, 1))


NAMES = (*COLOURS, "grey", "white")


def colour_names(x: np.ndarray) -> np.ndarray:
    """The index in `NAMES` of `(..., 3)` hue, saturation and value."""
    hue, saturation, value = np.moveaxis(x, -1, 0)
    chromatic = [
        ((hue < 0.05) | (hue > 0.955)) & (saturation < 0.5) & (value > 0.75),
        (hue < 0.05) | (hue > 0.965),
        (hue < 0.11) & ((value < 0.72) | (saturation < 0.45)),
        hue < 0.11,
        hue < 0.19,
        hue < 0.46,
        hue < 0.7,
        (hue < 0.8) | (value < 0.55),
        hue <= 1,
    ]
    index = ["pink", "red", "brown", "orange", "yellow", "green", "blue", "purple", "pink"]
    grey = [value < 0.3, (saturation < 0.18) & (value > 0.85), saturation < 0.18]
    codes = [NAMES.index(name) for name in ("black", "white", "grey", *index)]
    return np.select([*grey, *chromatic], codes)


def on_white(picture: np.ndarray) -> np.ndarray:
    """`(64, 64, 3)` bytes out of `(64, 64, 4)`."""
    opacity = picture[..., 3:] / 255
    return (picture[..., :3] * opacity + 255 * (1 - opacity)).round().astype(np.uint8)


def main_colour(picture: np.ndarray, opacity: np.ndarray | None = None) -> str:
    """The colour that most pixels of `(64, 64, 3)` bytes have, by name; white is not counted without an opacity.

    Colours without a hue count half, as outlines, shadows and glass are grey in pictures of any colour.
    """
    codes = colour_names(hsv(picture / 255.0))
    kept = codes != NAMES.index("white") if opacity is None else opacity > 128
    counts = np.bincount(codes[kept], minlength=len(NAMES)) * np.array(
        [0.5 if n in ("black", "grey", "white") else 1 for n in NAMES]
    )
    return NAMES[int(counts.argmax())] if counts.any() else "white"


def recolour(picture: np.ndarray, colour: str) -> np.ndarray:
    """`(64, 64, 4)` bytes whose main colour is now another, lights and shadows kept; other colours stay."""
    x = hsv(picture[..., :3] / 255.0)
    own = NAMES.index(main_colour(picture[..., :3], picture[..., 3]))
    part = (colour_names(x) == own) & (picture[..., 3] > 128)
    if not part.any():
        return picture
    middle = np.median(x[part], axis=0)
    near = np.abs((x[..., 0] - middle[0] + 0.5) % 1 - 0.5) < 0.08
    if NAMES[own] in ("black", "grey", "white"):
        near = x[..., 1] < 0.25
    part = near & ((x[..., 1] > 0.2) | (NAMES[own] in ("black", "grey", "white")))
    hue, saturation, value = COLOURS[colour]
    new = np.stack(
        [
            np.full_like(x[..., 0], hue),
            np.clip(saturation + (x[..., 1] - middle[1]), 0.0, 1),
            np.clip(value + 0.8 * (x[..., 2] - middle[2]), 0.05, 1),
        ],
        -1,
    )
    out = np.where(part[..., None], rgb(new), picture[..., :3] / 255.0)
    return np.concatenate([(out * 255).round().astype(np.uint8), picture[..., 3:]], -1)


def caption(entry: Emoji, colour: str, new: bool, rng: np.random.Generator) -> str:
    """A random caption: one of the names, or a word of them; with the colour if it is new, else now and then.

    Arguments:
        colour: The main colour of the picture as it is shown.
        new: Whether the picture was given this colour.
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
