"""Names, options and devices: what is not accepted is one line, and nothing is made of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import guided
from guided.checkpoints import FOLDER
from guided.errors import GuidedError
from guided.nets.mdlm_cnn import MaskedCNN
from guided.nets.mdlm_dit import MaskedDiT


def refused(match: str, name: Any, **options: Any) -> None:
    with pytest.raises(GuidedError, match=match) as caught:
        guided.load(name, **options)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 700 and "weights_only" not in said


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("eta=x", "eta is 'x'; it must be a finite number"),
        ("eta=NaN", "eta is nan"),
        ("micro_batch=2.5", "micro_batch is 2.5; it must be a whole number"),
        ("micro_batch=0", "the micro-batch is 0 rows"),
        ("scheduler=5", "scheduler is 5; it must be a class of diffusers"),
        ("scheduler=null&lora=5", "lora is 5"),
        ("lora=[5]", r"lora is \[5\]"),
        ("lora_scale=big", "lora_scale is 'big'"),
        ("compile=maybe", "compile is 'maybe'; it must be default or graph"),
        ("slicing=1", "slicing is 1"),
        ("tiling=yes", "tiling is 'yes'"),
        ("variant=16", "variant is 16"),
        ("offload=5", "offload is 5"),
        ("distilled=x", "distilled is 'x'"),
        ("lookahead=[1]", "lookahead is"),
        ("lookahead=true", "lookahead is True"),
        ("height=1000000000", r"height is 1000000000, which takes 768,000,000,000 bytes of memory"),
        ("width=8000000000", "width is 8000000000, which takes"),
        ("height=64.5", "height is 64.5"),
    ],
)
def test_options_in_names_are_checked(options: str, match: str) -> None:
    refused(match, f"images?{options}")


@pytest.mark.parametrize("name", ["a" * 10_000, "a/" * 5_000, "molecules?" + "x" * 10_000, "\0", "~nobody-here/model"])
def test_a_name_that_no_file_can_have_is_shortened(name: str) -> None:
    refused("called|option|cannot", name)


@pytest.mark.parametrize("device", ["meta", "gpu", "cuda:99", "", 5, None, "x" * 10_000])
def test_devices_that_hold_no_numbers(device: Any) -> None:
    refused(r"^device .* is (unknown|not available on this machine); it is one of auto, cpu", "rna", device=device)


@pytest.mark.parametrize("dtype", ["int8", 5, None, "float"])
def test_precisions(dtype: Any) -> None:
    refused("unknown dtype", "rna", dtype=dtype)
    assert guided.load("rna", dtype=torch.bfloat16, device=torch.device("cpu")).identity  # type: ignore[arg-type]


def test_numbers_of_numpy_and_torch() -> None:
    """Are those of Python, wherever a model takes one."""
    numbers = {
        "eta": np.float32(0.5),
        "height": np.int64(64),
        "micro_batch": torch.tensor(4),
        "lookahead": np.float64(0.5),
    }
    model = guided.load("images", steps=np.arange(3)[2], **numbers)
    same = guided.load("images", steps=2, eta=0.5, height=64, micro_batch=4, lookahead=0.5)
    assert model.steps == 2 and vars(model.process).keys() == vars(same.process).keys()
    assert all(getattr(model.process, name) == getattr(same.process, name) for name in ("eta", "event", "sigmas"))
    assert type(model.process.eta) is float
    one, other = (
        guided.attach("rna", "rna", alpha=a, beta=b) for a, b in ((np.float32(0.5), torch.tensor(0)), (0.5, 0))
    )
    assert one.identity == other.identity


def test_a_path_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(FOLDER / "rna", tmp_path / "model")
    assert guided.load("~/model").identity == guided.load("rna").identity


@pytest.mark.parametrize("steps", [10**9, 0, 2.5, "many", True])
def test_steps(steps: Any) -> None:
    refused(r"steps is .*; it must be a whole number, at least 1, at most 1000000", "rna", steps=steps)


# Published files


def unet() -> dict[str, torch.Tensor]:
    return load_file(FOLDER / "images" / "unet" / "diffusion_pytorch_model.safetensors")


def test_stable_diffusion_in_a_single_file_is_said_to_be_so(tmp_path: Path) -> None:
    weights = {f"model.diffusion_model.{key}": w for key, w in unet().items()}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "a.ckpt")
    for file in (tmp_path / "a.safetensors", tmp_path / "a.ckpt"):
        refused(r"is a pipeline of Stable Diffusion in a single file; .*from_single_file", file)
        with pytest.raises(GuidedError, match="single file"):
            guided.attach("images", file)


def test_other_files_are_said_to_be_what_they_are(tmp_path: Path) -> None:
    save_file(unet(), tmp_path / "a.safetensors")
    refused("one network of a pipeline; give the folder", tmp_path / "a.safetensors")
    refused(r"one network \('UNet2DConditionModel'\) of a pipeline", FOLDER / "images" / "unet")
    shutil.copy(FOLDER / "negatives" / "images" / "pytorch_lora_weights.safetensors", tmp_path / "b.safetensors")
    refused("holds LoRA weights", tmp_path / "b.safetensors")


@pytest.mark.parametrize("class_name", [["my_pipeline", "MyPipeline"], None, 5, {}, "x" * 10_000])
def test_a_pipeline_of_its_own_code_is_refused(class_name: Any, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    with pytest.raises(GuidedError, match=r"it is one of CogVideoXPipeline") as caught:
        guided.load(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("library", ["evil", "diffusers", "os", "torch", "guided", "stable_diffusion"])
def test_code_that_a_folder_brings_along_is_not_run(library: str, tmp_path: Path) -> None:
    """Whatever the release of diffusers, a part is one of its own or of transformers."""
    folder = tmp_path / "model"
    shutil.copytree(FOLDER / "images", folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": [library, "UNet2DConditionModel"]}))
    (folder / "unet" / f"{library}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    refused("not code in|contains code|does not have", folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "origin", [["../unet", "A"], ["diffusers", "A", "B"], ["diffusers"], [5, "A"], ["diffusers", "no"]]
)
def test_parts_of_an_index_are_a_library_and_its_class(origin: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(FOLDER / "images", folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": origin}))
    refused("unet", folder)


def test_pickled_weights_that_would_run_code_are_refused_in_our_words(tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "ran"), "w")

    folder = tmp_path / "model"
    shutil.copytree(FOLDER / "images", folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": Call()}, folder / "unet" / "diffusion_pytorch_model.bin")
    torch.save({"conv_in.weight": Call()}, tmp_path / "a.ckpt")
    refused("cannot load the pipeline", folder)
    refused("a.ckpt", tmp_path / "a.ckpt")
    for name in ("a.ckpt", "model/unet"):
        with pytest.raises(GuidedError) as caught:
            guided.attach("images", tmp_path / name)
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_names_of_wrappers_are_left_out(wrapper: str, tmp_path: Path) -> None:
    """Of DataParallel and of compiled networks, before or behind the prefix of Lightning."""
    x, t = torch.randint(5, (2, 12)), torch.ones(2)
    net = MaskedCNN(5, 8, 1)
    ways = ("backbone.{}{}", "{1}backbone.{0}")
    for i, way in enumerate(ways):
        state = {way.format(*((wrapper, k) if i == 0 else (k, wrapper))): w for k, w in net.state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / "a.ckpt")
        expected = net.embed(torch.zeros(1))
        model = guided.load(tmp_path / "a.ckpt", length=12)
        torch.testing.assert_close(model.denoiser(x, t), net(x, expected)[..., :4].log_softmax(-1))
    for name in ("rna",):
        shutil.copytree(FOLDER / name, tmp_path / name)
        file = tmp_path / name / "model.safetensors"
        save_file({wrapper + key: w for key, w in load_file(file).items()}, file)
        wrapped, plain = guided.load(tmp_path / name), guided.load(name)
        y = [m.denoiser(x[:, :5], t, label=torch.zeros(2, dtype=torch.long)) for m in (wrapped, plain)]
        assert torch.equal(*y)
        guided.attach("rna", file)


def shards(folder: Path, name: str = "model.safetensors") -> None:
    weights = load_file(folder / name)
    stem = name.removesuffix(".safetensors")
    files = {key: f"{stem}-0000{i % 2 + 1}-of-00002.safetensors" for i, key in enumerate(weights)}
    for file in set(files.values()):
        save_file({key: w for key, w in weights.items() if files[key] == file}, folder / file)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / name).unlink()


def test_weights_in_shards(tmp_path: Path) -> None:
    config = {"model_type": "mdlm", "vocab_size": 11, "hidden_dim": 8, "n_heads": 2, "n_blocks": 1, "cond_dim": 4}
    net = MaskedDiT(11, 8, 2, 1, 4)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**config, "length": 6}))
    whole = guided.load(tmp_path)
    shards(tmp_path)
    x, t = torch.randint(11, (3, 6)), torch.ones(3)
    assert torch.equal(guided.load(tmp_path).denoiser(x, t), whole.denoiser(x, t))
    index = tmp_path / "model.safetensors.index.json"
    for content in (
        {"weight_map": {}},
        {"weight_map": {"a": 5}},
        {},
        {"weight_map": {"a": "../b"}},
        {"weight_map": {"a": "b"}},
    ):
        index.write_text(json.dumps(content))
        refused("index.json", tmp_path)


def test_a_saved_networks_folder_is_a_negative(tmp_path: Path) -> None:
    """As `save_pretrained` writes it, whole or in shards, and in the folder of its pipeline."""
    model = guided.load("images", steps=2)
    shutil.copytree(FOLDER / "images" / "unet", tmp_path / "unet")
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({key: 1.01 * w for key, w in load_file(file).items()}, file)
    by_file, by_folder, by_pipeline = (guided.attach(model, p) for p in (file, tmp_path / "unet", tmp_path))
    assert by_file.identity == by_folder.identity == by_pipeline.identity != model.identity
    shards(tmp_path / "unet", file.name)
    guided.attach(model, tmp_path / "unet")
