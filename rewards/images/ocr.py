"""The text that can be read in an image, against the text that is wanted there.

PP-OCR's detector and recogniser read it, by RapidOCR, whose wheel has their weights. Lines are joined from top to
bottom, and letters are compared without their case, their width (NFKC) and the spaces between them:

    1 - edit distance / length of the longer text

References:
    | PP-OCR: a practical ultra lightweight OCR system
    | (Du et al., 2020, https://arxiv.org/abs/2009.09941)

    | Binary codes capable of correcting deletions, insertions and reversals
    | (Levenshtein, Soviet Physics Doklady 10, 707, 1966)
"""

__all__ = ["edit_distance", "ocr", "quoted", "read"]

import re
import unicodedata
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from guided.errors import GuidedError, RewardError
from guided.rewards.images.pixels import Images, Prompts, Scores, frames, mean_over_frames, prompts_of
from guided.scoring.registry import register_reward

# A single quote opens and closes where no letter is on its other side: an apostrophe is none.
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|‘([^’]+)’|(?<!\w)'(.+?)'(?!\w)")


def _check_text(text: str | None = None) -> None:
    if text is not None and not _letters(text):
        raise GuidedError(f"text is what the image should say, given {text!r}")
    _engine()


@register_reward("ocr", modality="images", check=_check_text)
def ocr(samples: Images, text: str | None = None, prompts: Prompts = None) -> Scores:
    """How well the text that is read in an image matches the wanted one, 0 to 1.

    Args:
        samples: n samples.
        text: The wanted text; where it is not given, what the sample's prompt has in quotation marks.
        prompts: n prompts.

    Raises:
        ImportError: RapidOCR is not installed.
        RewardError: No text is given, and there is no prompt, or none with a quotation.
    """
    batch = frames(samples)
    wanted = [text] * len(batch.images) if text is not None else list(map(quoted, prompts_of(batch, prompts)))
    return mean_over_frames(batch, [_match(read(image), it) for image, it in zip(batch.images, wanted, strict=True)])


def quoted(prompt: str) -> str:
    """What a prompt has in quotation marks, joined by spaces where there are several.

    Raises:
        RewardError: It has none.
    """
    parts = [next(filter(None, groups)) for groups in _QUOTED.findall(prompt)]
    if not _letters(" ".join(parts)):
        raise RewardError(f'wants a text: give ocr?text=TEXT, or a prompt with "TEXT" in it, given {prompt!r}')
    return " ".join(parts)


def read(image: Image.Image) -> str:
    """The lines of text in an RGB image, from top to bottom; "" where there are none."""
    found = _engine()(np.ascontiguousarray(np.asarray(image)[:, :, ::-1])).txts  # it takes arrays as BGR
    return "\n".join(found or ())


def edit_distance(one: str, other: str) -> int:
    """Letters to insert, delete or replace to make one text the other."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, theirs in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != theirs))
    return row[-1]


def _match(found: str, wanted: str) -> float:
    found, wanted = _letters(found), _letters(wanted)
    return 1 - edit_distance(found, wanted) / max(len(found), len(wanted))


def _letters(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


@lru_cache(maxsize=1)
def _engine() -> Any:
    try:
        rapidocr = import_module("rapidocr")
        import_module("onnxruntime")
    except ImportError as error:
        raise ImportError(f"ocr needs RapidOCR: pip install 'guided[ocr]' ({error})") from error
    return rapidocr.RapidOCR(params={"Global.log_level": "critical"})
