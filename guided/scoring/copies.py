"""User code gets copies: what it does to its arguments reaches neither the model's own rows nor the next reward."""

__all__ = ["copied"]

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from PIL import Image

_FROZEN = (str, bytes, int, float, complex, bool, type(None))


def copied(value: Any) -> Any:
    """A copy of samples or prompts; an object that cannot be copied is handed out as it is."""
    if isinstance(value, _FROZEN):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, Image.Image) or (isinstance(value, np.ndarray) and value.dtype != object):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    try:
        return deepcopy(value)
    except Exception:  # open files, locks and the like
        return value
