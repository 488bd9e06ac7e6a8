"""The examples of docs/values.md run, and what it says of the defaults is so."""

import inspect
import re
from pathlib import Path

import guided
from guided.values.learned import TARGETS

PAGE = (Path(__file__).parents[3] / "docs" / "values.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, "values.md", "exec"), names)
    assert len(blocks) == 2


def test_it_names_every_target_and_the_defaults():
    defaults = {name: p.default for name, p in inspect.signature(guided.fit_value).parameters.items()}
    assert all(f"| `{target}` |" in PAGE for target in TARGETS)
    assert f"`states` ({defaults['states']})" in PAGE and f"of {defaults['n_check']} samples (`--check`)" in PAGE
