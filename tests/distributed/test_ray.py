"""Ray's local cluster: an actor that is killed changes nothing, and rewards are tasks."""

import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pytest
import torch

import guided
from guided.distributed import Ray, on_ray, tasks
from guided.distributed.tasks import Needs, spread
from guided.errors import GuidedError, RewardError
from guided.samplers import SVDD
from tests.runs.test_sample import dna, gc

RUN = {"sampler": SVDD(3), "n": 9, "batch_size": 2}


@pytest.fixture
def cluster(monkeypatch):
    """A cluster on this machine, as small as it can be."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=78 * 2**20, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_listens_is_refused_at_once(address):
    with pytest.raises(GuidedError, match=f"no Ray cluster at '{address}'"):
        tasks._check_listens(address)


def test_a_killed_actor_changes_nothing_and_rewards_are_tasks(cluster, tmp_path):
    """An actor is killed at a random call of its reward, which is not the same one in each run of this test."""
    marker, at = tmp_path / "killed", int(time.time_ns() % 20)

    def fatal(samples, seen=[]):  # noqa: B006  counts the calls in a process
        seen.append(1)
        if len(seen) > at and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return gc(samples)

    one = guided.sample(dna(), gc, **RUN, out=tmp_path / "one")
    run = guided.sample(dna(), fatal, **RUN, out=tmp_path / "two", cluster=Ray(actors=2, cpus=0.5))
    assert marker.exists(), at
    assert run.samples == one.samples and run.rewards.tolist() == one.rewards.tolist()
    rows = [(tmp_path / name / "samples.csv").read_text().splitlines()[1:] for name in ("one", "two")]
    assert rows[0] == rows[1]

    tasks = on_ray(gc, tasks=2, cpus=0.5)
    few = guided.sample(dna(), tasks, SVDD(2), n=2, steps=2, out=tmp_path / "three", trust_rewards=True)
    assert few.samples == guided.sample(dna(), gc, SVDD(2), n=2, steps=2).samples
    assert cluster.is_initialized()  # it is not ours


def scored(samples):
    """Lengths; a bad sample raises."""
    if "bad" in samples:
        raise ValueError("it is bad")
    return [float(len(s)) for s in samples]


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 100])
def test_scores_come_back_in_their_order_from_any_number_of_tasks(tasks):
    plain = guided.resolve_reward("sa")
    samples = ["C" * n for n in range(1, 8)]
    with ThreadPoolExecutor(3) as executor:
        split = spread(plain, Needs(), tasks, executor)
        assert torch.equal(split(samples), plain(samples)) and split.identity == plain.identity
        rows = spread(guided.resolve_reward(lambda x: x.sum(1)), Needs(), tasks, executor)
        assert rows(np.arange(12.0).reshape(6, 2)).tolist() == [1, 5, 9, 13, 17, 21]


def test_tasks_keep_their_scores_in_the_cache_and_take_the_place_of_workers(tmp_path):
    def counted(samples):
        with (tmp_path / "calls").open("a") as file:
            file.write("".join(f"{s}\n" for s in samples))
        return scored(samples)

    plain = guided.resolve_reward(counted, workers=2, cache=tmp_path / "cache", trust_rewards=True)
    with ThreadPoolExecutor(2) as executor:
        split = spread(plain, Needs(), 2, executor)
        assert split(["a", "bb"]).tolist() == [1, 2]
        sent = pickle.loads(cloudpickle.dumps(split.terms[0].cache))
        assert sent.path == tmp_path / "cache"
        again = spread(plain, Needs(), 2, executor)
        assert again(["bb", "a", "ccc"]).tolist() == [2, 1, 3]
    assert sorted((tmp_path / "calls").read_text().split()) == ["a", "bb", "ccc"]
    split.close(), again.close(), plain.close()


def test_a_task_that_fails_blames_its_sample():
    with ThreadPoolExecutor(3) as executor:
        strict = spread(guided.resolve_reward(scored), Needs(), 2, executor)
        with pytest.raises(RewardError, match=r"reward 'scored' raised ValueError: it is bad, for sample 'bad'"):
            strict(["a", "bad", "ccc"])
        lenient = spread(guided.resolve_reward(scored, on_error="worst"), Needs(), 2, executor)
        assert lenient(["a", "bad", "ccc"]).tolist() == [1, float("-inf"), 3] and lenient.failures == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "rya"}, r"cluster is 'rya' \(did you mean 'ray'\?\)"),
        ({"cluster": "ray?gpu=1"}, r"ray has no option 'gpu' \(did you mean 'gpus'\?\); it takes cpus, gpus"),
        ({"cluster": "ray?gpus=-1"}, "gpus is -1"),
        ({"cluster": "ray", "devices": "cpu,cpu"}, r"devices is \['cpu', 'cpu'\]; with cluster it must be a number"),
        ({"cluster": 3}, "cluster is an int; it must be ray, or an executor"),
        ({"devices": 0}, "devices is 0"),
        ({"devices": "cpu,"}, "devices is 'cpu,'"),
        ({"devices": [1, 2]}, r"devices is \[1, 2\]"),
        ({"devices": "cpu,tpu"}, "device 'tpu' is unknown"),
        ({"devices": "cpu,cpu", "device": "cpu"}, "leave out device"),
        ({"devices": "cuda:0,cuda:99"}, "'cuda:(0|99)' is not available"),
    ],
)
def test_wrong_places_are_told_before_anything_is_loaded(options, message):
    with pytest.raises(GuidedError, match=message):
        guided.stream("rna", "gc", **options)
