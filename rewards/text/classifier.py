"""What a classifier of transformers says of a text: the probability of a label, or the number that it was fitted to."""

__all__ = ["classifier"]

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, get_args

from guided.errors import GuidedError, nearest
from guided.scoring.registry import register_reward

ROWS = 32  # texts in one pass
Score = Literal["probability", "log"]


def _check(model: str, label: str = "", score: str = "probability") -> None:
    if score not in get_args(Score):
        raise GuidedError(
            f"score is {score!r}{nearest(score, get_args(Score))}; it is one of {', '.join(get_args(Score))}"
        )
    _place(_loaded(model)[1], model, label)


@register_reward("classifier", modality="text", check=_check, workers="none")
def classifier(texts: Sequence[str], model: str, label: str = "", score: Score = "probability") -> list[float]:
    """The probability of a label by a classifier of transformers; of one with a single output, that number.

    Args:
        texts: n texts; what is longer than the network takes is cut off.
        model: A folder with a network for sequence classification and its tokenizer, or its name on the hub.
        label: One of the network's labels, by its name or number; it may be left out if there is a single output.
        score: "probability", 0 to 1, or "log", its logarithm.

    Raises:
        GuidedError: There is no such network, label or score.
        ImportError: transformers is not installed.
    """
    _check(model, label, score)
    tokenizer, network = _loaded(model)
    place = _place(network, model, label)
    torch, settings = import_module("torch"), import_module("guided.rewards.support.settings")
    placed, parts = import_module("guided.rewards.support.hub").placed, import_module("guided.rewards.support.parts")

    def scores(rows: slice) -> Any:
        given = tokenizer(
            list(texts[rows]), padding=True, truncation=True, max_length=_longest(network), return_tensors="pt"
        )
        device = settings.device_of(None)
        with torch.no_grad():
            logits = placed(network, device)(**given.to(device)).logits.float()
        return logits[:, 0] if logits.shape[1] == 1 else logits.log_softmax(-1)[:, place]

    found: list[float] = parts.Parts(ROWS)(settings.own_settings(scores), len(texts)).tolist() if len(texts) else []
    return [math.exp(r) for r in found] if score == "probability" and network.config.num_labels > 1 else found


@lru_cache(maxsize=4)
def _loaded(model: str) -> tuple[Any, Any]:
    """The tokenizer and the network."""
    pretrained = import_module("guided.rewards.support.hub").pretrained
    network = pretrained("AutoModelForSequenceClassification", model, "the classifier").eval().requires_grad_(False)
    return pretrained("AutoTokenizer", model, "the classifier's tokenizer"), network


def _longest(network: Any) -> int:
    """The number of tokens that the network takes."""
    return int(getattr(network.config, "max_position_embeddings", None) or 512)


def _place(network: Any, model: str, label: str) -> int:
    """The number of a label."""
    labels = {str(name): int(i) for i, name in network.config.id2label.items()}
    if network.config.num_labels == 1 and not label:
        return 0
    known = labels | {str(i): i for i in labels.values()}
    if label not in known:
        given = f"label is {label!r}{nearest(label, labels)}" if label else "label is not given"
        raise GuidedError(f"{given}; the classifier {model!r} has {', '.join(labels)}")
    return known[label]
