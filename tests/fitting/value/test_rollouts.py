"""Rollouts: the chain's own distribution, the same for (seed, i) whatever else is drawn, and whole after a kill."""

import io
import zipfile

import numpy as np
import pytest
import torch

from guided.core.random import Streams
from guided.fitting.value.rollouts import Rollouts, read, roll, rollout
from guided.fitting.value.shards import Layout
from guided.fitting.value.states import Data
from guided.values.posterior_mean import PosteriorMean
from tests.samplers.test_svdd import distance
from tests.toys.chains import gaussian
from tests.toys.values import BASES, CHAIN, chain_reward, dna, occupancy

OPTIONS = {"seed": 3, "states": 2, "candidates": 3}
LAYOUT = Layout.of(CHAIN.model(), 2, 3)


def rolled(path, n, batch_size, **options):
    given = {**OPTIONS, **options}
    roll(lambda block: CHAIN.model(), chain_reward, path, n, batch_size=batch_size, **given)
    return read(path, n, batch_size, Layout.of(CHAIN.model(), given["states"], given["candidates"]))


def test_states_and_candidates_have_the_law_of_the_chain(tmp_path):
    n, S = 20_000, len(CHAIN.states)
    rollouts = rolled(tmp_path, n, n, states=3)
    assert rollouts.x.dtype == torch.uint8 and rollouts.x.shape == (3 * n, CHAIN.L)
    for k, distribution in enumerate(occupancy()):
        state = CHAIN.index(rollouts.x[rollouts.k == k].long())
        assert distance(torch.bincount(state, minlength=S) / n, distribution) < 0.015
        mean = rollouts.r[rollouts.of[rollouts.k == k]].mean()
        assert abs(mean - CHAIN.distribution() @ chain_reward(CHAIN.states)) < 0.01
    last = rollouts.k == CHAIN.K - 1
    start, ends = CHAIN.index(rollouts.x[last].long()), CHAIN.index(rollouts.following[last].long())
    assert torch.equal(chain_reward(rollouts.following[last].long()), rollouts.last)
    x, following = (part.unflatten(0, (n, 3)) for part in (rollouts.x, rollouts.following))
    assert torch.equal(x[:, 1:], following[:, :-1, 0])  # a trajectory goes on with the first candidate
    assert torch.equal(rollouts.r, rollouts.last[:, 0])
    common = start.mode().values
    distribution = torch.bincount(ends[start == common].flatten(), minlength=S).double()
    assert distance(distribution / distribution.sum(), CHAIN.transition(CHAIN.K - 1)[common]) < 0.03


def test_a_trajectory_depends_on_the_seed_and_its_number_only(tmp_path):
    whole = rolled(tmp_path / "a", 20, 20)
    for name, (n, batch_size) in {"b": (20, 7), "c": (9, 4)}.items():
        part = rolled(tmp_path / name, n, batch_size)
        for field in ("x", "k", "r", "following", "last"):
            given = getattr(whole, field)
            assert torch.equal(getattr(part, field), given[: n * len(given) // 20])
    assert not torch.equal(rolled(tmp_path / "d", 20, 20, seed=4).x, whole.x)


def test_more_can_be_added_and_fewer_be_read(tmp_path):
    first = rolled(tmp_path, 6, 4)
    before = (tmp_path / "00000.npz").stat().st_mtime_ns
    more, whole = rolled(tmp_path, 10, 4), rolled(tmp_path / "whole", 10, 4)
    assert torch.equal(more.x, whole.x) and torch.equal(more.r, whole.r)
    assert torch.equal(rolled(tmp_path, 5, 4).r, first.r[:5])
    assert (tmp_path / "00000.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize("kept", [0, 10, 300, -1, None])
def test_a_torn_file_is_drawn_again(tmp_path, kept):
    rolled(tmp_path, 8, 4)
    file = tmp_path / "00001.npz"
    whole = file.read_bytes()
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(whole[:kept])
    with pytest.raises(ValueError, match=r"00001\.npz is missing or truncated"):
        read(tmp_path, 8, 4, LAYOUT)
    rolled(tmp_path, 8, 4)
    assert file.read_bytes() == whole


def without(name):
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def changed(name, change):
    return lambda arrays: {**arrays, name: change(arrays[name])}


DAMAGE = {
    **{f"no {name}": without(name) for name in ("x", "k", "r", "rows", "following")},
    "another array": lambda arrays: {**arrays, "y": arrays["x"]},
    "another kind": lambda arrays: {"embedding": np.zeros((4, 2))},
    "text for rows": changed("x", lambda x: np.full(x.shape, "a")),
    "real numbers for tokens": changed("x", lambda x: x.astype(np.float32)),
    "a token too many": changed("x", lambda x: np.full_like(x, CHAIN.V + 1)),
    "a candidate of no token": changed("following", lambda x: np.full_like(x, 255)),
    "a step too many": changed("k", lambda k: k + CHAIN.K),
    "a step below 0": changed("k", lambda k: k - CHAIN.K),
    "a step twice": changed("k", lambda k: k[:, [0, 0]]),
    "no reward": changed("r", lambda r: r * np.nan),
    "an endless reward": changed("r", lambda r: r + np.inf),
    "rewards of the trajectory alone": changed("r", lambda r: r[:, :1]),
    "rewards without candidates": changed("r", lambda r: r[:, 0]),
    "one reward": changed("r", lambda r: r[0, 0]),
    "a trajectory less": lambda arrays: {key: a[:3] if a.ndim else a for key, a in arrays.items()},
    "another length": changed("x", lambda x: x[..., :1]),
    "other states": lambda arrays: {**arrays, "x": arrays["x"][:, :1], "k": arrays["k"][:, :1]},
    "two counts of rows": changed("rows", lambda rows: np.array([1, 2])),
    "rows below 0": changed("rows", lambda rows: rows - 10**6),
    "an object": changed("r", lambda r: np.array([{}] * 4, dtype=object)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_of_other_arrays_is_drawn_again(tmp_path, damage):
    """Never read as it is: a value would be fitted to it, or a network be given a token that it does not have."""
    rolled(tmp_path, 4, 4)
    file = tmp_path / "00000.npz"
    whole = file.read_bytes()
    with np.load(file) as arrays:
        np.savez(file, **damage(dict(arrays)))
    with pytest.raises(ValueError, match=r"00000\.npz is missing or truncated"):
        read(tmp_path, 4, 4, LAYOUT)
    rolled(tmp_path, 4, 4)
    assert file.read_bytes() == whole


def test_no_memory_is_taken_for_an_array_of_terabytes(tmp_path, monkeypatch):
    """Shapes are read from the headers, and no array before they are as expected."""
    rolled(tmp_path, 4, 4)
    file, header = tmp_path / "00000.npz", io.BytesIO()
    with np.load(file) as arrays:
        np.savez(file, **without("r")(dict(arrays)))
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3)})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("r.npy", header.getvalue())
    monkeypatch.setattr(np, "load", lambda *given, **options: pytest.fail("an array was read"))
    with pytest.raises(ValueError, match="is missing or truncated"):
        read(tmp_path, 4, 4, LAYOUT)


def test_rollouts_share_no_noise_with_samples(tmp_path, monkeypatch):
    """Their streams are of another purpose, so beyond those of any run, whatever its seed."""
    asked = []

    def watched(seed, requests, device, purpose):
        asked.extend((i, purpose) for i in requests)
        return Streams(seed, requests, device, purpose)

    monkeypatch.setattr("guided.fitting.value.rollouts.Streams", watched)
    rolled(tmp_path, 9, 4)
    assert asked == [(i, "rollouts") for i in range(9)]


@pytest.mark.parametrize("states", [1, 2, 3, 50])
def test_steps_are_a_random_subset_and_hold_the_last_if_they_branch(states):
    K = CHAIN.K
    k = torch.from_numpy(rollout(CHAIN.model(), chain_reward, Streams(0, range(3000)), states)["k"])
    assert k.shape == (3000, min(states, K)) and (k.diff(dim=1) > 0).all()
    shares = torch.bincount(k.flatten().long(), minlength=K) / len(k)
    assert (shares - min(states, K) / K).abs().max() < 0.04
    branching = rollout(CHAIN.model(), chain_reward, Streams(0, range(5)), states, 2)
    assert (branching["k"][:, -1] == K - 1).all()


def test_rows_are_those_of_the_trajectories_alone():
    """Candidates come from the network's output for the trajectory: they cost no rows."""
    for candidates in (1, 5):
        model = gaussian(K=6)
        found = rollout(model, lambda x: x[:, 0], Streams(0, range(4)), 3, candidates)
        assert model.denoiser.rows == 4 * 6 == int(found["rows"])
        assert found["r"].shape == (4, candidates)


def test_rewards_are_given_the_prompts():
    def own(samples, prompts):
        return [float(sum(letter in prompt for letter in s)) for s, prompt in zip(samples, prompts, strict=True)]

    own.prompted = True
    model = dna().prompted(["AT", "GC"])
    r = rollout(model, own, Streams(0, [0, 1]), 1)["r"]
    assert (r > 6).all() and len(BASES) == 3
    assert PosteriorMean(own)(
        model.restart(torch.zeros(2, 1, 12, dtype=torch.long), 4, Streams(0, [0, 1]))
    ).tolist() == [
        [12.0],
        [0.0],
    ]


@pytest.mark.parametrize("prompts", [1, 2, 4, 5, 10])
def test_every_prompt_is_on_both_sides_of_the_split(prompts: int) -> None:
    n = 10 * prompts + 3
    of = torch.arange(n).repeat_interleave(2)
    states = len(of)
    rollouts = Rollouts(
        x=torch.zeros(states, 2, dtype=torch.long),
        k=torch.zeros(states, dtype=torch.long),
        of=of,
        r=torch.zeros(n, dtype=torch.float64),
        last=torch.zeros(n, 1, dtype=torch.float64),
        following=None,
        rows=0,
    )
    for part in Data.split(rollouts, [1.0, 0.0], prompts, torch.device("cpu")):
        assert part.prompt.unique().tolist() == list(range(prompts))
