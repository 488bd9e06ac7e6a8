"""Names in figures are drawn as they are written."""

import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from guided.report.canvas import canvas, label_text, styled, to_svg
from guided.report.figures import histogram, kmer_scatter, value_path
from guided.report.logo import logo
from guided.report.mutagenesis import effect_map

NAMES = [
    "$",
    "$a$",
    r"$\frac{1}$",
    "$a_b",
    "a_b^c",
    "<b>&--></b>",
    "a\nb",
    "\x00\x1b[31m",
    "\ud800",
    "報酬",
    "",
    "x" * 10_000,
]
TABLE = np.where(np.eye(4, dtype=bool), np.nan, 1.0)


def texts(svg):
    """What is written in a figure whose text is drawn as paths: it is in a comment beside each."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    return [node.text.strip() for node in ET.fromstring(svg, parser).iter(ET.Comment)]


@pytest.mark.parametrize("name", NAMES)
def test_figures_take_any_name(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        histogram([1, 2, 3], [0, 1], name)
        value_path([1, 2], [0, 1], [1, 2], name)
        effect_map("ACGT", TABLE, "ACGT", name)
        logo({name: ["ACGT"] * 10}, "ACGT")


@pytest.mark.parametrize("name", ["$", "$a$", "$a_b$ and $c$", "a_b^c"])
def test_dollar_signs_are_no_formula(name):
    assert name in texts(histogram([1, 2, 3], [], name))
    assert f"change of {name}" in texts(effect_map("ACGT", TABLE, "ACGT", name))
    assert name in texts(logo({name: ["ACGT"] * 10}, "ACGT"))


def test_powers_of_ten_are_formulas():
    counts = np.arange(256)
    assert r"$\mathdefault{10^{-3}}$" in texts(kmer_scatter(counts, counts[::-1].copy(), 4))


def test_a_label_is_one_short_line_that_can_be_drawn():
    assert label_text("a \n b\x00") == "a b�"
    assert len(label_text("x" * 1000)) == 60 and label_text("x" * 1000).endswith("…")


def test_the_style_ends_with_the_figure():
    import matplotlib

    @styled
    def draw():
        assert not matplotlib.rcParams["text.parse_math"]
        return to_svg(canvas())

    draw()
    assert matplotlib.rcParams["text.parse_math"]
