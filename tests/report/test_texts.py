"""The section of texts: as they are written, whatever letters they have."""

import json

import pytest

from guided.report import write_report
from guided.report.fasta import alphabet
from guided.storage import write_csv
from tests.report.test_page import RUN, text_of

HEADER = ["request", "seed", "sample", "reward", "length_raw", "length", "reward_calls", "network_rows"]
TEXTS = ["a cat\n  sees <b>a</b> dog", "C", "ACGT", "", "a cat"]


@pytest.fixture
def page(tmp_path):
    def write(texts, modality="text", prompt="Tell me."):
        config = {**RUN["config"], "device": "cpu", "n": len(texts), "prompt": prompt}
        (tmp_path / "run.json").write_text(json.dumps({**RUN, "config": config, "modality": modality}))
        rows = [[i, 0, text, len(texts) - i, 1, 1, 0, 0] for i, text in enumerate(texts)]
        write_csv(tmp_path / "samples.csv", [HEADER, *rows])
        write_csv(tmp_path / "unguided.csv", [HEADER, [0, 0, "one & two", 1, 1, 1, 0, 0]])
        return write_report(tmp_path).read_text(encoding="utf-8")

    return write


def test_texts_are_shown_as_they_are(page):
    shown = page(TEXTS)
    assert "Best texts" in shown and "Texts of the unguided model" in shown
    assert '<span class="text">a cat\n  sees &lt;b&gt;a&lt;/b&gt; dog</span>' in shown and "one &amp; two" in shown
    assert "Tell me." in shown and "words" in shown
    assert "unguided 3" in text_of(shown)


@pytest.mark.parametrize("texts", [["ACGT", "GATTACA"], ["CCO", "CCN"]])
def test_words_of_other_alphabets_stay_texts(page, texts):
    assert "Best texts" in page(texts) and "<svg" in page(texts)
    assert "Best texts" not in page(texts, modality="")
    assert alphabet(["ACGT", "GATTACA"]) == "ACGT"


def test_a_run_without_prompts_has_no_column_for_them(page):
    assert "<th>prompt</th>" not in page(TEXTS, prompt=None)
    assert "<th>prompt</th>" in page(TEXTS)
