"""Who draws a block, and when, changes nothing: the same samples, columns, cost and files."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import guided
from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.errors import GuidedError, RewardError
from guided.runs.config import RunConfig
from guided.runs.parked import parked_in
from guided.samplers import SVDD
from tests.distributed.groups import here
from tests.runs.test_sample import dna, gc
from tests.toys.chains import gaussian

RUN = {"sampler": SVDD(3), "n": 13, "batch_size": 3}


def images():
    """Four grey pixels; an image is one of 16."""
    model = dna(L=4, K=4)
    draw = lambda x: [Image.frombytes("L", (2, 2), bytes(row)) for row in (60 * x).tolist()]  # noqa: E731
    return Diffusion(model.denoiser, Masked(4, 4, 4), Codec(draw, modality="images"), timed=False)


def light(samples):
    """The mean of an image."""
    return [float(np.asarray(image).mean()) for image in samples]


MODELS = {"text": (dna(K=4), gc), "images": (images(), light), "tensors": (gaussian(K=4), lambda x: x[:, 0])}


def files(folder):
    """All files by name; of run.json what does not depend on the clock."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run = json.loads(found.pop("run.json"))
    run["stats"].pop("seconds")
    return {**found, "run.json": run}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process writes."""
    folders = {}
    for name, (model, reward) in MODELS.items():
        folders[name] = tmp_path_factory.mktemp(name) / "run"
        guided.sample(model, reward, **RUN, out=folders[name])
    return folders


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("name", MODELS)
def test_any_number_of_processes_writes_the_same_files(whole, name, size, tmp_path):
    model, reward = MODELS[name]
    lost = [0, 2, 4] if size > 1 else []
    run = guided.sample(model, reward, **RUN, out=tmp_path / "a", cluster=here(size, size, lost))
    assert files(tmp_path / "a") == files(whole[name])
    assert len(run.samples) == 13 and run.stats.network_calls > 0


def test_without_a_folder_the_run_is_the_same_too():
    one = guided.sample(dna(K=4), gc, **RUN)
    run = guided.sample(dna(K=4), gc, **RUN, cluster=here(3, 1, [1]))
    assert run.samples == one.samples and run.columns == one.columns and run.path == one.path
    assert (run.stats.network_rows, run.stats.reward_calls) == (one.stats.network_rows, one.stats.reward_calls)
    batches = list(guided.stream(dna(K=4), gc, **RUN, cluster=here(2, 2), only=[12, 0, 1]))
    assert [batch.requests for batch in batches] == [[12], [0, 1]]
    assert batches[1].samples == one.samples[:2]


@settings(max_examples=6)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3), data=st.data())
@pytest.mark.parametrize("name", ["text", "images"])
def test_killed_at_any_moment_and_resumed_with_other_processes_it_ends_with_the_same_files(
    whole, tmp_path_factory, name, seeds, data
):
    """A session that is killed leaves its parked blocks."""
    model, reward = MODELS[name]
    folder = tmp_path_factory.mktemp("killed") / "run"
    for seed in seeds:
        stream = guided.stream(model, reward, **RUN, out=folder, cluster=here(1 + seed % 4, seed))
        there = len(guided.open_run(folder).samples) if (folder / "run.json").exists() else 0
        for _ in range(there // 3 + data.draw(st.integers(0, 2))):
            next(stream, None)
        stream.close()
    guided.sample(model, reward, **RUN, out=folder)
    assert files(folder) == files(whole[name])


@pytest.mark.parametrize("name", ["text", "images"])
def test_a_parked_block_is_used_and_not_drawn_again(whole, tmp_path, name):
    model, reward = MODELS[name]
    stream = guided.stream(model, reward, **RUN, out=tmp_path, cluster=here(5, 0))
    next(stream)
    stream.close()
    rows = (whole[name] / "samples.csv").read_bytes().splitlines(keepends=True)
    assert (tmp_path / "samples.csv").read_bytes() == b"".join(rows[:4])
    place, number = next(iter(parked_in(tmp_path).items()))
    assert number > 1  # its turn does not come at once
    content = json.loads(place.read_text())
    content["rewards"] = content["columns"]["reward"] = [0.125] * 3  # what no sample of the run has
    place.write_text(json.dumps(content))
    again = guided.sample(model, reward, **RUN, out=tmp_path)
    assert again.rewards.tolist()[3 * number : 3 * number + 3] == [0.125] * 3
    assert not (tmp_path / "blocks").exists()


def test_a_parked_block_that_was_written_before_a_kill_is_not_written_again(whole, tmp_path):
    stream = guided.stream(dna(K=4), gc, **RUN, out=tmp_path, cluster=here(5, 0))
    next(stream)
    stream.close()
    left = {place: place.read_bytes() for place in parked_in(tmp_path)}
    for _ in range(2):
        (tmp_path / "blocks").mkdir(exist_ok=True)
        for place, content in left.items():  # as a kill between the two leaves it
            place.write_bytes(content)
            place.with_suffix(".json.part").write_bytes(content[:9])
        guided.sample(dna(K=4), gc, **RUN, out=tmp_path)
        assert files(tmp_path) == files(whole["text"])


def test_what_is_still_drawn_for_an_abandoned_call_is_not_taken_for_another():
    executor = here(3, 1)
    executor.open(RunConfig.of(model=dna(K=4), reward=gc, n=20), None)
    first = executor.draw([[i] for i in range(10)], None, None)
    next(first)
    first.close()
    second = dict(executor.draw([[i] for i in range(10, 16)], None, None))
    assert {place: batch.requests for place, batch in second.items()} == {i: [10 + i] for i in range(6)}


def test_parked_blocks_are_samples_of_their_run_only(tmp_path):
    stream = guided.stream(dna(K=4), gc, **RUN, out=tmp_path, cluster=here(5, 0))
    next(stream)
    stream.close()
    (tmp_path / "samples.csv").unlink()
    assert parked_in(tmp_path)
    with pytest.raises(GuidedError, match="holds another run: seed is 0 there and 1 here"):
        guided.sample(dna(K=4), gc, **RUN, seed=1, out=tmp_path)
    with pytest.raises(GuidedError, match="trust_rewards"):
        guided.sample(dna(K=4), lambda samples: gc(samples), **RUN, out=tmp_path)


def without(key):
    return lambda content: {name: value for name, value in content.items() if name != key}


DAMAGES = {
    "empty": lambda content: {},
    "no rewards": without("rewards"),
    "one sample less": lambda content: {**content, "samples": content["samples"][1:]},
    "a word": lambda content: {**content, "rewards": ["good"] * 3},
    "other requests": lambda content: {**content, "requests": [0, 1, 2]},
    "no image": lambda content: {**content, "samples": ["samples/99999.png"] * 3},
    "a list": lambda content: [content],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_block_is_drawn_again(whole, tmp_path, damage):
    stream = guided.stream(dna(K=4), gc, **RUN, out=tmp_path, cluster=here(5, 0))
    next(stream)
    stream.close()
    for place in parked_in(tmp_path):
        place.write_text(json.dumps(DAMAGES[damage](json.loads(place.read_text()))))
    guided.sample(dna(K=4), gc, **RUN, out=tmp_path)
    assert files(tmp_path) == files(whole["text"])


@pytest.mark.parametrize("size", [2, 4])
def test_a_reward_that_fails_leaves_what_one_process_leaves(tmp_path, size):
    whole = guided.sample(dna(K=4), gc, **RUN)
    bad = whole.samples[7]

    def picky(samples):
        return [math.nan if s == bad else g for s, g in zip(samples, gc(samples), strict=True)]

    for name, executor in (("one", None), ("several", here(size, 5))):
        with pytest.raises(RewardError, match="picky"):
            guided.sample(dna(K=4), picky, **RUN, out=tmp_path / name, cluster=executor)
    assert (tmp_path / "one/samples.csv").read_bytes() == (tmp_path / "several/samples.csv").read_bytes()
    assert executor.group.closed


def test_failed_scores_are_counted_here(tmp_path):
    def never(samples):
        return [math.nan] * len(samples)

    one = guided.resolve_reward(never, on_error="worst")
    several = guided.resolve_reward(never, on_error="worst")
    guided.sample(dna(K=4), one, **RUN)
    guided.sample(dna(K=4), several, **RUN, cluster=here(3))
    assert several.failures == one.failures > 0 and "returned nan" in several.first_failure


def test_a_block_that_is_lost_twice_ends_the_run_and_keeps_the_rest(tmp_path):
    with pytest.raises(GuidedError, match="requests 6 to 8 were given up"):
        guided.sample(dna(K=4), gc, **RUN, out=tmp_path, cluster=here(2, 1, [2, 2]))
    guided.sample(dna(K=4), gc, **RUN, out=tmp_path)
    assert guided.open_run(tmp_path).samples == guided.sample(dna(K=4), gc, **RUN).samples


def test_an_error_of_a_sampler_has_the_traceback_of_its_process():
    class Broken(SVDD):
        def __call__(self, model, value, streams):
            raise ZeroDivisionError("here it is")

    with pytest.raises(ZeroDivisionError, match="here it is") as caught:
        guided.sample(dna(K=4), gc, n=4, batch_size=2, sampler=Broken(2), cluster=here(2))
    assert "in __call__" in str(caught.value.__cause__)


def test_progress_goes_from_nothing_to_all():
    seen = []
    guided.sample(dna(K=4), gc, **RUN, cluster=here(3), progress=seen.append)
    done = [state.done for state in seen]
    assert done[0] == 0 and done == sorted(done) and {state.total for state in seen} == {13}


class Locked:
    """Cannot be sent."""

    def __reduce__(self):
        raise TypeError("it holds a lock")

    def __call__(self, samples):
        return gc(samples)


def test_a_reward_that_changes_is_not_mixed_with_what_it_was(tmp_path):
    """A process that loads the file later than the others would guide by another reward."""
    file = tmp_path / "r.py"
    file.write_text("def gc(texts):\n    return [(t.count('G') + t.count('C')) / len(t) for t in texts]\n")
    group = here(2)
    start = group.group.start

    def late(n):
        file.write_text(file.read_text().replace("return [", "return [-"))
        start(n)

    group.group.start = late
    with pytest.raises(GuidedError, match="file of the reward was changed"):
        guided.sample(dna(K=4), f"{file}:gc", **RUN, cluster=group)


def test_what_cannot_be_sent_is_refused_before_anything_is_drawn():
    with pytest.raises(GuidedError, match=r"reward <.*Locked.*> is in memory and cannot be sent .*holds a lock"):
        guided.stream(dna(K=4), Locked(), **RUN, devices=2)
