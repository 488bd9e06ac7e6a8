"""Wrong input: one line that says which option, what was given and what is accepted."""

import pytest

from guided.runs.paths import full
from guided.storage.configs import difference

REWARDS = "x = 3\n\ndef one(samples):\n    return [1.0]\n"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("-n", "x"), "-n is 'x'; it must be a whole number, at least 1"),
        (("-n", "1.5"), "-n is '1.5'; it must be a whole number, at least 1"),
        (("--only", "x"), "--only is 'x'; it must be a whole number"),
        (("--guidance", "x"), "--guidance is 'x'; it must be a finite number"),
        (("--seed", "-1"), "--seed is -1; it must be at least 0 and below 2^64"),
        (("-r", "qed", "--guidance", "2"), "give a negative checkpoint (--negative molecules)"),
        (("-r", "gc"), "reward 'gc' scores DNA and RNA; the samples of this model are molecules"),
        (("-r", "rw.py:x"), "reward 'rw.py:x' is not a function but an int"),
        (("-r", "qed", "--value", "."), "'.' is not the folder of a value, as `guided fit-value` writes"),
        (("--config", "o.toml"), "'o.toml': n is 'four'; it must be a whole number, at least 1"),
    ],
)
def test_what_was_given_and_what_is_accepted(options, error, guided, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rw.py").write_text(REWARDS)
    (tmp_path / "o.toml").write_text('n = "four"\n')
    code, _, err = guided("sample", "molecules", *options)
    assert code == 2 and err.count("\n") == 1 and err.endswith(f"{error}\n")


@pytest.mark.parametrize(
    ("model", "error"),
    [("", "the model is empty; give a name"), ("README.md", "README.md is not a checkpoint")],
)
def test_what_is_no_model(model, error, guided, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# A title\n")
    code, _, err = guided("sample", model, "-r", "qed")
    assert code == 2 and err.startswith(f"error: {error}")


def test_another_reward_is_named_in_words():
    old, new = ({"reward": {"terms": [{"reward": name} for name in names]}} for names in (["qed"], ["logp", "sa"]))
    assert difference(old, new) == ("reward", "qed", "logp, sa")


def test_arguments_of_a_pipeline_are_named_before_the_digest_that_has_them():
    old, new = ({"identity": f"{i}", "pipe_args": {"scale": i}} for i in (4, 5))
    assert difference(old, new) == ("pipe_args.scale", "4", "5")
    assert difference({"identity": "4"}, {"identity": "5"}) == ("identity", '"4"', '"5"')


def test_a_path_has_no_dots_and_follows_links(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    assert full(tmp_path / "a" / ".." / "c") == (tmp_path / "c").resolve()
    assert full(tmp_path / "link" / ".." / "c") == (tmp_path / "a" / "c").resolve()
    assert full(tmp_path / "link" / "c") == tmp_path / "link" / "c"
