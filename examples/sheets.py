"""Sheets of images: rows with a label, images with a caption."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL, LABEL, LINE, GAP = 128, 150, 20, 8  # pixels
INK, FAINT, EDGE = "#22252a", "#6b7078", "#e3e5e8"

#: A label, and images with a caption each.
Row = tuple[str, Sequence[tuple[Image.Image, str]]]


def sheet(rows: Sequence[Row], path: Path, title: str = "", heads: Sequence[str] = ()) -> None:
    """Writes rows of images as one PNG.

    Args:
        rows: The rows, from top to bottom.
        path: The file.
        title: The title of the sheet.
        heads: The titles of the columns; none, or one for each.
    """
    columns = max(len(images) for _, images in rows)
    top = GAP + LINE * (bool(title) + bool(heads))
    height = CELL + LINE + GAP
    page = Image.new("RGB", (LABEL + columns * (CELL + GAP) + GAP, top + len(rows) * height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    draw.text((GAP, GAP // 2), title, INK, font)
    for j, head in enumerate(heads):
        draw.text((LABEL + j * (CELL + GAP), top - LINE), head, INK, font)
    for i, (label, images) in enumerate(rows):
        y = top + i * height
        draw.multiline_text((GAP, y + CELL // 2 - LINE), _wrapped(label, font), INK, font)
        for j, (image, caption) in enumerate(images):
            x = LABEL + j * (CELL + GAP)
            small = _fitted(image)
            page.paste(small, (x, y))
            draw.rectangle((x - 1, y - 1, x + small.width, y + small.height), outline=EDGE)
            draw.text((x, y + CELL + 2), caption, FAINT, font)
    page.save(path)


def _fitted(image: Image.Image) -> Image.Image:
    """The image, resized to fit a cell."""
    scale = CELL / max(image.size)
    sides = [max(1, round(side * scale)) for side in image.size]
    return image.convert("RGB").resize((sides[0], sides[1]), Image.Resampling.LANCZOS)


def _wrapped(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> str:
    """The text, broken into lines that fit the column of labels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= LABEL - 2 * GAP:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
