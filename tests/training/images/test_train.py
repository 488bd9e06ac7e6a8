"""How the image model is trained, and the folder that is shipped."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from guided.fitting.loop import Alone
from training.images import dataset, emoji
from training.images import train as images
from training.images.augmentation import psnr, vary
from training.images.colours import COLOURS, hsv, main_colour, on_white, recolour, rgb
from training.images.emoji import Emoji, caption, held_out, held_out_pair, share, thing
from training.images.nets import LATENTS, LENGTH, centre, make_scheduler, make_tokenizer, make_vae
from training.optimizers import Muon, orthogonal
from training.trainer import averaged_weights

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


def small_set(work: Path, n: int = 24) -> list[Emoji]:
    """Discs with names, as `prepare` would write them."""
    entries = [Emoji(f"{i}.png", (f"thing {i}", f"disc {i}"), ("disc",), "Objects", "tool", False) for i in range(n)]
    work.mkdir(parents=True, exist_ok=True)
    (work / "entries.json").write_text(json.dumps([asdict(entry) for entry in entries]))
    np.savez_compressed(work / "pictures.npz", pictures=np.stack([blob((220, 30, 8 * i)) for i in range(n)]))
    return entries


def test_what_is_prepared_is_read_back(tmp_path: Path) -> None:
    entries = small_set(tmp_path)
    read, pictures = emoji.load_images(tmp_path)
    assert read == entries
    np.testing.assert_array_equal(pictures[3].permute(1, 2, 0), blob((220, 30, 24)))


def test_drawn_captions_are_those_of_their_rows(tmp_path: Path) -> None:
    entries = [CAR, FLAG]
    facts = [(0, "red", False), (0, "blue", True), (1, "red", False), (0, "blue", True)]
    texts: list[str] = []

    def tokens(captions: list[str]) -> list[list[int]]:
        texts.extend(captions)
        return [[2046, k] for k in range(len(captions))]

    table = dataset.token_table(facts, entries, tokens, 40, np.random.default_rng(0))
    assert table["kind"].tolist() == [0, 1, 2, 1]
    found = [{texts[k] for k in row} for row in table["ids"][..., 1].tolist()]
    assert found[1] == {"blue automobile", "blue car"}
    assert found[2] == {"flag peru"}
    assert found[0] == {"automobile", "car", "red automobile", "red car"}
    assert texts[table["empty"][1]] == ""


def test_batches_hold_rows_by_their_weights_with_their_own_captions() -> None:
    data = {
        "latents": torch.arange(3.0).view(3, 1, 1, 1).expand(3, LATENTS, 8, 8).half(),
        "weight": torch.tensor([1.0, 0.0, 3.0]),
        "kind": torch.tensor([1, 1, 0]),
        "ids": torch.tensor([[[20], [21]], [[10], [11]]], dtype=torch.int16),
        "empty": torch.tensor([5], dtype=torch.int16),
    }
    torch.manual_seed(0)
    z, ids = next(dataset.Latents(data, 8000))
    rows, ids = z[:, 0, 0, 0], ids[:, 0]
    assert set(ids[rows == 0].tolist()) == {10, 11, 5}
    assert set(ids[rows == 2].tolist()) == {20, 21, 5}
    assert float((rows == 2).float().mean()) == pytest.approx(0.75, abs=0.02)
    assert float((ids == 5).float().mean()) == pytest.approx(0.1, abs=0.015)
    assert float((ids == 21).float().mean()) == pytest.approx(0.75 * 0.9 / 2, abs=0.02)


def test_every_training_goes_on_from_the_shipped_weights(tmp_path: Path) -> None:
    small_set(tmp_path)
    images.restore(tmp_path)
    images.latents(tmp_path, plain=1, coloured=1, captions=2, device="cpu")
    before = images.average(images.TextToImage(), tmp_path / "images").state_dict()
    images.train(tmp_path, minutes=1e-3, batch=4, processes=1, device="cpu")
    images.decoder(tmp_path, minutes=1e-3, batch=2, device="cpu")
    images.tiny(tmp_path, minutes=1e-3, batch=2, device="cpu")
    for name in ("images", "decoder", "tiny"):
        assert averaged_weights(tmp_path / name)[1] >= 1
    after = images.average(images.TextToImage(), tmp_path / "images").state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key.split(".")[0] for key in moved} == {"text", "unet"}
    assert all((before[key] - after[key]).abs().max() < 0.01 for key in before)  # the first updates are small
    images.export(tmp_path, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "vae" / "config.json").read_text())["scaling_factor"] == pytest.approx(
        images.read_scale(images.CHECKPOINT)
    )


def test_batch_and_rate_follow_the_device() -> None:
    cpu, gpu = Alone(torch.device("cpu")), Alone(torch.device("cuda"), "bf16")
    for training in ("vae", "train", "decoder", "tiny"):
        (few, slow), (many, fast) = (images.sizes(training, p, None, None) for p in (cpu, gpu))
        assert few < many
        assert slow < fast
    assert images.sizes("train", gpu, 7, None) == (7, images.BATCHES["train"]["gpu"][1])
