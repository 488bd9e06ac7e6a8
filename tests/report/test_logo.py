"""Sequence logos: the information of known frequencies, its correction, and what is drawn."""

import sys
import xml.etree.ElementTree as ET
from itertools import combinations
from math import log

import logomaker
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.report import logo as module
from guided.report.canvas import NUCLEOTIDES
from guided.report.logo import information, logo, position_frequencies

INFINITE = 10**12  # sequences, of which chance has no part


def test_frequencies_are_those_of_each_position():
    table = position_frequencies(["ACG", "ACT", "AGT", "AGA"], "ACGT")
    assert table.tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0.25, 0, 0.25, 0.5]]


@pytest.mark.parametrize(("frequencies", "bits"), [([0.25] * 4, 0), ([1, 0, 0, 0], 2), ([0, 0.5, 0.5, 0], 1)])
def test_information_of_known_frequencies(frequencies, bits):
    assert information(np.array([frequencies]), INFINITE) == pytest.approx([bits], abs=1e-9)


def test_few_sequences_are_corrected_for_chance():
    assert information(np.array([[1.0, 0, 0, 0]]), 10) == pytest.approx([2 - 3 / (20 * log(2))])
    assert information(np.array([[0.25] * 4]), 10) == 0


def test_the_correction_is_what_chance_shows():
    rng = np.random.default_rng(0)
    frequencies = rng.multinomial(40, [0.25] * 4, size=20_000) / 40
    assert information(frequencies, INFINITE).mean() == pytest.approx(3 / (80 * log(2)), rel=0.03)


@given(st.lists(st.text("ACGT", min_size=4, max_size=4), min_size=1, max_size=20))
def test_information_lies_between_zero_and_two_bits(sequences):
    bits = information(position_frequencies(sequences, "ACGT"), len(sequences))
    assert (bits >= 0).all() and (bits <= 2).all()


def test_sequences_of_several_lengths_are_refused():
    with pytest.raises(ValueError, match=r"one length, given \[2, 3\]"):
        position_frequencies(["AC", "ACG"], "ACGT")


def test_letters_are_as_high_as_their_shares_of_the_information(monkeypatch):
    tables = []
    plain = logomaker.Logo
    monkeypatch.setattr(logomaker, "Logo", lambda table, **options: tables.append(table) or plain(table, **options))
    logo({"samples": ["A"] * 60 + ["G"] * 30 + ["T"] * 10}, "ACGT")
    height = information(np.array([[0.6, 0, 0.3, 0.1]]), 100)[0]
    [table] = tables
    assert table.loc[1].to_dict() == pytest.approx({"A": 0.6 * height, "C": 0, "G": 0.3 * height, "T": 0.1 * height})


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "logomaker", None)
    with pytest.raises(ImportError, match="pip install guided"):
        logo({"samples": ["ACG"] * 10}, "ACGT")


def test_a_logo_is_svg_with_the_colours_of_its_letters():
    svg = logo({"guided": ["AAU"] * 20, "unguided": ["AAU"] * 20}, "ACGU")
    assert ET.fromstring(svg).tag.endswith("svg")
    assert NUCLEOTIDES["A"] in svg and NUCLEOTIDES["U"] in svg
    assert NUCLEOTIDES["C"] not in svg and NUCLEOTIDES["G"] not in svg


def test_long_sequences_take_several_rows(monkeypatch):
    monkeypatch.setattr(module, "ROW", 4)
    height = [float(ET.fromstring(logo({"samples": ["A" * n] * 10}, "ACGT")).get("height")[:-2]) for n in (4, 5)]
    assert height[1] == pytest.approx(2 * height[0])


# How red, green, blue (linear) look without one kind of cones: Machado, Oliveira and Fernandes (2009), severity 1.
SIGHT = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)


@pytest.mark.parametrize("sight", SIGHT)
def test_the_colours_of_the_bases_differ_for_everyone(sight):
    """Distances in CIE L*a*b*; 10 is a clear difference."""
    places = []
    for letter in "ACGT":
        code = np.array([int(NUCLEOTIDES[letter][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
        assert 1.05 / ((TO_XYZ @ linear)[1] + 0.05) >= 3  # contrast on white
        f = np.cbrt(TO_XYZ @ np.clip(np.array(SIGHT[sight]) @ linear, 1e-3, 1) / [0.95047, 1, 1.08883])
        places.append(np.array([116 * f[1], 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]))
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) >= 38
