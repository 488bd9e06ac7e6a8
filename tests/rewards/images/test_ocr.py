"""Text in pictures: what is rendered is read, edits are counted, and the wanted text is found in the prompt."""

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from guided.errors import RewardError
from guided.rewards.images import ocr as module
from guided.rewards.images.ocr import edit_distance, ocr, quoted, read
from guided.scoring.objective import resolve_reward

word = st.text("abc", max_size=6)


@pytest.fixture
def engine() -> None:
    pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `ocr` is not installed")


def sign(*lines: str, size: int = 24, width: int = 160, height: int = 96, colour: str = "black") -> Image.Image:
    image = Image.new("RGB", (width, height), "white")
    for i, line in enumerate(lines):
        font = ImageFont.load_default(size)
        ImageDraw.Draw(image).text((8, 12 + 1.4 * size * i), line, fill=colour, font=font)
    return image


@given(word, word, word)
def test_the_distance_is_a_metric_of_single_edits(one: str, other: str, third: str) -> None:
    distance = edit_distance(one, other)
    assert distance == edit_distance(other, one) and (distance == 0) == (one == other)
    assert abs(len(one) - len(other)) <= distance <= max(len(one), len(other))
    assert edit_distance(one, third) <= distance + edit_distance(other, third)
    for i in range(len(one) + 1):
        assert edit_distance(one, f"{one[:i]}x{one[i:]}") == 1
    if one:
        assert edit_distance(one, one[1:]) == 1 and edit_distance(one, "x" + one[1:]) == 1


def test_known_distances() -> None:
    assert edit_distance("kitten", "sitting") == 3 and edit_distance("flaw", "lawn") == 2
    assert edit_distance("", "abc") == 3


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ('a sign that says "HELLO"', "HELLO"),
        ("a sign that says 'HELLO'", "HELLO"),
        ("a sign that says “HELLO you”, lit", "HELLO you"),
        ("« Bonjour »", " Bonjour "),
        ('"NEW" above "YORK"', "NEW YORK"),
        ("the dog's sign isn't 'HELLO'.", "HELLO"),
        ("a sign: 'it's here'", "it's here"),
        ("the dog's sign: \"DON'T\"", "DON'T"),
    ],
)
def test_the_wanted_text_is_the_prompts_quotation(prompt: str, wanted: str) -> None:
    assert quoted(prompt) == wanted


@pytest.mark.parametrize("prompt", ["a dog", "the dog's friend's house", '""', '" "', ""])
def test_a_prompt_without_a_quotation_is_refused(prompt: str) -> None:
    with pytest.raises(RewardError, match=r"give ocr\?text=TEXT, or a prompt with"):
        quoted(prompt)


def test_scores_are_edits_of_the_longer_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read", lambda image: {8: "Hel\nlo", 9: "HELLO!", 10: ""}[image.width])
    batch = [Image.new("RGB", (width, 8)) for width in (8, 9, 10)]
    assert ocr(batch, "hello").tolist() == pytest.approx([1, 1 - 1 / 6, 0])
    assert ocr(batch, "ＨＥ ＬＬＯ").tolist() == pytest.approx([1, 1 - 1 / 6, 0])  # of full width
    prompts = ['"hello"', '"hello!"', '"x"']
    assert ocr(batch, prompts=prompts).tolist() == pytest.approx([1, 1, 0])
    assert ocr(batch, "hello", prompts=prompts).tolist() == ocr(batch, "hello").tolist()
    assert ocr([[batch[0], batch[2]], batch[1]], prompts=['"hello"', '"HELL"']).tolist() == pytest.approx([0.5, 4 / 6])
    with pytest.raises(RewardError, match="give the run prompts"):
        ocr(batch)


@pytest.mark.usefixtures("engine")
def test_rendered_text_is_read() -> None:
    assert read(sign("HELLO")) == "HELLO"
    assert read(sign("GUIDED", size=60, width=400, height=120, colour="red")) == "GUIDED"
    assert read(sign("UP", "DOWN", size=28)).split() == ["UP", "DOWN"]
    assert read(Image.new("RGB", (64, 64), "white")) == ""


def test_the_engine_is_given_blue_first(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    found = SimpleNamespace(txts=None)
    monkeypatch.setattr(module, "_engine", lambda: lambda array: given.append(array) or found)
    assert read(Image.new("RGB", (3, 2), (1, 2, 3))) == ""
    assert given[0].tolist() == [[[3, 2, 1]] * 3] * 2


@pytest.mark.usefixtures("engine")
def test_the_nearer_text_scores_higher() -> None:
    objective = resolve_reward("ocr?text=HELLO")
    scores = objective([sign("HELLO"), sign("HELLA"), sign("XYZ"), sign()]).tolist()
    assert scores == pytest.approx([1, 0.8, 0, 0])
    by_prompt = resolve_reward("ocr")([sign("HELLO"), sign("HELLO")], ['says "Hello"', 'says "Help me"']).tolist()
    assert by_prompt == pytest.approx([1, 0.5])


@pytest.mark.usefixtures("engine")
def test_an_empty_text_is_known_at_construction() -> None:
    with pytest.raises(ValueError, match="text is what the picture should say, given ''"):
        resolve_reward("ocr?text= ")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    module._engine.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'guided\[ocr\]'"):
        resolve_reward("ocr?text=HELLO")
