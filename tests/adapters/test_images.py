"""Images and masks are read as their files specify."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import guided
from guided.adapters.images import as_image, as_mask, as_rgb
from guided.errors import GuidedError

RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
WANTED = (RAMP >> 8).astype(np.uint8)


def half(value: int, dtype: type = np.uint8) -> np.ndarray:
    """A mask whose left half has a value and whose right half is white."""
    mask = np.full((8, 8), value, dtype)
    mask[:, 4:] = np.iinfo(dtype).max
    return mask


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_16_bits_are_scaled(ending: str, tmp_path: Path) -> None:
    for image in (Image.fromarray(RAMP), tmp_path / f"ramp.{ending}"):
        if isinstance(image, Path):
            Image.fromarray(RAMP).save(image)
        assert np.array_equal(np.asarray(as_rgb(image)), np.repeat(WANTED[..., None], 3, 2))
        assert np.array_equal(np.asarray(as_mask(image)), WANTED)


def test_the_older_mode_of_16_bits_is_scaled_too(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.load()
    older = Image.fromarray(RAMP.astype(np.int32))
    older.format = "PNG"
    assert older.mode == "I" and np.array_equal(np.asarray(as_rgb(older)), np.asarray(as_rgb(image)))


def test_a_mask_of_16_bits_keeps_what_is_dark() -> None:
    assert np.array_equal(np.asarray(as_mask(Image.fromarray(half(8000, np.uint16)))) > 127, half(0) > 0)


@pytest.mark.parametrize("array", [RAMP.astype(np.int32), RAMP.astype(np.float32) / 65535], ids=["int32", "float32"])
def test_numbers_of_no_known_brightness_are_refused(array: np.ndarray) -> None:
    for convert in (as_rgb, as_mask):
        with pytest.raises(GuidedError, match="how bright"):
            convert(Image.fromarray(array))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_mask_in_the_alpha_channel_is_refused(mode: str, tmp_path: Path) -> None:
    """In some programs transparent means free, in others kept."""
    image = Image.new("RGBA", (8, 8), "white")
    image.putalpha(Image.fromarray(half(0)))
    if mode == "P":
        image.quantize(4).save(tmp_path / "a.png")
        image = Image.open(tmp_path / "a.png")
    else:
        image = image.convert(mode)
    with pytest.raises(GuidedError, match="transparent"):
        as_mask(image)


def test_an_opaque_alpha_channel_says_nothing() -> None:
    image = Image.fromarray(half(0))
    assert np.array_equal(np.asarray(as_mask(image.convert("RGBA"))), half(0))
    assert np.array_equal(np.asarray(as_rgb(image.convert("LA"))), np.asarray(image.convert("RGB")))


def test_what_is_transparent_in_an_image_shows_white() -> None:
    image = Image.new("RGBA", (8, 8), "red")
    image.putalpha(Image.fromarray(half(0)))
    shown = np.asarray(as_rgb(image))
    assert (shown[:, :4] == 255).all() and (shown[:, 4:] == (255, 0, 0)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_palettes_and_one_bit(mode: str) -> None:
    """The palette's colours count, not its numbers."""
    image = Image.fromarray(half(0)).convert(mode)
    if mode == "P":  # black is number 9, white number 3
        image = Image.fromarray(np.where(half(0) > 0, 3, 9).astype(np.uint8), "P")
        image.putpalette([c for i in range(10) for c in [255 if i == 3 else 0] * 3])
    assert np.array_equal(np.asarray(as_mask(image)), half(0))
    assert np.array_equal(np.asarray(as_rgb(image))[..., 0], half(0))


@pytest.mark.parametrize("deep", [False, True])
def test_the_orientation_is_applied(deep: bool, tmp_path: Path) -> None:
    array = np.arange(64 * 32, dtype=np.uint16).reshape(64, 32) * 32 if deep else half(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees, as a camera held upright writes it
    file = tmp_path / "photograph.png"
    Image.fromarray(array).save(file, exif=exif)
    upright = np.rot90((array >> 8).astype(np.uint8) if deep else array, -1)
    for given in (file, Image.open(file)):
        assert np.array_equal(np.asarray(as_rgb(given))[..., 0], upright)
        assert np.array_equal(np.asarray(as_mask(given)), upright)


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tiff"])
def test_an_animation_is_refused_and_one_of_its_frames_is_not(ending: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(half(value)).convert("RGB") for value in (0, 255)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
    for given in (tmp_path / f"a.{ending}", Image.open(tmp_path / f"a.{ending}")):
        with pytest.raises(GuidedError, match="2 frames"):
            as_image(given)
    assert as_rgb(Image.open(tmp_path / f"a.{ending}").copy()).size == (8, 8)


def test_other_colours_are_converted() -> None:
    for mode in ("CMYK", "YCbCr", "HSV", "LAB"):
        assert as_rgb(Image.new(mode, (4, 4))).mode == "RGB"


def test_what_is_no_image_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    Image.fromarray(RAMP).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    for given in (tmp_path / "a.png", tmp_path / "b.png", tmp_path / "nothing.png", 5, half(0), b"", None):
        with pytest.raises(GuidedError) as caught:
            as_rgb(given)
        assert "\n" not in str(caught.value)


def test_a_path_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(half(0)).save(tmp_path / "a.png")
    assert as_mask("~/a.png").size == (8, 8)


def test_the_model_takes_them_so() -> None:
    model = guided.load("images", steps=2).codec
    assert model.encode is not None and model.region is not None
    deep, plain = model.encode(Image.fromarray(RAMP)), model.encode(Image.fromarray(WANTED))
    assert deep.equal(plain) and model.region(Image.fromarray(half(8000, np.uint16))).float().mean() == 0.5
