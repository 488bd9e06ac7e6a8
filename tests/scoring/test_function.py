"""Laws of functions as rewards: they get copies, and what they do or return reaches nothing but their own scores."""

import copy
import math
import os
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import guided
from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian
from guided.errors import GuidedError, RewardError
from guided.samplers import SVDD, Unguided
from guided.scoring.failures import LARGEST
from guided.scoring.objective import resolve_reward


def spoil(value: Any) -> None:
    """Changes a sample, or a batch, in place."""
    if isinstance(value, torch.Tensor):
        value.zero_()
    elif isinstance(value, np.ndarray):
        value[...] = 0
    elif isinstance(value, Image.Image):
        value.paste("black", (0, 0, *value.size))
    elif isinstance(value, dict):
        value.clear()
    elif isinstance(value, list):
        for part in value:
            spoil(part)
        value.clear()


def plain(value: Any) -> Any:
    if isinstance(value, Image.Image):
        return np.asarray(value).tolist()
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.tolist()
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


BATCHES: dict[str, Any] = {
    "texts": ["a", "bb"],
    "a tensor": torch.ones(2, 3),
    "an array": np.ones((2, 3)),
    "tensors": [torch.ones(3), torch.ones(2)],
    "images": [Image.new("RGB", (2, 2), "red"), Image.new("L", (2, 2), 9)],
    "videos": [[Image.new("RGB", (2, 2), "red")] * 2, [Image.new("RGB", (2, 2), "blue")]],
    "objects": [{"a": [1]}, {"b": {"c": 2}}],
    "an array of objects": np.array([{"a": [1]}, {"b": 2}], dtype=object),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_reward_that_works_in_place_changes_nothing_but_its_own_copy(name: str) -> None:
    batch, seen = BATCHES[name], []
    before = plain(copy.deepcopy(batch))

    def spoils(samples: Any, prompts: list[str]) -> list[float]:
        seen.append((plain(copy.deepcopy(samples)), list(prompts)))
        n = len(samples)
        spoil(samples)
        spoil(prompts)
        return [1.0] * n

    prompts = ["p", "q"]
    assert resolve_reward([spoils, spoils])(batch, prompts).tolist() == [1.0, 1.0]
    assert plain(batch) == before and seen == [(before, ["p", "q"])] * 2 and prompts == ["p", "q"]


def test_a_reward_in_place_draws_the_samples_of_one_that_is_not() -> None:
    def grid(K: int) -> tuple[list[float], list[float], list[float]]:
        t = [1 - k / K for k in range(K + 1)]
        return [1 - u for u in t], t, t

    def denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # data N(2, 1)
        t = t[:, None]
        return 2 + (1 - t) * (x - (1 - t) * 2) / ((1 - t) ** 2 + t**2)

    flow = Diffusion(denoiser, Gaussian((1,), *grid(8), eta=1.0, grid=grid))
    for sampler in (Unguided(), SVDD(M=3, alpha=0.1)):
        one, other = (
            guided.sample(flow, reward, sampler, n=20)
            for reward in (lambda x: -(x - 2).abs()[:, 0], lambda x: x.sub_(2).abs_().neg_()[:, 0])
        )
        assert torch.equal(torch.stack(one.samples), torch.stack(other.samples))
        assert torch.equal(one.rewards, other.rewards)


def test_parameters_are_copies_too(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(
        "def f(s, **given):\n    given['x'].append(1)\n    return [len(given['x'])] * len(s)\n"
    )
    spec = resolve_reward(f"{tmp_path}/r.py:f?x=1").spec
    assert spec is not None
    spec["terms"][0]["parameters"]["x"] = []
    made = resolve_reward(spec)
    assert made(["a"]).tolist() == made(["b"]).tolist() == [1.0]


def test_the_fallback_gives_each_sample_its_own_prompt() -> None:
    def reward(samples: list[str], prompts: list[str]) -> list[float]:
        if len(samples) > 1:
            raise ArithmeticError("one at a time")
        return [float(samples[0] + prompts[0])]

    made = resolve_reward(reward, on_error="worst")
    assert made(["1", "2", "3"], ["4", "5", "6"]).tolist() == [14.0, 25.0, 36.0]


class Odd:
    """An object whose texts raise."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


class Bad(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def nested() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


SCORES: dict[str, tuple[Callable[[], Any], str]] = {
    "a whole number beyond floats": (lambda: 10**400, "at most 1e\\+100"),
    "of 20,000 digits": (lambda: 10**20_000, "a whole number of 66439 bits"),
    "almost the largest float": (lambda: 1e308, "at most 1e\\+100"),
    "the other end": (lambda: -1e308, "the worst is -inf"),
    "a fraction": (lambda: Fraction(10**400), "at most"),
    "an object without a text": (Odd, "an object of Odd whose repr raises RuntimeError"),
    "deep lists": (nested, "RecursionError"),
    "escape codes": (lambda: "\x1b[31mred\x1b[0m", "not a number"),
    "a decimal": (lambda: Decimal("NaN"), "not a number"),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_strange_score_is_one_line_and_its_samples_fault(name: str) -> None:
    make, said = SCORES[name]

    def reward(samples: list[str]) -> list[Any]:
        return [make() if sample == "bad" else 1.0 for sample in samples]

    with pytest.raises(RewardError, match=said) as caught:
        resolve_reward(reward)(["a", "bad"])
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 500
    made = resolve_reward(reward, on_error="worst")
    assert made(["a", "bad"]).tolist() == [1.0, -math.inf] and made.failures == 1


def test_scores_may_be_large() -> None:
    assert resolve_reward(lambda s: [LARGEST, -LARGEST])(["a", "b"]).tolist() == [LARGEST, -LARGEST]


@pytest.mark.parametrize(
    "error", [Bad(), ValueError(Odd()), ValueError("x" * 1_000_000), ValueError("\x1b[2Jgone\n\r")]
)
def test_a_strange_error_is_one_line(error: Exception) -> None:
    def reward(samples: list[str]) -> list[float]:
        raise error

    with pytest.raises(RewardError, match=f"raised {type(error).__name__}") as caught:
        resolve_reward(reward)(["a"])
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 3000


def test_a_reward_that_appends_to_its_argument_is_scored(recwarn: pytest.WarningsRecorder) -> None:
    def appends(samples: list[str]) -> list[float]:
        scores = [float(len(sample)) for sample in samples]
        samples.append("more")
        return [*scores, 0.0]

    with pytest.raises(RewardError, match="returned 2 scores for 1 sample, for sample 'a'"):
        resolve_reward(appends)(["a", "b"])


def test_whatever_is_raised_is_inside_the_guard() -> None:
    class Stop(BaseException):
        pass

    def reward(samples: list[str]) -> list[float]:
        raise Stop("here")

    made = resolve_reward(reward, on_error="worst")
    assert made(["a"]).tolist() == [-math.inf] and "raised Stop: here" in str(made.first_failure)


def test_scores_are_columns_of_pandas_too() -> None:
    pandas = pytest.importorskip("pandas")
    for kind in ("float64", "float32", "Float64", "int64", "Int64", "boolean"):
        column = pandas.Series([1, 0], index=[7, 3], dtype=kind)
        assert resolve_reward(lambda s, column=column: column)(["a", "b"]).tolist() == [1.0, 0.0]
    column = pandas.Series([1, None], dtype="Int64")
    made = resolve_reward(lambda s: column[: len(s)], on_error="worst")
    assert made(["a", "b"]).tolist() == [1.0, -math.inf]


def test_samples_and_prompts_are_columns_and_arrays_too() -> None:
    pandas = pytest.importorskip("pandas")

    def reward(samples: list[str], prompts: list[str]) -> list[float]:
        assert type(samples) is list and type(prompts) is list
        return [float(s + p) for s, p in zip(samples, prompts, strict=True)]

    for make in (list, tuple, np.array, lambda x: np.array(x, dtype=object), lambda x: pandas.Series(x, index=[7, 3])):
        made = resolve_reward(reward)
        assert made(make(["1", "2"]), make(["3", "4"])).tolist() == [13.0, 24.0]


def test_weights_and_limits_are_numbers_of_any_library() -> None:
    for weight in (2, np.float32(2), np.int64(2), torch.tensor(2.0)):
        made = resolve_reward({"qed": weight, "sa": 1}, time_limit=weight)
        assert made.terms[0].weight == 2.0 and type(made.terms[0].weight) is float
        assert made.terms[0].time_limit == 2.0
    for wrong in ("soon", math.nan, -1, 0, [1], None):
        if wrong is not None:
            with pytest.raises(GuidedError, match="time_limit is a number of seconds > 0"):
                resolve_reward("qed", time_limit=wrong)
    assert resolve_reward("qed", time_limit=math.inf)(["CCO"]) > 0


def test_another_current_folder_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that changes the current folder does not move the files and programs of the others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    answer = 'print(json.dumps({"version": 1, "id": r["id"], "scores": [1.0] * len(r["samples"])}), flush=True)'
    (tmp_path / "p.py").write_text(
        f"import json, sys\nfor line in sys.stdin:\n    r = json.loads(line)\n    {answer}\n"
    )
    (tmp_path / "f.py").write_text("def f(s):\n    return [1.0] * len(s)\n")
    oracle = Path(guided.__file__).parent / "checkpoints" / "dna_oracle" / "guide"
    (tmp_path / "own").symlink_to(oracle)

    def moves(samples: list[str]) -> list[float]:
        os.chdir(tmp_path / "elsewhere")
        return [1.0] * len(samples)

    made = resolve_reward([moves, "exec:python p.py", "f.py:f", "activity?oracle=own&target=HepG2"])
    for sequence in ("ACGT" * 50, "GGCC" * 50):
        os.chdir(tmp_path)
        assert made([sequence]).isfinite().all()
        made.close()
    made.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("limit=2.5", "takes a whole number, given '2.5'"),
        ("limit=" + "9" * 5000, "takes a whole number"),
        ("limit=" + "9" * 4000, "takes a whole number"),
        ("share=nan", "takes a finite number, given 'nan'"),
        ("share=inf", "takes a finite number"),
        ("flag=maybe", "takes true or false"),
        ("way=up", "is one of left, right"),
        ("x" * 10_000 + "=1", "no parameter"),
    ],
)
def test_parameters_are_checked_like_other_options(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "r.py").write_text(
        "from typing import Literal\n"
        "def f(samples, limit: int = 1, share: float | None = None, flag: bool = False, "
        "way: Literal['left', 'right'] = 'left'):\n    return [1.0] * len(samples)\n"
    )
    with pytest.raises(GuidedError, match=said) as caught:
        resolve_reward(f"{tmp_path}/r.py:f?{given}")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert resolve_reward(f"{tmp_path}/r.py:f?way=right&share=1e3")(["a"]).tolist() == [1.0]
