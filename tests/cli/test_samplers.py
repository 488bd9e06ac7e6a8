"""`guided samplers`: every hyperparameter is explained."""

from dataclasses import fields

import pytest

from guided.cli.main import app
from guided.cli.samplers import describe, meanings
from guided.errors import GuidedError
from guided.samplers import samplers


@pytest.mark.parametrize("name", sorted(samplers()))
def test_each_hyperparameter_has_a_meaning(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    describe(name)
    shown = capsys.readouterr().out
    found = meanings(samplers()[name])
    for field in fields(samplers()[name]):
        assert len(found[field.name]) > 10, field.name
        assert found[field.name] in shown
    assert ":math:" not in shown and "Raises:" not in shown


class One:
    """Does it.

    Args:
        one: The first,
            which goes on.
        two: Another.

    Raises:
        GuidedError: No.
    """


class Other(One):
    """Does it too.

    Args:
        two: The other.
    """


def test_a_meaning_of_several_lines_is_one_sentence_and_a_base_has_its_own() -> None:
    assert meanings(One) == {"one": "The first, which goes on.", "two": "Another."}
    assert meanings(Other) == {"one": "The first, which goes on.", "two": "The other."}


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(GuidedError, match="there is no sampler 'svd' \\(did you mean 'svdd'\\?\\)"):
        app(["samplers", "svd"], standalone_mode=False)
