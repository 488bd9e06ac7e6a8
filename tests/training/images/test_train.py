"""How the image model is trained, and the folder that is shipped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training.images import dataset, emoji
from training.images import train as images
from training.images.augmentation import psnr, vary
from training.images.colours import COLOURS, hsv, main_colour, on_white, recolour, rgb
from training.images.emoji import Emoji, caption, held_out, held_out_pair, share, thing
from training.images.nets import LATENTS, LENGTH, centre, make_scheduler, make_tokenizer, make_vae
from training.optimizers import Muon, orthogonal

CAR = Emoji("car.png", ("automobile", "car", "red car"), ("car",), "Travel & Places", "transport-ground", False)
FLAG = Emoji("flag.png", ("flag peru",), (), "Flags", "country-flag", False)


def blob(colour: tuple[int, int, int]) -> np.ndarray:
    """A disc of a colour with a lighter half and a black rim, on nothing."""
    y, x = np.mgrid[-32:32, -32:32]
    image = np.zeros((64, 64, 4), dtype=np.uint8)
    image[..., :3] = np.where((x > 0)[..., None], colour, np.array(colour) * 0.9).astype(np.uint8)
    image[x**2 + y**2 > 26**2, :3] = 0
    image[..., 3] = 255 * (x**2 + y**2 < 28**2)
    return image


def test_saturation_and_hue_are_a_change_of_coordinates() -> None:
    x = np.random.default_rng(0).random((500, 3))
    np.testing.assert_allclose(rgb(hsv(x)), x, atol=1e-12)
    np.testing.assert_allclose(hsv(np.array([0.0, 0.5, 0.0])), [1 / 3, 1, 0.5])


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("own", [(220, 30, 30), (250, 200, 40), (60, 120, 220), (120, 120, 120), (240, 240, 240)])
def test_a_recoloured_picture_has_the_named_colour_and_its_outline(own: tuple[int, int, int], colour: str) -> None:
    image = blob(own)
    new = recolour(image, colour)
    assert main_colour(on_white(new)) == colour
    np.testing.assert_array_equal(new[..., 3], image[..., 3])
    rim = (image[..., :3] == 0).all(-1) & (image[..., 3] > 0)
    if max(own) - min(own) > 50:
        np.testing.assert_array_equal(new[rim], image[rim])


def test_captions_of_a_new_colour_name_it_and_no_other() -> None:
    rng = np.random.default_rng(0)
    captions = {caption(CAR, "blue", True, rng) for _ in range(300)}
    assert captions == {"blue automobile", "blue car"}


def test_captions_of_a_picture_as_it_is_are_its_names_with_or_without_its_colour() -> None:
    rng = np.random.default_rng(0)
    captions = [caption(CAR, "red", False, rng) for _ in range(2000)]
    assert set(captions) == {"automobile", "car", "red automobile", "red car"}
    assert caption(FLAG, "red", False, rng) == "flag peru"


def test_names_are_words_in_lower_case() -> None:
    assert emoji.words("Man’s T-Shirt: RED & blue!") == "man s t shirt red blue"
    assert thing(Emoji("", ("green apple",), (), "", "", False)) == "apple"
    assert thing(Emoji("", ("orange",), (), "", "", False)) == "orange"


def test_hashes_spread_evenly() -> None:
    values = np.sort([share("x", str(i)) for i in range(4000)])
    assert np.abs(values - np.linspace(0, 1, 4000)).max() < 1.63 / 4000**0.5  # Kolmogorov, 1 %


def test_what_is_held_out_is_in_no_row() -> None:
    entries = [Emoji("", (f"thing {i}",), (), "Objects", "tool", bool(i % 2)) for i in range(200)]
    rgba = torch.from_numpy(np.stack([blob((220, 30, 30))] * 200)).permute(0, 3, 1, 2)
    rows = dataset.coloured_rows(entries, rgba, plain=2)
    kept = [i for i, e in enumerate(entries) if not e.variant and not held_out(e)]
    assert 80 < len(kept) < 100
    assert sorted({i for i, *_ in rows}) == kept
    new = {(i, colour) for i, colour, new, _ in rows if new}
    assert new == {(i, c) for i in kept for c in COLOURS if not held_out_pair(c, thing(entries[i]))}
    assert 0.86 < len(new) / (9 * len(kept)) < 0.94
    assert sum(not new for *_, new, _ in rows) == 2 * len(kept)


def test_rows_show_the_colour_that_their_captions_name() -> None:
    rgba = torch.from_numpy(blob((220, 30, 30)))[None].permute(0, 3, 1, 2)
    rows = dataset.coloured_rows([CAR], rgba, plain=1)
    assert len(rows) > 6
    for _, colour, new, image in rows:
        assert image.shape == (64, 64, 4)
        assert main_colour(on_white(image)) == colour
        assert new or colour == "red"


def test_no_held_out_picture_is_in_a_batch() -> None:
    entries = [Emoji("", (f"thing {i}",), (), "Objects", "tool", False) for i in range(60)]
    assert any(held_out(e) for e in entries)
    rgba = torch.zeros(60, 4, 64, 64, dtype=torch.uint8)
    for i, entry in enumerate(entries):
        rgba[i, 3] = 0 if held_out(entry) else 255
    x = torch.cat([next(dataset.batches(entries, rgba, 64)) for _ in range(4)])
    assert x[:, :, 20:44, 20:44].max() < -0.99


def test_a_subcategory_counts_as_the_root_of_its_pictures() -> None:
    entries = [Emoji("", (str(i),), (), "Objects", "tool" if i < 9 else "phone", False) for i in range(10)]
    entry = torch.tensor([i for i in range(10) for _ in range(1 + i % 3)])
    weights = dataset.weights_of_rows(entries, entry, torch.zeros(len(entry), dtype=torch.bool))
    assert float(weights[entry < 9].sum() / weights[entry == 9].sum()) == pytest.approx(3)


def test_varied_pictures_are_on_white_and_untouched_where_nothing_is_varied() -> None:
    image = torch.from_numpy(blob((220, 30, 30)))[None].permute(0, 3, 1, 2)
    x = vary(image / 255, turned=0.0, flipped=0.0, moved=0.0)
    white = torch.from_numpy(on_white(image[0].permute(1, 2, 0).numpy()).copy()).permute(2, 0, 1)
    torch.testing.assert_close(x[0], white / 127.5 - 1, atol=1e-4, rtol=0)
    torch.testing.assert_close(vary(image / 255, turned=0.0, flipped=1.0, moved=0.0), x.flip(3), atol=1e-4, rtol=0)
    assert (vary(torch.zeros(8, 4, 64, 64)) == 1).all()


def test_signal_to_noise_of_a_constant_error() -> None:
    x = torch.zeros(3, 3, 8, 8)
    assert psnr(x + 0.2, x) == pytest.approx(20)


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (12, 12)])
def test_newton_schulz_keeps_the_singular_vectors_and_evens_the_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    u, s, vt = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    out = u.T @ orthogonal(u @ torch.diag(s) @ vt) @ vt.T
    assert (out - torch.diag(out.diagonal())).abs().max() < 1e-3
    values = out.diagonal()[s / s.norm() > 0.02]
    assert 0.6 < values.min() <= values.max() < 1.3


def test_muon_moves_a_convolution_by_the_learning_rate() -> None:
    p = torch.nn.Parameter(torch.zeros(4, 8, 3, 3))
    p.grad = torch.randn_like(p)
    Muon([p], lr=0.01).step()
    values = torch.linalg.svdvals(p.detach().flatten(1)) / (0.01 * 0.2 * 72**0.5)
    assert 0.6 < values.min() <= values.max() < 1.3


def test_centred_latents_leave_pictures_as_they_were() -> None:
    torch.manual_seed(0)
    net, x = make_vae().eval(), torch.randn(1, 3, 64, 64)
    middle = torch.randn(LATENTS)
    with torch.no_grad():
        z = net.encode(x).latent_dist.mode()
        out = net.decode(z).sample
        centre(net, middle)
        torch.testing.assert_close(net.encode(x).latent_dist.mode(), z - middle[:, None, None], atol=1e-4, rtol=0)
        torch.testing.assert_close(net.decode(z - middle[:, None, None]).sample, out, atol=1e-4, rtol=0)


def test_loss_of_the_true_v_is_zero_and_the_last_time_counts() -> None:
    alphas, seen = make_scheduler().alphas_cumprod, []
    assert float(alphas[-1]) < 1e-6
    z = torch.randn(8, LATENTS, 8, 8)

    def net(noisy: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        a = alphas[t].view(-1, 1, 1, 1)
        noise = (noisy - a.sqrt() * z) / (1 - a).sqrt()
        return a.sqrt() * noise - (1 - a).sqrt() * z

    assert images.v_loss(net, z, torch.zeros(8, LENGTH), alphas).item() < 1e-6
    assert (torch.bincount(seen[0] // 125, minlength=8) == 1).all()
    last = torch.full((1000,), float(alphas[-1]))
    wrong = images.v_loss(lambda noisy, t, ids: torch.zeros_like(noisy), z, torch.zeros(8, LENGTH), last)
    assert wrong.item() == pytest.approx(float(z.square().mean()), rel=1e-3)


def test_tokens_are_clips() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(images.CHECKPOINT / "tokenizer")
    assert len(tokenizer) == 2048
    for text in ("red apple", "smiling cat face with open mouth", "leaf fluttering in wind", "q zebra xylophon 7"):
        ids = tokenizer(text, padding="max_length", max_length=LENGTH, truncation=True).input_ids
        assert len(ids) == LENGTH
        assert ids[0] == 2046
        assert ids[-1] == 2047
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer("Red  Apple").input_ids == tokenizer("red apple").input_ids
    assert tokenizer("").input_ids == [2046, 2047]


def test_learned_tokens_hold_every_byte_and_read_back(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    rng = np.random.default_rng(0)
    texts = [" ".join("".join(rng.choice(list("abcdefghij"), 6)) for _ in range(3)) for _ in range(600)]
    make_tokenizer(texts * 2, tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    assert len(vocabulary) == len(tokenizer) == 2048
    assert tokenizer.decode(tokenizer("zebra é").input_ids, skip_special_tokens=True) == "zebra é"


def test_the_shipped_folder_draws_and_is_small() -> None:
    from diffusers import AutoencoderTiny, StableDiffusionPipeline

    files = [path for path in images.CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6
    pipeline = StableDiffusionPipeline.from_pretrained(images.CHECKPOINT)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        "red apple", num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="latent"
    )
    assert drawn.images.shape == (1, LATENTS, 8, 8)
    scale = pipeline.vae.config.scaling_factor
    tiny = AutoencoderTiny.from_pretrained(images.CHECKPOINT / "vae_tiny")
    disc = torch.from_numpy(blob((220, 30, 30)))[None].permute(0, 3, 1, 2) / 255
    x = vary(disc, turned=0.0, flipped=0.0, moved=0.0)
    with torch.no_grad():
        z = pipeline.vae.encode(x).latent_dist.mode() * scale
        assert psnr(pipeline.vae.decode(z / scale).sample, x) > psnr(pipeline.vae.decode(z).sample, x) + 2
        assert psnr(tiny.decode(z).sample, x) > psnr(tiny.decode(z / scale).sample, x) + 2
        assert psnr(tiny.decode(z).sample, x) > 15


def test_the_shipped_folder_is_stable_diffusions() -> None:
    index = json.loads((images.CHECKPOINT / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["safety_checker"] == index["feature_extractor"] == index["image_encoder"] == [None, None]
    scheduler = json.loads((images.CHECKPOINT / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction"
    assert scheduler["rescale_betas_zero_snr"]
    assert scheduler["timestep_spacing"] == "trailing"


def test_shipped_weights_are_trained_on_from(tmp_path: Path) -> None:
    images.restore(tmp_path)
    net = images.average(images.TextToImage(), tmp_path / "images")
    shipped = load_file(images.CHECKPOINT / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(net.unet.state_dict()[key], weight.float()) for key, weight in shipped.items())
    images.average(images.make_vae(), tmp_path / "vae")
    images.average(images.make_tiny(), tmp_path / "tiny")
    with pytest.raises(Exception, match="has weights of its own"):
        images.restore(tmp_path)
