"""The minimum free energy: hairpins that a hand can sum, strands that do not fold, and which library folds."""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guided.rewards.sequences.folding import mfe
from guided.scoring.objective import resolve_reward

HAIRPIN = "GGGGAAAACCCC"


@pytest.fixture(params=["vienna", "seqfold"])
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip({"vienna": "RNA", "seqfold": "seqfold"}[request.param])
    return request.param


def test_a_hairpin_has_the_energy_of_its_parts(engine: str) -> None:
    # three stacks GG/CC of -3.3, a loop of four of +5.6, and the mismatch of A and A on the closing G and C of -1.1
    assert mfe([HAIRPIN], engine).tolist() == pytest.approx([3 * -3.3 + 5.6 - 1.1], abs=0.15)


def test_t_is_u_and_case_does_not_matter(engine: str) -> None:
    u = mfe(["GGGGUUUUCCCC"], engine)[0]
    assert mfe(["GGGGTTTTCCCC", "ggggttttcccc", "ggggUUuUcccc"], engine).tolist() == [u] * 3
    assert u < 0


def test_what_cannot_fold_has_no_energy(engine: str) -> None:
    assert mfe(["A", "AC", "A" * 20, "CA" * 10, "AUAUAU"], engine).tolist() == [0] * 5


def test_an_invalid_sequence_is_the_worst_in_both_directions(engine: str) -> None:
    wrong = [None, "", "GGN", "...."]
    assert mfe([HAIRPIN, *wrong], engine)[1:].tolist() == [-np.inf] * 4
    for transform in ("linear=0,-30", "linear=-30,0"):
        scores = resolve_reward(f"mfe?engine={engine}&{transform}")([HAIRPIN, *wrong])
        assert scores[0] > 0 and scores[1:].isneginf().all()


def test_a_transform_chooses_the_direction(engine: str) -> None:
    stable, unstable = "GGGGGGAAAACCCCCC", "A" * 16
    for transform, best in (("linear=0,-30", 0), ("linear=-30,0", 1)):
        assert resolve_reward(f"mfe?engine={engine}&{transform}")([stable, unstable]).argmax() == best
    assert resolve_reward(f"mfe?engine={engine}")([stable, unstable]).argmax() == 1  # the raw score is the energy


def test_each_further_pair_adds_its_stack(engine: str) -> None:
    helices = mfe(["G" * pairs + "AAAA" + "C" * pairs for pairs in range(3, 9)], engine)
    assert np.diff(helices) == pytest.approx([-3.3] * 5, abs=0.05)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("ACGU", min_size=1, max_size=25), min_size=1, max_size=4))
def test_no_energy_is_above_that_of_the_open_strand_whatever_the_batch(engine: str, batch: list[str]) -> None:
    energies = mfe(batch, engine).tolist()
    assert max(energies) <= 0
    assert energies == [mfe([strand], engine)[0] for strand in batch]


def test_the_engine_is_the_first_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("seqfold")
    strand = "GGGGUUUUCCCC"  # the libraries differ on it
    monkeypatch.setitem(sys.modules, "RNA", None)
    assert mfe([strand]).tolist() == mfe([strand], "seqfold").tolist()
    with pytest.raises(ImportError, match=r'pip install "guided\[vienna\]"'):
        resolve_reward("mfe?engine=vienna")
    monkeypatch.setitem(sys.modules, "seqfold", None)
    for spec in ("mfe", "mfe?engine=seqfold"):
        with pytest.raises(ImportError, match="pip install guided"):
            resolve_reward(spec)


def test_vienna_is_preferred() -> None:
    pytest.importorskip("RNA")
    assert mfe(["GGGGUUUUCCCC"]).tolist() == mfe(["GGGGUUUUCCCC"], "vienna").tolist()


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'vienna'"):
        resolve_reward("mfe?engine=viena")
