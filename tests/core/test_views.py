"""Views of clean rows: each is made once, for all rows, and picked from; prompts stay numbers until they are read."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from guided.adapters.nucleotides.adapter import Letters
from guided.core.codec import VIEWS, Codec
from guided.core.random import Streams
from guided.core.views import EachPrompt, Views
from guided.errors import GuidedError
from guided.rewards.sequences.composition import encode
from guided.scoring.registry import TAKES
from tests.toys.values import dna


def counting(calls: list[str], name: str, make: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def made(rows: Tensor) -> Any:
        calls.append(f"{name} {len(rows)}")
        return make(rows)

    return made


def codec(calls: list[str], **options: Any) -> Codec:
    return Codec(
        counting(calls, "samples", lambda rows: [str(row) for row in rows.tolist()]),
        tokens=counting(calls, "tokens", lambda rows: rows % 4),
        **options,
    )


def test_the_words_of_the_registry_are_those_of_a_codec() -> None:
    assert tuple(TAKES) == VIEWS


def test_a_view_is_made_once_and_picked_from() -> None:
    calls: list[str] = []
    rows = torch.arange(12).view(6, 2)
    views = Views(rows, codec(calls))
    assert views["latents"] is rows and views["tokens"] is views["tokens"]
    some = views.select(torch.tensor([4, 1]))
    assert torch.equal(some["tokens"], rows[[4, 1]] % 4) and calls == ["tokens 6"]
    assert some["samples"] == [str([8, 9]), str([2, 3])] and calls == ["tokens 6", "samples 2"]
    views.make(["samples", "tokens", "pixels"])
    assert (
        calls == ["tokens 6", "samples 2", "samples 6"]
        and views.select(slice(2, 4))["samples"] == views["samples"][2:4]
    )
    assert views.select(torch.tensor([5]))["samples"] == [views["samples"][5]] and len(calls) == 3


def test_samples_that_are_an_array_are_picked_from() -> None:
    views = Views(torch.arange(6).view(3, 2), Codec(lambda rows: rows.numpy() + 1))
    assert views["samples"].shape == (3, 2)
    assert np.array_equal(views.select(torch.tensor([2]))["samples"], [[5, 6]])


def test_a_view_that_the_model_has_not_is_refused_as_is_one_of_another_length() -> None:
    views = Views(torch.zeros(3, 2), Codec(pixels=lambda rows: rows[:2]))
    assert [view for view in VIEWS if views.gives(view)] == ["samples", "pixels", "latents"]
    with pytest.raises(GuidedError, match="the model has no tokens"):
        views["tokens"]
    with pytest.raises(GuidedError, match="made 2 pixels of 3 rows"):
        views["pixels"]


def test_a_cheaper_decoder_has_pixels_of_its_own_or_none() -> None:
    rows = torch.zeros(1, 1)
    plain, cheap = (lambda rows: rows + 1), (lambda rows: rows + 2)
    assert Views(rows, Codec(plain, pixels=plain), preview=True)["pixels"] == 1
    both = Codec(plain, cheap, pixels=plain, preview_pixels=cheap)
    assert [Views(rows, both, preview)["pixels"].item() for preview in (False, True)] == [1, 2]
    assert not Views(rows, Codec(plain, cheap, pixels=plain), preview=True).gives("pixels")


def test_samples_follow_from_pixels_where_a_model_says_so() -> None:
    calls: list[str] = []
    pixels = counting(calls, "pixels", lambda rows: rows + 1)
    views = Views(torch.zeros(3, 1), codec(calls, pixels=pixels, from_pixels=lambda pixels: pixels.flatten().tolist()))
    assert views["samples"] == [1, 1, 1] and views["pixels"].sum() == 3 and calls == ["pixels 3"]


@pytest.mark.parametrize("alphabet", ["ACGT", "TGCA", "GUCA", "ACDEFGHIKLMNPQRSTVWY"])
def test_codes_are_those_of_the_text_whatever_the_alphabet(alphabet: str) -> None:
    letters = Letters(alphabet, 9)
    rows = torch.randint(0, len(alphabet) + 1, (300, 9), generator=torch.Generator().manual_seed(0))
    codes, batch = letters.codes(rows), encode(letters.decode(rows))
    assert ((codes >= 0) & (codes < 4)).all(1).tolist() == batch.valid.tolist()
    valid = torch.from_numpy(batch.valid)
    assert codes[valid].tolist() == batch.codes[batch.valid, :9].tolist() * bool(valid.any())
    assert codes.max() == 4 and codes.dtype == torch.long


def test_prompts_of_rows_are_a_sequence_and_numbers() -> None:
    prompts = EachPrompt.of(["b", "a", "b", "c"], torch.device("cpu"))
    assert list(prompts) == ["b", "a", "b", "c"] and len(prompts) == 4 and prompts[1] == "a"
    assert prompts.texts == ("b", "a", "c") and prompts.number.tolist() == [0, 1, 0, 2]
    assert list(prompts[1:3]) == ["a", "b"] == list(prompts.select(torch.tensor([1, 2])))
    other = deepcopy(prompts)
    other.number.zero_()
    assert list(prompts) == ["b", "a", "b", "c"]


@pytest.mark.parametrize("by_request", [False, True])
@pytest.mark.parametrize("draws", [1, 3])
def test_rows_of_all_particles_are_those_that_are_found_to_be_different(by_request: bool, draws: int) -> None:
    """Without a look for equal ones there is a row for each draw, in the order of particles."""
    given = dna().prompted(["AT", "GC"])
    one, other = (given.start(Streams(0, range(2)), 4).propose() for _ in range(2))
    while True:
        every = one.look_ahead(draws, by_request=by_request, distinct=False)
        kinds = other.look_ahead(draws, by_request=by_request)
        assert torch.equal(every.rows, kinds.rows[kinds.index.flatten()]) and every.index.device.type == "cpu"
        assert every.index.flatten().tolist() == list(range(len(every)))
        if by_request:
            assert every.prompts is not None and kinds.prompts is not None
            n = len(every) // 2
            assert list(every.prompts) == ["AT"] * n + ["GC"] * n
        else:
            assert every.prompts is None
        if one.done:
            break
        one, other = one.propose(), other.propose()
