"""Rewards of sequences on codes: the same scores as on text, on the CPU to the last bit where nothing is reordered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from guided.core.views import EachPrompt
from guided.rewards.sequences import mpra, oracle
from guided.rewards.sequences.activity import activity, specificity
from guided.rewards.sequences.composition import gc, homopolymer
from guided.rewards.sequences.kmers import natural_kmers
from guided.rewards.sequences.motifs import motif_count, motif_score
from guided.rewards.sequences.oracle import Folded, Oracle, Products, _network_on, load_oracle, log_odds
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import rewards
from tests.rewards.sequences.test_mpra import arrays_of, write

LETTERS = "ACGTN"
EXACT = {
    "gc": gc,
    "homopolymer": homopolymer,
    "natural_kmers": lambda x: natural_kmers(x, "HepG2"),
    "motif_count": lambda x: motif_count(x, "MA0035.4"),
    "motif_score": lambda x: motif_score(x, "MA0035.4"),
}


def texts(codes: Tensor) -> list[str]:
    return ["".join(LETTERS[code] for code in row) for row in codes.tolist()]


def drawn(n: int, length: int, seed: int = 0, highest: int = 3) -> Tensor:
    return torch.randint(0, highest + 1, (n, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", EXACT)
@given(
    rows=st.integers(0, 40).flatmap(
        lambda length: st.lists(st.lists(st.sampled_from([0, 1, 2, 3, 3, 3, 4]), min_size=length, max_size=length))
    )
)
def test_scores_of_codes_are_those_of_text(name: str, rows: list[list[int]]) -> None:
    codes = torch.tensor(rows, dtype=torch.long).view(len(rows), len(rows[0]) if rows else 0)
    found = EXACT[name](codes)
    assert found.shape == (len(rows),) and found.tolist() == np.asarray(EXACT[name](texts(codes))).tolist()


@pytest.mark.parametrize("name", EXACT)
def test_the_type_of_the_codes_does_not_matter(name: str) -> None:
    codes = drawn(30, 60, highest=4)
    codes[:20].clamp_(max=3)
    for kind in (torch.uint8, torch.int32):
        assert torch.equal(EXACT[name](codes.to(kind)), EXACT[name](codes))


@pytest.mark.parametrize("n", [1, 2, 7, 63, 64, 65, 71, 72, 130])
def test_activity_of_codes_is_that_of_text(n: int) -> None:
    codes = drawn(n, 200)
    codes[0, 7] = 4
    for reward in (activity, specificity):
        on_text: Any = reward(texts(codes), "HepG2")
        assert reward(codes, "HepG2").tolist() == on_text and on_text[0] == -float("inf")


def test_prompts_say_the_cell_type_of_codes() -> None:
    codes, cells = drawn(6, 200), ["K562", "hepg2", "HepG2", "K562", "hESC", "K562"]
    for reward in (activity, specificity):
        wanted: Any = reward(texts(codes), prompts=cells)
        assert reward(codes, prompts=EachPrompt.of(cells, torch.device("cpu"))).tolist() == wanted
        assert reward(codes, prompts=cells).tolist() == wanted


def test_sequences_that_are_too_short_for_the_oracle_have_no_activity() -> None:
    assert log_odds(drawn(3, 15)).isneginf().all() and log_odds(drawn(0, 200)).shape == (0, 4)


@pytest.mark.parametrize("fast", [Folded, Products])
@pytest.mark.parametrize("length", [16, 17, 200])
def test_the_fast_oracles_are_the_oracle(fast: type[Folded | Products], length: int) -> None:
    for name in ("guide", "judge"):
        slow, x = oracle.load_oracle(name), torch.nn.functional.one_hot(drawn(64, length), 4).mT.float()
        with torch.no_grad():
            torch.testing.assert_close(fast(slow)(x), slow(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fast", [Folded, Products])
def test_folding_uses_the_whole_law_of_the_norms(fast: type[Folded | Products]) -> None:
    """Networks whose norms are far from the identity, and of another number of members and width."""
    torch.manual_seed(1)
    slow = Oracle(2, 8).eval()
    for member in slow.members:
        for norm in member.norms:  # type: ignore[union-attr]
            for value in (norm.weight, norm.bias, norm.running_mean):
                value.data.normal_()
            norm.running_var.uniform_(0.1, 3)
    x = torch.nn.functional.one_hot(drawn(9, 50), 4).mT.float()
    with torch.no_grad():
        torch.testing.assert_close(fast(slow)(x), slow(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", range(1, 20))
def test_a_score_has_the_same_bits_in_any_batch(n: int) -> None:
    codes = drawn(150, 200)
    whole = log_odds(codes)
    assert torch.equal(log_odds(codes[:n]), whole[:n]) and torch.equal(log_odds(codes[-n:]), whole[-n:])


@pytest.mark.parametrize("length", [145, 150, 170])
@pytest.mark.parametrize("stride", [1, 7, 500])
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_dragonn_of_codes_is_that_of_text(tmp_path: Path, length: int, stride: int, pool: str) -> None:
    path, codes = write(tmp_path / "dragonn.h5", arrays_of(mpra.DRAGONN)), drawn(4, length)
    codes[1, 3] = 4
    found, wanted = (mpra.dragonn(x, path, stride=stride, pool=pool) for x in (codes, texts(codes)))
    assert isinstance(found, Tensor) and found.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)
    with pytest.raises(ValueError, match="windows of 145 bp, given a sequence of 100"):
        mpra.dragonn(codes[:, :100], path)
    assert mpra.dragonn(torch.full((2, 100), 4), path).tolist() == [-float("inf")] * 2


@pytest.mark.parametrize("length", [20, 50, 80])
def test_load_of_codes_is_that_of_text(tmp_path: Path, length: int) -> None:
    path, codes = write(tmp_path / "optimus.h5", arrays_of(mpra.OPTIMUS)), drawn(5, length)
    codes[2, 0] = 4
    found, wanted = mpra.mrl(codes, path), mpra.mrl(texts(codes), path)
    assert resolve_reward(f"mrl?weights={path}&precision=float32")(texts(codes)).tolist() == wanted.tolist()
    assert isinstance(found, Tensor) and found.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_which_rewards_take_codes() -> None:
    takes = {name for name, reward in rewards().items() if reward.takes == "tokens"}
    assert takes >= {"activity", "specificity", "gc", "homopolymer", "motif_count", "motif_score", "dragonn", "mrl"}
    assert all(rewards()[name].modality == "dna" for name in takes & set(EXACT))


def test_half_precision_is_a_choice_and_is_recorded() -> None:
    codes = drawn(20, 200)
    half = activity(codes, "HepG2", precision="bfloat16")
    exact = activity(codes, "HepG2")
    assert isinstance(half, Tensor) and isinstance(exact, Tensor)
    assert 1e-5 < (half - exact).abs().max() < 0.2
    made = resolve_reward("activity?target=HepG2&precision=bfloat16")
    assert made.identity["terms"][0]["parameters"]["precision"] == "bfloat16"
    with pytest.raises(ValueError, match="precision is one of float32, tf32, bfloat16, float16"):
        resolve_reward("activity?precision=float8")


def test_an_oracle_on_another_device_leaves_the_one_here_where_it_is():
    """Each device has its own copy, heads and all."""
    before = log_odds(["ACGT" * 10])
    there = _network_on(load_oracle(), torch.device("meta"))
    assert {p.device.type for p in there.parameters()} == {"meta"}
    assert {p.device.type for p in load_oracle().parameters()} == {"cpu"}
    assert torch.equal(log_odds(["ACGT" * 10]), before)


def test_an_oracle_is_folded_on_a_cpu_and_in_products_elsewhere():
    here, there = (_network_on(load_oracle(), torch.device(device)) for device in ("cpu", "meta"))
    assert isinstance(here, Folded) and isinstance(there, Products)
