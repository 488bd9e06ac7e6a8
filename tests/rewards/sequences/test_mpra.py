"""Reporter networks: a file of our own against numpy, windows, refused files; the authors' files where they are."""

import csv
import gzip
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from guided.errors import RewardError
from guided.rewards.sequences import mpra
from guided.rewards.sequences.mpra import DRAGONN, OPTIMUS, TASKS, dragonn, mrl
from guided.scoring.objective import resolve_reward

ASSETS = Path(__file__).resolve().parents[4] / "shared" / "assets"
DRAGONN_FILE, OPTIMUS_FILE = ASSETS / "mpra" / "dragonn_conv.hdf5", ASSETS / "utr" / "optimus_retrained_evolution.hdf5"
Arrays = dict[str, NDArray[np.float32]]

assets = pytest.mark.skipif(not (DRAGONN_FILE.is_file() and OPTIMUS_FILE.is_file()), reason="no shared assets here")


def drawn(n: int, length: int, seed: int = 0) -> list[str]:
    return ["".join(row) for row in np.random.default_rng(seed).choice(list("ACGT"), (n, length))]


def arrays_of(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Arrays:
    source = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        spread = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.3
        arrays[name] = source.normal(0, spread, shape).astype(np.float32)
        if name.startswith(("gamma", "moving variance")):
            arrays[name] = (1 + arrays[name] ** 2).astype(np.float32)
    return arrays


def write(path: Path, arrays: Arrays, group: str = "") -> str:
    """As Keras does: two arrays to a layer here, and a layer without any, like a dropout, between them."""
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        names = list(arrays)
        layers = [f"layer_{i}" for i in range(0, len(names), 2)]
        root.attrs["layer_names"] = [name.encode() for layer in layers for name in (layer, f"{layer}_dropout")]
        for i, layer in enumerate(layers):
            mine = [f"{layer}/{name}:0" for name in names[2 * i : 2 * i + 2]]
            root.create_group(layer).attrs["weight_names"] = [name.encode() for name in mine]
            root.create_group(f"{layer}_dropout").attrs["weight_names"] = np.array([], dtype="S1")
            for name, key in zip(mine, names[2 * i : 2 * i + 2], strict=True):
                root[layer][name] = arrays[key]
    return str(path)


@pytest.fixture
def dragonn_file(tmp_path: Path) -> tuple[str, Arrays]:
    arrays = arrays_of(DRAGONN)
    return write(tmp_path / "dragonn.h5", arrays), arrays


@pytest.fixture
def optimus_file(tmp_path: Path) -> tuple[str, Arrays]:
    arrays = arrays_of(OPTIMUS)
    arrays["dense bias 2"] -= 1  # so that there are negative loads
    return write(tmp_path / "optimus.h5", arrays, "model_weights"), arrays


def hot(sequence: str) -> NDArray[np.float64]:
    """Position by letter; nothing for "-"."""
    return np.array([[float(base == letter) for letter in "ACGT"] for base in sequence])


def convolved(x: NDArray[np.float64], kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    """y[p, o] = b[o] + sum over k and c of x[p + k, c] w[k, c, o], and ReLU."""
    width = len(kernel)
    y = [bias + np.einsum("kc,kco->o", x[p : p + width], kernel.astype(float)) for p in range(len(x) - width + 1)]
    return np.maximum(y, 0)


def dragonn_by_hand(sequence: str, w: Arrays) -> NDArray[np.float64]:
    x = hot(sequence)
    for i in (1, 2, 3):
        x = convolved(x, w[f"kernel {i}"], w[f"bias {i}"])
        x = (x - w[f"moving mean {i}"]) / np.sqrt(w[f"moving variance {i}"] + 1e-3) * w[f"gamma {i}"] + w[f"beta {i}"]
    return x.reshape(-1) @ w["dense kernel"] + w["dense bias"]  # position by position


def optimus_by_hand(sequence: str, w: Arrays) -> float:
    x = convolved(convolved(hot(sequence), w["kernel 1"], w["bias 1"]), w["kernel 2"], w["bias 2"])
    hidden = np.maximum(x.reshape(-1) @ w["dense kernel 1"] + w["dense bias 1"], 0)
    return float(hidden @ w["dense kernel 2"][:, 0] + w["dense bias 2"][0])


def test_dragonn_is_the_published_network_for_each_task(dragonn_file: tuple[str, Arrays]) -> None:
    path, arrays = dragonn_file
    batch = drawn(3, 145)
    wanted = np.array([dragonn_by_hand(x, arrays) for x in batch])
    for i, task in enumerate(TASKS):
        assert dragonn(batch, path, task) == pytest.approx(wanted[:, i], abs=1e-5)
    assert dragonn([batch[0].lower().replace("t", "u")], path) == pytest.approx(wanted[:1, 8], abs=1e-5)
    assert np.ptp(wanted, axis=0).min() > 0.01


@pytest.mark.parametrize("stride", [1, 7, 11, 500])
def test_a_longer_sequence_scores_the_mean_or_the_best_of_its_windows(
    dragonn_file: tuple[str, Arrays], stride: int
) -> None:
    path, _ = dragonn_file
    batch = [*drawn(2, 170), *drawn(1, 145), *drawn(1, 156, seed=1)]
    windows = [[x[i : i + 145] for i in sorted({*range(0, len(x) - 144, stride), len(x) - 145})] for x in batch]
    for pool, pooled in (("mean", np.mean), ("max", np.max)):
        wanted = [pooled(dragonn(part, path)) for part in windows]
        assert dragonn(batch, path, stride=stride, pool=pool) == pytest.approx(wanted, abs=1e-5)


def test_optimus_is_the_published_network_on_the_utr_and_atgg(optimus_file: tuple[str, Arrays]) -> None:
    path, arrays = optimus_file
    batch = drawn(5, 50)
    wanted = [optimus_by_hand(x + "ATGG", arrays) for x in batch]
    assert min(wanted) < 0
    assert mrl(batch, path) == pytest.approx(wanted, abs=1e-5)
    assert mrl([x.lower().replace("t", "u") for x in batch], path) == pytest.approx(wanted, abs=1e-5)


def test_a_longer_utr_is_its_end_and_a_shorter_one_comes_after_zeros(optimus_file: tuple[str, Arrays]) -> None:
    path, arrays = optimus_file
    long, short = drawn(1, 80)[0], drawn(1, 20)[0]
    wanted = [optimus_by_hand(long[-50:] + "ATGG", arrays), optimus_by_hand("-" * 30 + short + "ATGG", arrays)]
    assert mrl([long, short], path) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("group", ["", "model_weights"])
def test_a_file_of_a_whole_model_and_one_of_weights_are_the_same(tmp_path: Path, group: str) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    batch, arrays = drawn(3, 50), arrays_of(OPTIMUS)
    assert mrl(batch, write(first, arrays, group)).tolist() == mrl(batch, write(second, arrays)).tolist()


def test_invalid_samples_do_not_touch_the_others(
    dragonn_file: tuple[str, Arrays], optimus_file: tuple[str, Arrays]
) -> None:
    wrong = [None, "", "ACGN" * 50]
    for reward, path, length in ((dragonn, dragonn_file[0], 150), (mrl, optimus_file[0], 50)):
        one, two = drawn(2, length)
        scores = reward([wrong[0], one, *wrong[1:], two], path)
        assert scores[[0, 2, 3]].tolist() == [-np.inf] * 3
        assert scores[[1, 4]] == pytest.approx(reward([one, two], path), abs=1e-6)
        assert reward([], path).shape == (0,) and reward([None], path).tolist() == [-np.inf]


def test_the_scores_do_not_depend_on_how_many_are_run_at_once(
    dragonn_file: tuple[str, Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = drawn(7, 150)
    whole = dragonn(batch, dragonn_file[0])
    monkeypatch.setattr(mpra, "ROWS", 3)
    assert dragonn(batch, dragonn_file[0]) == pytest.approx(whole, abs=1e-6)


def test_a_sequence_that_is_shorter_than_a_window_is_a_failure(dragonn_file: tuple[str, Arrays]) -> None:
    spec = f"dragonn?weights={dragonn_file[0]}"
    long, short = drawn(1, 145)[0], "ACGT"
    with pytest.raises(RewardError, match="windows of 145 bp, given a sequence of 4, for sample 'ACGT'"):
        resolve_reward(spec)([long, short])
    scores = resolve_reward(spec, on_error="worst")([long, short])
    assert scores.isfinite().tolist() == [True, False]


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = mpra.read_weights
    monkeypatch.setattr(mpra, "read_weights", lambda *args: reads.append(args) or read(*args))
    path, batch = tmp_path / "optimus.h5", drawn(2, 50)
    before = mrl(batch, write(path, arrays_of(OPTIMUS)))
    assert mrl(batch, str(path)).tolist() == before.tolist() and len(reads) == 1
    write(path, arrays_of(OPTIMUS, seed=1))
    os.utime(path, ns=(1, 1))
    assert mrl(batch, str(path)).tolist() != before.tolist() and len(reads) == 2


def refused(spec: str) -> str:
    with pytest.raises(ValueError, match=r"reward '(dragonn|mrl)': .*") as caught:
        resolve_reward(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_missing_cut_short_or_something_else_is_refused(
    tmp_path: Path, optimus_file: tuple[str, Arrays]
) -> None:
    whole = Path(optimus_file[0]).read_bytes()
    for size in (0, 10, 3000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.h5").write_bytes(whole[:size])
        assert "is not a whole HDF5 file" in refused(f"mrl?weights={tmp_path / 'cut.h5'}")
    (tmp_path / "text.h5").write_text("no HDF5 here\n" * 1000)
    assert "is not a whole HDF5 file" in refused(f"mrl?weights={tmp_path / 'text.h5'}")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    assert "holds no weights of Keras 2" in refused(f"mrl?weights={tmp_path / 'other.h5'}")
    for path in (tmp_path / "nothing.h5", tmp_path):
        assert f"there is none at '{path}'" in refused(f"dragonn?weights={path}")


def test_another_architecture_is_refused_with_what_differs(
    tmp_path: Path, dragonn_file: tuple[str, Arrays], optimus_file: tuple[str, Arrays]
) -> None:
    said = refused(f"mrl?weights={dragonn_file[0]}")
    assert "layer_0/kernel 1:0 has shape (5, 4, 120), where kernel 1 has shape (8, 4, 40)" in said
    arrays = optimus_file[1]
    wide = {**arrays, "dense kernel 1": np.zeros((1600, 41), dtype=np.float32)}
    said = refused(f"mrl?weights={write(tmp_path / 'a.h5', wide)}")
    assert "dense kernel 1:0 has shape (1600, 41), where dense kernel 1 has shape (1600, 40)" in said
    turned = {**arrays, "kernel 1": arrays["kernel 1"].reshape(4, 8, 40)}
    assert "has shape (4, 8, 40)" in refused(f"mrl?weights={write(tmp_path / 'turned.h5', turned)}")
    fewer = {name: array for name, array in arrays.items() if name != "dense bias 2"}
    assert "holds 7 arrays, and Optimus 5-Prime" in refused(f"mrl?weights={write(tmp_path / 'b.h5', fewer)}")
    more = {**arrays, "another": np.zeros(3, dtype=np.float32)}
    assert "holds 9 arrays" in refused(f"mrl?weights={write(tmp_path / 'c.h5', more)}")
    broken = {**arrays, "bias 2": np.full(40, np.nan, dtype=np.float32)}
    assert "bias 2:0 holds a number that is not finite" in refused(f"mrl?weights={write(tmp_path / 'd.h5', broken)}")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("task=hepg2_minp", "unknown task 'hepg2_minp' (did you mean 'hepg2_minp_"),
        ("stride=0", "stride is a number of bp, at least 1, given 0"),
        ("pool=median", "pool is 'mean' or 'max', given 'median'"),
    ],
)
def test_wrong_parameters_are_known_at_construction(dragonn_file: tuple[str, Arrays], query: str, said: str) -> None:
    assert said in refused(f"dragonn?weights={dragonn_file[0]}&{query}")


def test_an_array_of_terabytes_is_refused_by_its_shape(tmp_path: Path, optimus_file: tuple[str, Arrays]) -> None:
    """A file of some kilobytes may say that it holds one, all of one number."""
    path = write(tmp_path / "fill.h5", optimus_file[1])
    with h5py.File(path, "a") as file:
        del file["layer_0/layer_0/kernel 1:0"]
        file["layer_0"].create_dataset(
            "layer_0/kernel 1:0", (10**5, 10**5, 100), "f4", fillvalue=1.0, chunks=(1, 10, 10)
        )
    assert "kernel 1:0 has shape (100000, 100000, 100), where" in refused(f"mrl?weights={path}")
    with h5py.File(path, "a") as file:
        del file["layer_0/layer_0/kernel 1:0"]
        file["layer_0"]["layer_0/kernel 1:0"] = np.full((8, 4, 40), b"text")
    assert "HDF5 file" in refused(f"mrl?weights={path}")


def test_without_h5py_the_message_says_what_to_install(
    optimus_file: tuple[str, Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install guided"):
        resolve_reward(f"mrl?weights={optimus_file[0]}")


@assets
def test_the_published_networks_give_their_published_numbers() -> None:
    with np.load(ASSETS / "parity" / "dragonn.npz") as known:
        for i, task in enumerate(TASKS):
            scores = dragonn(known["sequences"].tolist(), str(DRAGONN_FILE), task)
            assert np.abs(scores - known["out_f64"][:, i]).max() < 1e-5
    with np.load(ASSETS / "parity" / "optimus.npz") as known:
        for utr, load in (("utr", "out_f64"), ("utr_with_uATG", "out_with_uATG_f64")):
            assert np.abs(mrl(known[utr].tolist(), str(OPTIMUS_FILE)) - known[load]).max() < 1e-5


@assets
def test_optimus_ranks_measured_utrs_as_published() -> None:
    with gzip.open(ASSETS / "utr" / "human_utr_snv.tsv.gz", "rt") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    ranks = ranked(mrl([row["utr"] for row in rows], str(OPTIMUS_FILE)))
    for column, least in (("observed_mrl", 0.815), ("optimus_main_prediction", 0.945)):
        others = ranked(np.array([float(row[column]) for row in rows]))
        assert np.corrcoef(ranks, others)[0, 1] >= least


def ranked(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, equal values sharing the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]
