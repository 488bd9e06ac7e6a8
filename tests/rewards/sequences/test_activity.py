"""The oracles of cell-type activity: strands, batches, targets, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import guided
from guided.errors import RewardError
from guided.rewards.sequences import oracle as module
from guided.rewards.sequences.activity import CELLS, activity, specificity
from guided.rewards.sequences.oracle import Oracle, load_oracle, log_odds
from guided.scoring.objective import resolve_reward
from tests.toys.settings import FOREIGN, foreign

BASES = "ACGT"


def sequences(n: int, length: int = 200, seed: int = 0) -> list[str]:
    rows = torch.randint(0, 4, (n, length), generator=torch.Generator().manual_seed(seed))
    return ["".join(BASES[i] for i in row) for row in rows.tolist()]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("oracle")
    torch.manual_seed(0)
    save_file(Oracle(2, 8).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"members": 2, "width": 8}))
    return str(folder)


def test_both_strands_have_one_score(oracle: str) -> None:
    forward = sequences(4)
    backward = [s[::-1].translate(str.maketrans("ACGT", "TGCA")) for s in forward]
    torch.testing.assert_close(log_odds(forward, oracle), log_odds(backward, oracle), atol=1e-5, rtol=1e-5)


def test_a_score_does_not_depend_on_its_batch(oracle: str) -> None:
    mixed = [*sequences(300), *sequences(3, 150), "ACGN" * 50, "", "acgt" * 50]
    scores = log_odds(mixed, oracle)
    for i in (0, 299, 301, 305):
        torch.testing.assert_close(scores[i], log_odds([mixed[i]], oracle)[0], atol=1e-5, rtol=1e-5)
    assert scores[303:305].isneginf().all() and scores[:303].isfinite().all()
    torch.testing.assert_close(scores[305], log_odds(["ACGT" * 50], oracle)[0])


def test_specificity_is_the_lead_over_the_strongest_other(oracle: str) -> None:
    samples = sequences(5)
    scores = log_odds(samples, oracle).double()
    for i, cell in enumerate(CELLS):
        others = torch.cat([scores[:, :i], scores[:, i + 1 :]], dim=1)
        assert activity(samples, cell, oracle) == pytest.approx(scores[:, i].tolist())
        assert specificity(samples, cell, oracle) == pytest.approx((scores[:, i] - others.amax(1)).tolist(), abs=1e-5)
    assert specificity(["N" * 200], "HepG2", oracle) == [-float("inf")]


def test_target_is_the_prompts_cell_type_unless_given(oracle: str) -> None:
    samples, prompts = sequences(3), ["K562", "hepg2", "hESC"]
    each = [activity([s], p, oracle)[0] for s, p in zip(samples, prompts, strict=True)]
    assert activity(samples, oracle=oracle, prompts=prompts) == pytest.approx(each, abs=1e-5)
    fixed = activity(samples, "GM12878", oracle, prompts=prompts)
    assert fixed == pytest.approx(activity(samples, "GM12878", oracle))


def test_wrong_targets_and_oracles_are_told() -> None:
    for spec, message in (
        ("activity?target=HepG3", "HepG2"),
        ("specificity?oracle=jugde", "did you mean.*judge"),
        ("activity?oracle=/no/such/folder", "no oracle is called"),
    ):
        with pytest.raises(ValueError, match=message):
            resolve_reward(spec)
    with pytest.raises(ValueError, match="needs a cell type"):
        activity(sequences(1))


def test_broken_weights_are_told_in_one_line(oracle: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"members": 2, "width": 9}))
    (tmp_path / "model.safetensors").write_bytes((Path(oracle) / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="is of another architecture") as caught:
        load_oracle(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_shipped_oracles_know_their_factors() -> None:
    """Binding sites of a cell type's own factors raise its activity, to both oracles, which share no chromosome."""
    sites = {
        "HepG2": "GGGGTCAAAGTTCA",  # HNF4A
        "K562": "CTTATCTGGGGGGCAGCAGATAAG",  # GATA1::TAL1
        "GM12878": "AAAAAGAGGAAGTGA",  # SPI1
    }
    plain = sequences(64, seed=1)
    for oracle in ("guide", "judge"):
        for cell, site in sites.items():
            with_site = [s[:60] + site + s[60 + len(site) : 120] + site + s[120 + len(site) :] for s in plain]
            gain = [log_odds(part, oracle).mean(0)[CELLS.index(cell)].item() for part in (with_site, plain)]
            assert gain[0] > gain[1] + 0.3, (oracle, cell, gain)


def test_runs_are_steered_by_the_prompt(oracle: str) -> None:
    run = guided.sample("dna", f"activity?oracle={oracle}", n=2, prompt=["HepG2", "K562"], steps=4, sampler="unguided")
    assert run.rewards.tolist() == pytest.approx(
        [activity([s], p, oracle)[0] for s, p in zip(run.samples, ("HepG2", "K562"), strict=True)], abs=1e-5
    )


@pytest.mark.parametrize("name", FOREIGN)
def test_settings_of_torch_change_nothing(name: str) -> None:
    specs, samples = ["activity?target=HepG2", "specificity?target=K562", "gc", "homopolymer"], sequences(3)
    wanted = resolve_reward(specs).columns(samples)
    module._load.cache_clear()
    with foreign(name):
        assert resolve_reward(specs).columns(samples) == wanted


def test_a_fault_of_the_network_is_no_samples_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("expected scalar type Double but found Float")

    monkeypatch.setattr(module.Folded, "forward", broken)
    made = resolve_reward("activity?target=HepG2", on_error="worst")
    with pytest.raises(RewardError, match=r"'activity' fails in its own network, no sample is to blame: expected"):
        made(sequences(3))
    assert made.failures == 0
