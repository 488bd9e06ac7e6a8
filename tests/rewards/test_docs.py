"""The examples of docs/rewards.md run: a block that opens with a file's name is that file, the others are executed."""

import re
from pathlib import Path

import pytest

from guided.scoring import registry
from guided.scoring.transforms import TRANSFORMS

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_table", dict(registry._table))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks:
        file = re.match(r"# (\w+\.py)\n", block)
        if file:
            (tmp_path / file[1]).write_text(block)
        else:
            exec(block, names)
    assert len(blocks) >= 8


def test_the_page_lists_every_built_in_reward_and_transform_as_it_is() -> None:
    for name, reward in registry.rewards().items():
        if reward.modality == "molecules":
            row = re.search(rf"^\| `{name}[`?].*$", PAGE, re.MULTILINE)
            assert row and (reward.transform or "| |") in row[0]
    for name, (_, form) in TRANSFORMS.items():
        assert f"`{name}={form}`" in PAGE
