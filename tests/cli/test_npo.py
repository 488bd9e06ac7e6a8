"""`guided npo train` and `guided sample --negative`, on tiny random models."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from guided.fitting.negative import job
from guided.fitting.negative.job import train_negative
from guided.negatives.weights import FULL, LORA
from guided.nets.convolution import TokenConvolution
from tests.cli.test_sample import model  # noqa: F401

TRAIN = ("--steps", 3, "--batch", 2, "-n", 4, "--sampling-steps", 2, "--batch-size", 2, "--device", "cpu", "--lr", 0.05)
SAMPLE = ("--sampler", "unguided", "--steps", 4, "-n", 40, "--batch-size", 40, "--device", "cpu", "--no-report")
LABELS = ["none", "human", "yeast"]


@pytest.fixture(scope="session")
def dna(tmp_path_factory):
    """A model of DNA with two labels."""
    torch.manual_seed(0)
    size = {"width": 8, "kernel": 3, "dilations": [1]}
    folder = tmp_path_factory.mktemp("dna")
    net = TokenConvolution(4, len(LABELS), **size)
    save_file(
        {name: w + 0.3 * torch.randn(w.shape) for name, w in net.state_dict().items()}, folder / "model.safetensors"
    )
    config = {"kind": "nucleotides", "alphabet": "ACGT", "length": 12, "labels": LABELS, "steps": 4}
    (folder / "config.json").write_text(json.dumps(config | size))
    return str(folder)


@pytest.fixture
def trained(guided, model, tmp_path):  # noqa: F811
    code, _, err = guided("npo", "train", model, "--out", tmp_path / "npo", *TRAIN)
    assert code == 0, err
    return tmp_path / "npo"


def samples_in(folder):
    with (folder / "samples.csv").open(newline="") as file:
        return [(row["sample"], int(row["network_rows"])) for row in csv.DictReader(file)]


def test_a_checkpoint_is_trained_and_sampled_against(guided, model, trained, tmp_path):  # noqa: F811
    code, out, err = guided("npo", "train", model, "--out", trained, *TRAIN)
    assert code == 0 and "3 updates, 6 rows; already finished" in out and err == ""
    assert {"config.json", "README.md", "history.csv", FULL} <= {file.name for file in trained.iterdir()}
    runs = {}
    for name, words in {
        "plain": (),
        "itself": ("--negative", f"{trained}?alpha=0", "--guidance", 6),
        "half": ("--negative", f"{trained}?alpha=0.5", "--guidance", 6),
        "whole": ("--negative", trained, "--guidance", 6),
        "default": ("--negative", f"{trained}?alpha=0.5"),
    }.items():
        code, out, err = guided("sample", model, *SAMPLE, *words, "--out", tmp_path / name)
        assert code == 0, err
        runs[name] = samples_in(tmp_path / name)
        config = json.loads((tmp_path / name / "run.json").read_text())["config"]
        assert (config.get("negative") is not None) == (name != "plain")
    texts = {name: [sample for sample, _ in rows] for name, rows in runs.items()}
    assert texts["itself"] == texts["plain"]  # guided by itself with no prompt a model is not guided
    assert texts["half"] != texts["plain"] and texts["whole"] != texts["half"] and texts["default"] != texts["half"]
    assert runs["plain"][0][1] < runs["half"][0][1]


def test_a_run_against_another_alpha_is_another_run(guided, model, trained, tmp_path):  # noqa: F811
    words = ("sample", model, *SAMPLE, "--out", tmp_path / "a", "--negative")
    assert guided(*words, f"{trained}?alpha=0.5")[0] == 0
    code, _, err = guided(*words, f"{trained}?alpha=0.6")
    assert code == 2 and err.count("\n") == 1


def test_labels_and_a_reward(guided, dna, tmp_path):
    """Prompts of the model itself, or from a file; flipped DPO; the cost is shown at the end."""
    (tmp_path / "prompts.txt").write_text("human\nyeast\n")
    code, out, err = guided(
        *("npo", "train", dna, "--out", tmp_path / "a", *TRAIN),
        *("--prompts", tmp_path / "prompts.txt", "--set", "j=1", "--set", "K=4", "--set", "loss=squared"),
    )
    assert code == 0, err
    card = json.loads((tmp_path / "a/config.json").read_text())
    assert card["samples"] == {"steps": 2, "guidance": None, "prompts": ["human", "yeast"]}
    assert {"j": 1, "K": 4, "loss": "squared"}.items() <= card["method"].items()
    assert "loss" in err and f"--negative {tmp_path / 'a'}" in out
    code, out, err = guided(
        *("npo", "train", dna, "--out", tmp_path / "b", *TRAIN, "--reward", "gc"),
        *("-n", 12, "--set", "beta=1", "--guidance", 1.5),
    )
    assert code == 0, err
    card = json.loads((tmp_path / "b/config.json").read_text())
    assert card["method"]["beta"] == 1 and "ranked" in card["data"] and card["samples"]["prompts"] == LABELS
    for negative in ("a", "b?alpha=2"):
        code, _, err = guided(
            *("sample", dna, *SAMPLE, "--prompt", "human", "--guidance", 2, "--out", tmp_path / f"run {negative[0]}"),
            *("--negative", tmp_path / negative),
        )
        assert code == 0, err


def test_lora_weights(guided, model, tmp_path):  # noqa: F811
    code, _, err = guided("npo", "train", model, "--out", tmp_path / "a", *TRAIN, "--lora", 2, "--sheet", 3)
    assert code == 0, err
    assert (tmp_path / "a/sheets/000003.txt").exists()
    assert all(".lora_" in key for key in load_file(tmp_path / "a" / LORA))
    code, _, err = guided(
        "sample", model, *SAMPLE, "--negative", tmp_path / "a", "--guidance", 3, "--out", tmp_path / "run"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "k=3"), "error: --set is 'k=3' (did you mean 'K'?); Self-NPO takes K, j, w, T, loss, c, p\n"),
        (("--set", "K"), "error: --set is 'K'; it must be K=VALUE"),
        (("--set", "K=many"), "error: K is 'many'; it must be a whole number, at least 1"),
        (("--set", "K=0"), "error: K is 0"),
        (("--set", "w=nan"), "error: w is 'nan'; it must be a finite number"),
        (("--set", "w=[1]"), "error: w is [1]; it must be a finite number"),
        (("--set", "name=foo"), "error: --set is 'name=foo'; Self-NPO takes K, j, w, T, loss, c, p\n"),
        (("--set", "pairs=true"), "error: --set is 'pairs=true'; Self-NPO takes K"),
        (("--set", "=3"), "error: --set is '=3'; Self-NPO takes K"),
        (("--set", "K=4", "--set", "K=5"), "error: --set: K is given twice"),
        (("--set", 'loss={"a": 1}'), "error: loss is {'a': 1}; it is one of huber, squared"),
        (("--set", "beta=1"), "error: --set is 'beta=1'"),
        (("--set", "loss=l1"), "error: loss is 'l1'"),
        (
            ("--reward", "length", "--set", "j=1"),
            "error: --set is 'j=1'; Diffusion-NPO (flipped DPO) takes beta, T, p\n",
        ),
        (("--reward", "qed?wieght=2"), "wieght"),
        (("--reward", "gc"), "molecules"),
        (("--steps", "0"), "error: --steps is 0"),
        (("--batch", "0"), "error: --batch is 0"),
        (("-n", "1"), "error: -n is 1"),
        (("--lora", "-1"), "error: --lora is -1"),
        (("--ema", "1"), "error: --ema is 1"),
        (("--lr", "0"), "error: --lr is 0"),
        (("--precision", "fp8"), "error: --precision is 'fp8'"),
        (("--prompts", "missing.txt"), "error: cannot read the prompts"),
        (("--guidance", "2"), "takes no guidance: it is unconditional"),
        (("--dtype", "float8"), "float8"),
    ],
)
def test_wrong_words_for_a_training(guided, model, words, message, tmp_path):  # noqa: F811
    code, out, err = guided("npo", "train", model, "--out", tmp_path / "npo", *TRAIN, *words)
    assert code == 2 and message in err and out == ""
    assert len(err.splitlines()) == 1, err
    assert not (tmp_path / "npo").exists()


def test_other_wrong_words(guided, model, dna, trained, tmp_path):  # noqa: F811
    (tmp_path / "some.txt").write_text("human\n")
    (tmp_path / "wrong.txt").write_text("martian\n")
    config = json.loads((trained / "config.json").read_text())
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / FULL).write_bytes((trained / FULL).read_bytes()[:50])
    (tmp_path / "torn/config.json").write_text(json.dumps(config))
    (tmp_path / "six.txt").write_text("human\nyeast\n" * 3)
    six = ("--prompts", tmp_path / "six.txt")
    assert guided("sample", model, *SAMPLE, "--out", tmp_path / "drawn")[0] == 0
    train, sample = ("npo", "train"), ("sample", model, *SAMPLE, "--out", tmp_path / "run", "--negative")
    for words, message in (
        ((*train, "moleculs", "--out", tmp_path / "a", *TRAIN), "did you mean 'molecules'"),
        ((*train, model, "--out", trained, *TRAIN, "--seed", 5), "holds another negative checkpoint: training.seed"),
        ((*train, model, "--out", tmp_path / "a", *TRAIN, "--prompts", tmp_path / "some.txt"), "takes no prompts"),
        (
            (*train, dna, "--out", tmp_path / "a", *TRAIN, "--prompts", tmp_path / "wrong.txt"),
            "not a label of the model",
        ),
        ((*train, dna, "--out", tmp_path / "a", *TRAIN, "--reward", "qed"), "samples of this model are DNA"),
        ((*train, model, "--out", tmp_path / "drawn", *TRAIN), "holds a run of samples; use another folder"),
        (("sample", model, *SAMPLE, "--out", trained), "holds a checkpoint; use another --out"),
        ((*train, dna, "--out", tmp_path / "a", *TRAIN, "--lora", 2), "no layers for LoRA weights"),
        ((*train, dna, "--out", tmp_path / "a", *TRAIN, "--reward", "gc", *six), "n is 4 for 6 prompts, and a pair"),
        ((*sample, trained, "--guidance", 1), "--negative needs guidance, and --guidance 1 is none"),
        ((*sample, f"{trained}?alpha=much"), "alpha"),
        ((*sample, f"{trained}?beta=2"), "beta is 2"),
        ((*sample, f"{trained}?gamma=1"), "gamma"),
        ((*sample, tmp_path / "nowhere"), "there is no negative checkpoint"),
        ((*sample, tmp_path / "torn"), "is truncated, or no safetensors file"),
        ((*sample, tmp_path), "holds no negative checkpoint"),
        (("sample", dna, *SAMPLE, "--prompt", "human", "--negative", trained), "has another architecture"),
        (("sample", model, *SAMPLE, "--guidance", 2), "it is unconditional, and has no negative checkpoint"),
    ):
        code, _, err = guided(*words)
        assert code == 2 and message in err.splitlines()[-1], (words, err)
        assert err.startswith("error: ") and len(err.splitlines()) == 1, err
    assert not (tmp_path / "run").exists() and not (tmp_path / "a").exists()


@pytest.mark.parametrize(("words", "trusted"), [((), False), (("--trust-rewards",), True)])
def test_the_option_that_trusts_rewards_is_passed_on(guided, model, words, trusted, tmp_path, monkeypatch):  # noqa: F811
    given = {}

    def recorded(*arguments, trust_rewards, **options):
        given["trust_rewards"] = trust_rewards
        return train_negative(*arguments, trust_rewards=trust_rewards, **options)

    monkeypatch.setattr(job, "train_negative", recorded)
    code, _, err = guided("npo", "train", model, "--out", tmp_path / "npo", *TRAIN, *words)
    assert code == 0 and given == {"trust_rewards": trusted}, err


def test_unfinished(guided, model, trained):  # noqa: F811
    card = json.loads((trained / "config.json").read_text())
    card.pop("metrics")
    (trained / "config.json").write_text(json.dumps(card))
    code, _, err = guided("sample", model, *SAMPLE, "--negative", trained)
    assert code == 2 and "is not finished; give the same command again" in err and err.count("\n") == 1


def test_two_processes_make_the_checkpoint_of_one(guided, model, tmp_path):  # noqa: F811
    """As `accelerate launch` starts them."""
    assert guided("npo", "train", model, "--out", tmp_path / "one", *TRAIN)[0] == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    words = ["npo", "train", model, "--out", tmp_path / "two", *TRAIN]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "guided", *map(str, words)],
            env={**os.environ, **place, "RANK": str(i), "LOCAL_RANK": str(i), "ACCELERATE_USE_CPU": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    for process in processes:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    one, two = (load_file(tmp_path / name / FULL) for name in ("one", "two"))
    for name, w in one.items():
        torch.testing.assert_close(w.float(), two[name].float(), rtol=1e-3, atol=1e-3)
