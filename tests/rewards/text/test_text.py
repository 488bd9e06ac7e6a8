"""Rewards of text, by counting, by a network and by a program."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from guided.rewards.text.counting import length, matches
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import rewards
from tests.adapters.diffusers.text.tiny import WORDS, tokenizer

PAGE = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text(encoding="utf-8")
TEXTS = ["the red cat .", "a cat\nsees the cat", "", "dog"]


def test_lengths() -> None:
    assert length(TEXTS) == [4, 5, 0, 1]
    assert resolve_reward("length?unit=characters")(TEXTS).tolist() == [len(text) for text in TEXTS]


def test_ways_to_match() -> None:
    assert matches(TEXTS, r"\bcat\b") == [1, 1, 0, 0]
    assert matches(TEXTS, "cat", "count") == [1, 2, 0, 0]
    assert matches(TEXTS, r"\w+", "all") == [0, 0, 0, 1]
    assert matches(TEXTS, "cat|dog", "share") == [3 / 13, 6 / 18, 0, 1]
    assert resolve_reward(r"regex?pattern=^(a|the)\b.*(?:cat)?&how=any")(TEXTS).tolist() == [1, 1, 0, 0]


@given(st.lists(st.text("ab ", max_size=8), max_size=4), st.sampled_from(["a", "b+", "ab", "a*"]))
def test_shares_and_counts_agree(texts: list[str], pattern: str) -> None:
    counts, shares, found = (matches(texts, pattern, how) for how in ("count", "share", "any"))  # type: ignore[arg-type]
    assert [count > 0 for count in counts] == [bool(one) for one in found]
    assert all(0 <= share <= 1 for share in shares)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two classifiers: one with labels, and one with a number."""
    place = tmp_path_factory.mktemp("classifiers")
    for name, number in (("labels", 3), ("number", 1)):
        torch.manual_seed(number)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        config = BertConfig(vocab_size=6 + len(WORDS), max_position_embeddings=12, num_labels=number, **sizes)
        if number == 3:
            config.id2label = {0: "bad", 1: "good", 2: "odd"}
        net = BertForSequenceClassification(config)
        for weight in net.parameters():
            weight.data = torch.randn(weight.shape)
        net.save_pretrained(place / name)
        tokenizer().save_pretrained(place / name)
    return place


def test_a_classifier_gives_the_probability_of_a_label(folder: Any) -> None:
    net = BertForSequenceClassification.from_pretrained(folder / "labels").eval()
    ids = [torch.tensor([tokenizer()(text)["input_ids"]]) for text in TEXTS if text]
    alone = [net(x).logits[0].softmax(-1).tolist() for x in ids]
    three = torch.stack([resolve_reward(f"classifier?model={folder / 'labels'}&label={i}")(TEXTS) for i in range(3)], 1)
    assert torch.allclose(three[[0, 1, 3]], torch.tensor(alone, dtype=torch.float64), atol=1e-5)
    good = resolve_reward(f"classifier?model={folder / 'labels'}&label=good&score=log")(TEXTS)
    assert torch.allclose(good.exp(), three[:, 1], atol=1e-6)
    assert resolve_reward(f"classifier?model={folder / 'labels'}&label=odd")(["cat " * 40]).isfinite().all()  # cut off


def test_a_classifier_with_one_output_gives_its_number(folder: Any) -> None:
    net = BertForSequenceClassification.from_pretrained(folder / "number").eval()
    wanted = net(torch.tensor([tokenizer()("dog")["input_ids"]])).logits[0, 0].item()
    assert resolve_reward(f"classifier?model={folder / 'number'}")(["dog"])[0] == pytest.approx(wanted, abs=1e-5)


def test_a_program_takes_texts_of_several_lines(tmp_path: Path) -> None:
    program = tmp_path / "lines.py"
    program.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    scores = [text.count('cat') + text.count('\\n') for text in asked['samples']]\n"
        "    print(json.dumps({'version': 1, 'id': asked['id'], 'scores': scores}), flush=True)\n"
    )
    objective = resolve_reward(f"exec:{sys.executable} {program}")
    assert objective(TEXTS).tolist() == [1, 3, 0, 0]
    objective.close()


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("length?unit=lines", "unit|words, characters"),
        ("regex?pattern=(", "no regular expression"),
        ("regex", "needs 'pattern'"),
        ("regex?pattern=a&how=some", "how"),
        ("classifier?model=/nothing/there&label=1", "cannot load the classifier"),
    ],
)
def test_what_is_wrong_is_said(reward: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_reward(reward)


def test_unknown_labels_are_refused(folder: Any) -> None:
    for label, message in (("", "label is not given; .* bad, good, odd"), ("goood", "did you mean 'good'")):
        with pytest.raises(ValueError, match=message):
            resolve_reward(f"classifier?model={folder / 'labels'}" + (f"&label={label}" if label else ""))


def test_the_page_lists_them() -> None:
    for name, reward in rewards().items():
        if reward.modality == "text":
            assert f"| `{name}" in PAGE


def test_they_are_refused_for_other_samples() -> None:
    with pytest.raises(ValueError, match="'length' scores text; the samples of this model are molecules"):
        resolve_reward("length").check("molecules")
    resolve_reward("length").check("")
