"""The examples of the pages on rewards run: a block that opens with a file's name is that file, others are executed."""

import re
from pathlib import Path

import pytest

from guided.scoring import registry
from guided.scoring.transforms import TRANSFORMS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "rewards.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "least"), [("rewards.md", 8), ("rewards-at-scale.md", 1)])
def test_the_examples_run(page: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_table", dict(registry._table))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks:
        file = re.match(r"# (\w+\.py)\n", block)
        if file:
            (tmp_path / file[1]).write_text(block)
        else:
            exec(block, names)
    assert len(blocks) >= least


def test_the_page_lists_every_built_in_reward_and_transform_as_it_is() -> None:
    for name, reward in registry.rewards().items():
        if reward.modality == "molecules":
            row = re.search(rf"^\| `{name}[`?].*$", PAGE, re.MULTILINE)
            assert row and (reward.transform or "| |") in row[0]
    for name, (_, form) in TRANSFORMS.items():
        assert f"`{name}={form}`" in PAGE
