"""Laws of the objective: what a specification stands for, each sample scored once, and the failure policy."""

import importlib.metadata
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guided.errors import GuidedError, RewardError
from guided.scoring import limits, objective, registry, sources
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import register_reward
from guided.scoring.specification import unique_names

WORST = -math.inf


def lengths(samples: list[str]) -> list[float]:
    """Letters of a sample."""
    return [float(len(sample)) for sample in samples]


def scaled(samples: list[str], factor: float, offset: int = 0, upper: bool = False) -> list[float]:
    return [factor * len(sample) + offset + 100 * upper for sample in samples]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A copy of the table of rewards, so that what a test registers ends with it."""
    monkeypatch.setattr(registry, "_table", dict(registry._table))
    yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_reward.py"
    path.write_text(
        "from helper import two\n"
        "def double(samples, times: int = 1):\n    return [two * times * len(s) for s in samples]\n"
        "def reward(samples):\n    return [1.0] * len(samples)\n"
    )
    (tmp_path / "helper.py").write_text("two = 2\n")
    return path


# What a specification stands for


@pytest.mark.usefixtures("table")
def test_every_kind_of_specification_scores_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register_reward("letters")(lengths)
    (tmp_path / "letters_module.py").write_text("def f(samples):\n    return [float(len(s)) for s in samples]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    specs: list[Any] = ["letters", lengths, "letters_module:f", "letters_module.py:f", "./letters_module.py:f"]
    specs += [{"letters": 3.0}, {lengths: 1}, ["letters"], "letters?weight=2", lambda samples: lengths(samples)]
    for spec in specs:
        rewards = resolve_reward(spec)(["a", "bcd"])
        assert rewards.tolist() == [1.0, 3.0] and rewards.dtype == torch.float64 and rewards.shape == (2,)


def test_an_entry_point_of_an_installed_package_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("letters", f"{__name__}:lengths", "guided.rewards")
    monkeypatch.setattr(type(point), "load", lambda self: lengths)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == "guided.rewards" else [])
    assert resolve_reward("letters")(["abc"]).tolist() == [3.0]
    with pytest.raises(GuidedError, match="did you mean 'letters'"):
        resolve_reward("leters")


def test_parameters_are_converted_to_the_annotated_types() -> None:
    here = Path(__file__)
    assert resolve_reward(f"{here}:scaled?factor=0.5&offset=2&upper=true")(["ab"]).tolist() == [103.0]
    assert resolve_reward(f"{here}:scaled?factor=2&upper=false")(["ab"]).tolist() == [4.0]


def test_a_file_sees_its_neighbours_and_gives_its_name_to_a_function_called_reward(file: Path) -> None:
    assert resolve_reward(f"{file}:double?times=3")(["ab"]).tolist() == [12.0]
    assert list(resolve_reward(f"{file}:reward").columns(["a"])) == ["my_reward_raw", "my_reward", "reward"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("qde", "did you mean 'qed'"),
        ("FILE:doubel", "it has double, reward"),
        ("FILE", "it has double, reward"),
        ("nowhere.py:f", "no Python file 'nowhere.py'"),
        ("nowhere.py", "no such file"),
        ("no.such.module:f", "'no.such.module' cannot be imported"),
        ("math:nosuch", "math has no function 'nosuch'"),
        ("math:pi", "not a function"),
        ("FILE:double?tmes=2", "no parameter 'tmes' (did you mean 'times'?)"),
        ("FILE:double?times=x", "takes a whole number, given 'x'"),
        ("FILE:double?times", "expected key=value"),
        ("FILE:double?times=1&times=2", "given twice"),
        ("similarity", "needs 'target'"),
        ("qed?weight=0", "weight is a number > 0, given '0'"),
        ("qed?weight=nan", "weight is a number > 0"),
        ({"qed": -1}, "weight is a number > 0, given -1"),
        ({"qed": "much"}, "weight is a number > 0, given 'much'"),
        ({"qed?weight=2": 1}, "two weights"),
        ("qed?linear=0", "linear=a,b"),
        ("qed?linear=0,1&window=0,1", "more than one transform: linear, window"),
        ("exec:no-such-program --fast", "no executable program"),
        ("exec:", "no executable program"),
        ("exec:python 'x", "No closing quotation"),
        ("", "unknown reward ''"),
        ([], "at least one"),
        ({}, "at least one"),
        (3, "given 3"),
        ({3: 1.0}, "given 3"),
    ],
)
def test_a_wrong_specification_is_one_clear_line_at_construction(spec: Any, said: str, file: Path) -> None:
    if isinstance(spec, str):
        spec = spec.replace("FILE", str(file))
    with pytest.raises(GuidedError) as caught:
        resolve_reward(spec)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"aggregate": "sum"}, {"on_error": "ignore"}, {"time_limit": 0}])
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(GuidedError, match=next(iter(wrong))):
        resolve_reward("qed", **wrong)


def test_a_file_that_fails_is_one_clear_line(tmp_path: Path) -> None:
    for text in (
        "def f(:\n",
        "import nothing_of_that_name\n",
        "1 / 0\n",
        "exit(2)\n",
        "raise ValueError('two\\nlines')\n",
    ):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(GuidedError, match=r"bad\.py' fails") as caught:
            resolve_reward(f"{tmp_path}/bad.py:f")
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("table")
def test_a_name_belongs_to_one_function() -> None:
    register_reward("mine")(lengths)
    register_reward("mine")(lengths)  # a cell of a notebook that runs twice
    with pytest.raises(ValueError, match=r"already registered by .*lengths"):
        register_reward("mine")(scaled)
    for name in ("", "a b", "a:b", "a?b"):
        with pytest.raises(ValueError, match="name"):
            register_reward(name)


# Aggregation and columns


@pytest.mark.usefixtures("table")
def test_columns_are_raw_transformed_and_aggregated() -> None:
    register_reward("letters", transform="linear=0,10")(lengths)
    made = resolve_reward(["letters", "letters?weight=3&linear=10,0", {lambda samples: [0.5] * len(samples): 4}])
    columns = made.columns(["a", "bcd"])
    assert list(columns) == ["letters_raw", "letters", "letters#2_raw", "letters#2", "lambda_raw", "lambda", "reward"]
    assert columns["letters#2_raw"] == [1, 3] and columns["letters#2"] == [0.9, 0.7]
    assert columns["reward"] == pytest.approx([(0.1 + 2.7 + 2) / 8, (0.3 + 2.1 + 2) / 8])
    assert made(["a", "bcd"]).tolist() == columns["reward"]
    product = resolve_reward(["letters", "letters?weight=3&linear=10,0"], aggregate="product")
    assert product(["bcd"]).item() == pytest.approx((0.3 * 0.7**3) ** 0.25)
    assert product.name == "product(letters, letters#2)"


@given(st.lists(st.sampled_from(["a", "a_raw", "a_raw_raw", "a#2", "reward", "sample"]), max_size=6))
def test_no_two_columns_share_a_name(labels: list[str]) -> None:
    names = unique_names(labels)
    columns = [*names, *[f"{name}_raw" for name in names], "request", "seed", "sample", "reward"]
    assert len(columns) == len(set(columns)) == 2 * len(labels) + 4


def test_a_negative_score_under_a_product_says_so() -> None:
    made = resolve_reward([lengths, lambda samples: [-0.5] * len(samples)], aggregate="product")
    with pytest.raises(RewardError, match=r"'lambda' gave -0\.5 for sample 'abc'.*transform"):
        made(["abc"])


def test_minus_infinity_is_legal_and_the_worst() -> None:
    for aggregate in ("mean", "product"):
        made = resolve_reward([lengths, lambda samples: [WORST] * len(samples)], aggregate=aggregate)
        assert made(["a"]).tolist() == [WORST] and made.failures == 0


def test_no_samples_have_no_rewards() -> None:
    made = resolve_reward(["qed", "sa"])
    assert made([]).shape == (0,) and made.columns([]) == {
        name: [] for name in ("qed_raw", "qed", "sa_raw", "sa", "reward")
    }


# Each sample once


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text("ab", max_size=3), max_size=8), max_size=5))
def test_equal_texts_are_scored_once(batches: list[list[str]]) -> None:
    seen: list[str] = []

    def spy(samples: list[str]) -> list[float]:
        seen.extend(samples)
        return lengths(samples)

    made = resolve_reward([spy])
    for batch in batches:
        assert made(batch).tolist() == lengths(batch)
        assert made.columns(batch)["reward"] == lengths(batch)
    assert sorted(seen) == sorted({sample for batch in batches for sample in batch})
    assert made.calls == len(seen)


def test_samples_that_are_not_text_are_each_scored() -> None:
    made = resolve_reward(lambda images: [image.mean() for image in images])
    image = torch.full((3, 2, 2), 2.0)
    assert made([image, image]).tolist() == [2.0, 2.0] and made.calls == 2
    made([image])
    assert made.calls == 3


def test_clear_forgets_and_the_memo_is_bounded_by_the_least_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "MEMO_SIZE", 2)
    made = resolve_reward(lengths)
    made(["a", "b"])
    made(["a", "c"])  # forgets b
    made(["a", "c"])
    assert made.calls == 3
    made(["b"])
    assert made.calls == 4
    made.clear()
    made(["b"])
    assert made.calls == 5


def test_samples_that_are_not_text_take_no_place_in_the_memo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "MEMO_SIZE", 1)
    made = resolve_reward(lambda samples: [1.0] * len(samples))
    made(["a"])
    made([torch.zeros(1), torch.zeros(1)])
    made(["a"])
    assert made.calls == 3


# Rebuilding and comparing


def test_a_spec_rebuilds_an_equal_objective(file: Path) -> None:
    specs = ["qed", {"qed": 2, "sa?linear=5,1": 1}, "substructure?smarts=C&sigmoid=0.5,3", f"{file}:double?times=2"]
    for spec in specs:
        made = resolve_reward(spec, aggregate="product")
        again = resolve_reward(json.loads(json.dumps(made.spec)))
        assert again.spec == made.spec and again.columns(["CCO", "CO"]) == made.columns(["CCO", "CO"])


def test_ways_of_writing_the_same_have_the_same_spec() -> None:
    assert resolve_reward("sa").spec == resolve_reward({"sa?linear=10,1": 1}).spec == resolve_reward(["sa"]).spec
    assert resolve_reward("sa").spec != resolve_reward("sa?linear=9,1").spec
    assert resolve_reward("sa").spec != resolve_reward("sa?weight=2").spec
    assert resolve_reward(["sa", "qed"]).spec != resolve_reward(["sa", "qed"], aggregate="product").spec


def test_a_changed_file_is_noticed(file: Path) -> None:
    before = resolve_reward(f"{file}:reward").spec
    file.write_text(file.read_text().replace("1.0", "2.0"))  # the same second and the same size
    assert resolve_reward(f"{file}:reward").spec != before
    assert resolve_reward(f"{file}:reward")(["a"]).tolist() == [2.0]
    with pytest.raises(GuidedError, match="has changed"):
        resolve_reward(before)


@pytest.mark.usefixtures("table")
def test_a_function_has_an_identity_but_cannot_be_rebuilt() -> None:
    made = resolve_reward(lengths)
    assert made.spec is None and made.identity["terms"][0]["reward"] == f"{__name__}:lengths"
    register_reward("letters")(lengths)
    assert resolve_reward(lengths).spec == resolve_reward("letters").spec is not None


def test_an_objective_stands_for_itself() -> None:
    made = resolve_reward("qed")
    assert resolve_reward(made) is made


# The failure policy


def fails_on(bad: str, how: Callable[[], object]) -> Callable[[list[str]], object]:
    """A reward that does something else than scoring when the batch holds `bad`."""

    def reward(samples: list[str]) -> object:
        return how() if bad in samples else lengths(samples)

    return reward


def raises() -> object:
    raise KeyError("no\nsuch")


def exits() -> object:
    raise SystemExit(3)


FAILURES: dict[str, tuple[Callable[[], object], str]] = {
    "raises": (raises, "raised KeyError: 'no\\nsuch'"),
    "exits": (exits, "raised SystemExit: 3"),
    "nothing": (lambda: None, "returned None, wanted a sequence of 1 numbers"),
    "too few": (lambda: [], "returned 0 scores for 1 sample"),
    "a number": (lambda: 1.0, "returned 1.0, wanted"),
    "a text": (lambda: "1", "returned '1', wanted"),
    "a dictionary": (lambda: {"a": 1}, "returned {'a': 1}, wanted"),
    "a column": (lambda: np.ones((1, 1)), "an array of shape (1, 1), wanted (1,)"),
    "a matrix": (lambda: torch.ones(2, 1), "an array of shape (2, 1), wanted (1,)"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_batch_blames_the_guilty_sample(name: str) -> None:
    how, said = FAILURES[name]
    batch = ["a", "bb", "bad", "cc"]
    with pytest.raises(RewardError) as caught:
        resolve_reward({fails_on("bad", how): 1.0})(batch)
    assert "reward 'reward#1'" in str(caught.value) and "for sample 'bad'" in str(caught.value)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    made = resolve_reward(fails_on("bad", how), on_error="worst")
    assert made(batch).tolist() == [1, 2, WORST, 2]
    assert made.failures == 1 and said in str(made.first_failure)


@pytest.mark.parametrize("score", [math.nan, math.inf, None, "1", [1.0], np.float64("nan"), torch.tensor(math.nan), 1j])
def test_a_score_that_is_no_number_is_blamed_on_its_sample(score: object) -> None:
    calls = []

    def reward(samples: list[str]) -> list[object]:
        calls.append(len(samples))
        return [score if sample == "bad" else 1.0 for sample in samples]

    with pytest.raises(RewardError, match=r"reward 'reward#1' returned .*for sample 'bad'"):
        resolve_reward(reward)(["a", "bad", "b"])
    made = resolve_reward(reward, on_error="worst")
    assert made(["a", "bad", "b"]).tolist() == [1, WORST, 1] and made.failures == 1
    assert calls == [3, 3]  # the guilty one is known: nothing is scored again


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        np.array,
        torch.tensor,
        lambda scores: torch.tensor(scores, dtype=torch.bfloat16),
        lambda scores: torch.tensor(scores, requires_grad=True),
        lambda scores: [torch.tensor(score) for score in scores],
        lambda scores: [np.float32(score) for score in scores],
        lambda scores: np.array(scores, dtype=object),
    ],
)
def test_scores_come_in_any_sequence_of_numbers(convert: Callable[[list[float]], object]) -> None:
    assert resolve_reward(lambda samples: convert([0.5, 2.0]))(["a", "b"]).tolist() == [0.5, 2.0]
    assert resolve_reward(lambda samples: np.array([True, False]))(["a", "b"]).tolist() == [1, 0]
    assert resolve_reward(lambda samples: [True, 3])(["a", "b"]).tolist() == [1, 3]


def test_a_batch_that_fails_where_no_sample_does() -> None:
    def mean_of_all(samples: list[str]) -> list[float]:
        return [float(np.mean(lengths(samples)))]

    with pytest.raises(
        RewardError, match=r"returned 1 score for 3 samples; it must return one number for each sample, as it does when"
    ):
        resolve_reward(mean_of_all)(["a", "bb", "ccc"])
    made = resolve_reward(mean_of_all, on_error="worst")
    assert made(["a", "bb", "ccc"]).tolist() == [1, 2, 3] and made.failures == 0


def test_a_missing_library_stops_whatever_the_policy() -> None:
    def reward(samples: list[str]) -> list[float]:
        raise ImportError("needs RDKit: pip install rdkit")

    with pytest.raises(RewardError, match="reward 'reward#1' raised ImportError: needs RDKit"):
        resolve_reward(reward, on_error="worst")(["a", "b"])


def test_a_failing_sample_is_remembered_as_the_worst() -> None:
    made = resolve_reward(fails_on("bad", raises), on_error="worst")
    made(["bad"])
    made(["bad"])
    assert made.failures == 1 and made.calls == 1


def test_only_the_failing_term_is_worst() -> None:
    made = resolve_reward([lengths, fails_on("bad", raises)], on_error="worst")
    columns = made.columns(["bad", "a"])
    assert columns["lengths"] == [3, 1] and columns["reward#1"] == [WORST, 1]


def test_a_tensor_is_named_by_its_shape() -> None:
    with pytest.raises(RewardError, match=r"for sample Tensor of shape \(3, 8, 8\)"):
        resolve_reward(lambda images: [math.nan])([torch.zeros(3, 8, 8)])


# Hanging


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Ends the threads that a test left hanging."""
    event = threading.Event()
    yield event
    event.set()
    for thread in list(limits._hung):
        thread.join(5)


def test_a_hanging_sample_is_found_and_only_it_is_blamed(release: threading.Event) -> None:
    hanging = fails_on("bad", release.wait)
    start = time.monotonic()
    with pytest.raises(RewardError, match=r"reward 'reward#1' took longer than 0\.1 s, for sample 'bad'"):
        resolve_reward(hanging, time_limit=0.1)(["a", "bad", "cc"])
    made = resolve_reward(hanging, time_limit=0.1, on_error="worst")
    assert made(["a", "bad", "cc"]).tolist() == [1, WORST, 2] and made.failures == 1
    assert time.monotonic() - start < 3


def test_a_batch_that_is_only_slow_is_scored_sample_by_sample() -> None:
    def slow(samples: list[str]) -> list[float]:
        time.sleep(0.1 * len(samples))
        return lengths(samples)

    made = resolve_reward(slow, time_limit=0.25)
    assert made(["a", "bb", "ccc"]).tolist() == [1, 2, 3] and made.failures == 0


def test_hanging_threads_are_bounded(release: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_HUNG", 3)
    made = resolve_reward(lambda samples: release.wait(), time_limit=0.02, on_error="worst")
    before = threading.active_count()
    with pytest.raises(RewardError, match="3 calls still have not returned"):
        made(["a", "b", "c", "d", "e"])
    assert threading.active_count() == before + 3


def test_what_a_reward_raises_within_its_time_limit_is_not_a_hang() -> None:
    def reward(samples: list[str]) -> list[float]:
        assert not torch.is_grad_enabled()
        raise TimeoutError("the server is slow")

    for limit in (None, 5.0):
        with pytest.raises(RewardError, match="raised TimeoutError: the server is slow"):
            resolve_reward(reward, time_limit=limit)(["a"])


def test_an_interrupt_passes_through() -> None:
    def reward(samples: list[str]) -> list[float]:
        raise KeyboardInterrupt

    for limit in (None, 5.0):
        with pytest.raises(KeyboardInterrupt):
            resolve_reward(reward, time_limit=limit, on_error="worst")(["a"])


def test_arrays_reach_the_reward_as_arrays():
    """Samples that a model decodes to one tensor are a batch, not a list of rows; the guilty row is still found."""
    import torch

    x = torch.arange(6.0).view(3, 2)
    assert resolve_reward(lambda x: x.sum(1))(x).tolist() == [1.0, 5.0, 9.0]
    nan_at_four = resolve_reward(lambda x: x[:, 0].masked_fill(x[:, 0] == 4, torch.nan), on_error="worst")
    assert nan_at_four(x).tolist() == [0.0, 2.0, -torch.inf]

    def picky(x):
        if (x[:, 0] == 2).any():
            raise ArithmeticError("two")
        return x[:, 1]

    assert resolve_reward(picky, on_error="worst")(x.numpy()).tolist() == [1.0, -torch.inf, 5.0]


def test_a_file_that_a_parameter_names_is_part_of_the_identity(tmp_path: Path) -> None:
    def weighted(samples: list[str], weights: str) -> list[float]:
        return [float(len(Path(weights).read_text()))] * len(samples)

    path = tmp_path / "weights.txt"
    identities = []
    for content in ("a", "b"):
        path.write_text(content)
        source = sources.find_source(weighted, {"weights": str(path)})
        identities.append(source.identity)
    assert identities[0]["files"] != identities[1]["files"]
    assert "files" not in sources.find_source(scaled, {"factor": "2"}).identity
