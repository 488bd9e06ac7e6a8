"""The report of a run of sequences: what is on the page, and what is left out with which reason."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from guided import cli
from guided.metrics.kmers import correlation, kmer_frequencies
from guided.nets.convolution import TokenConvolution
from guided.report import sequences, write_report
from guided.report.motifs import FACTORS, named
from guided.report.sequences import kmer_figure
from guided.rewards.sequences import jaspar
from guided.scoring.objective import resolve_reward
from guided.storage import write_csv

HEADER = ["request", "seed", "sample", "reward", "gc_raw", "gc", "reward_calls", "network_rows"]
CONFIG = {"model": "toys/dna", "sampler": {"name": "svdd", "M": 4}, "n": 12, "seed": 0, "steps": 3, "device": "cpu"}
STATS = {"network_rows": 1, "network_calls": 1, "reward_calls": 1, "seconds": {"total": 1.0}}
GC = {"terms": [{"reward": "gc", "parameters": {}, "weight": 1.0, "transform": None}], "aggregate": "mean"}


def draw(n, length, seed=0, letters="ACGT", p=None):
    codes = np.random.default_rng(seed).choice(4, size=(n, length), p=p)
    return ["".join(letters[i] for i in row) for row in codes]


def gc(samples):
    return [(s.count("G") + s.count("C")) / len(s) for s in samples]


def page(folder, samples, unguided=(), objective=None, **config):
    """The report of a run with these samples, rewarded by their share of G and C."""
    run = {"config": CONFIG | {"reward": GC} | config, "reward_name": "gc", "stats": STATS}
    (folder / "run.json").write_text(json.dumps(run))
    for name, found in (("samples.csv", samples), ("unguided.csv", unguided)):
        if found:
            rows = [[i, 0, s, r, r, r, 0, 0] for i, (s, r) in enumerate(zip(found, gc(found), strict=True))]
            write_csv(folder / name, [HEADER, *rows])
    return write_report(folder, objective).read_text(encoding="utf-8")


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<(style|svg).*?</\1>|<[^>]*>", " ", html, flags=re.S))


def headings(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_a_run_of_dna_has_all_parts(tmp_path):
    html = page(tmp_path, draw(12, 8, 1), draw(12, 8, 2))
    parts = ["Best sequences", "Letters at each position", "What each base is worth", "Motifs"]
    assert headings(html) == [*parts, "What it cost", "To repeat it"]
    assert html.count("<svg") == 4  # histogram, k-mers, logos, map
    assert "Left out" not in html
    assert not re.search(r"<(script|link|img|iframe)", html)
    fetched = set(re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", html))
    assert all(target.startswith(("#", "data:")) for target in fetched), fetched


def test_the_best_sequences_can_be_copied(tmp_path):
    samples = [*draw(20, 25, 1), "G" * 25]
    html = page(tmp_path, samples, prompt="HepG2")
    best = sorted(samples, key=lambda s: -gc([s])[0])[:12]
    shown = [re.sub(r"<[^>]*>", "", code) for code in re.findall(r"<code>(.*?)</code>", html)]
    assert shown == best
    assert f"&gt;request_20 seed=0 reward=1.0 prompt=HepG2\n{'G' * 25}\n" in html
    assert "1.000 #20 HepG2 G G" in text_of(html)


def test_a_run_of_rna_has_no_motifs(tmp_path):
    html = page(tmp_path, draw(12, 8, letters="ACGU"))
    assert "Motifs" not in headings(html) and html.count("<svg") == 3
    assert "<i class=U>U</i>" in html


def test_a_run_of_molecules_stays_as_it_is(tmp_path):
    html = page(tmp_path, ["C", "CC", "CCC"])
    assert headings(html)[0] == "Best samples" and "<i class" not in html and 'class="grid"' in html


def test_few_sequences_or_several_lengths_have_no_logo(tmp_path):
    assert "Left out: it takes 10 sequences." in page(tmp_path, draw(9, 8))
    assert "Left out: it takes sequences of one length" in page(tmp_path, [*draw(12, 8), "ACG"])


def test_a_run_without_a_reward_has_no_worth(tmp_path):
    write_csv(tmp_path / "samples.csv", [HEADER[:3], *([i, 0, s] for i, s in enumerate(draw(12, 8)))])
    (tmp_path / "run.json").write_text(json.dumps({"config": CONFIG | {"reward": None}, "stats": STATS}))
    html = write_report(tmp_path).read_text()
    assert "What each base is worth" not in headings(html) and "Motifs" in headings(html)


def test_the_worth_is_by_the_runs_own_reward_and_prompt(tmp_path):
    asked = []

    def prompted(samples, prompts):
        asked.extend(zip(samples, prompts, strict=True))
        return gc(samples)

    samples = ["ATATATAT", "GCGCATAT"]
    html = page(tmp_path, samples, objective=resolve_reward(prompted), prompt=["K562", "HepG2"])
    assert len(asked) == 1 + 3 * 8 and {prompt for _, prompt in asked} == {"HepG2"}
    assert asked[0] == ("GCGCATAT", "HepG2") and "Change of the best sequence&#x27;s reward (0.500)" in html


def test_no_file_and_no_program_is_run_for_a_report(tmp_path):
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef reward(s): return [0.0] * len(s)\n")
    term = GC["terms"][0] | {"reward": f"{tmp_path / 'trap.py'}:reward"}
    html = page(tmp_path, draw(12, 8), reward={"terms": [term], "aggregate": "mean"})
    assert "Left out: the reward is none of the registered ones" in html and not (tmp_path / "ran").exists()


def test_a_reward_that_fails_or_takes_long_leaves_the_worth_out(tmp_path, monkeypatch):
    def broken(samples):
        raise RuntimeError("no <oracle>")

    html = page(tmp_path, draw(12, 8), objective=resolve_reward(broken))
    assert "raised RuntimeError: no &lt;oracle&gt;" in html and "</html>" in html
    monkeypatch.setattr(sequences, "changes", lambda *a: (_ for _ in ()).throw(sequences.GuidedError("took 30 s")))
    assert "Left out: took 30 s." in page(tmp_path, draw(12, 8))


def rows(samples):
    return [{"sample": s} for s in samples]


def test_the_kmers_are_the_longest_that_there_are_enough_of():
    p = [0.1, 0.4, 0.4, 0.1]
    guided, unguided = draw(20, 20, 1, p=p), draw(20, 20, 2)  # 20 * 17 words of four letters, of 256
    svg, caption = kmer_figure(rows(guided), rows(unguided))
    assert svg.startswith("<svg") and "Words of 4 letters" in caption
    assert re.search(r"more frequent than expected are [CG]{2,}", caption)
    assert kmer_figure(rows(["ACG"]), rows(guided)) == ("", "")


def test_the_scatter_says_pearsons_r(monkeypatch):
    from matplotlib.axes import Axes

    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, title: titles.append(title))
    guided, unguided = draw(20, 20, 1), draw(20, 20, 1)[:15] + draw(5, 20, 2)
    kmer_figure(rows(guided), rows(unguided))
    r = correlation(kmer_frequencies(guided, 4), kmer_frequencies(unguided, 4))
    assert titles == [f"Pearson r = {r:.3f}"] and 0.3 < r < 1


def test_motifs_of_the_rewards_go_first():
    term = {"reward": "motif_count", "parameters": {"id": "MA0114.4"}}
    spec = {"terms": [{"reward": "gc", "parameters": {}}, term], "aggregate": "mean"}
    assert named(spec) == ["MA0114.4"] and named(None) == []


def test_the_motif_table_counts_sites(tmp_path):
    pytest.importorskip("pyjaspar")
    site = "GGGGTTAATGATTAACAGGGG"  # of HNF1A
    html = page(tmp_path, [site + "A", site[::-1] + "A"] * 6, ["A" * 21 + "G"] * 12)
    [line] = re.findall(r"<tr><td>HNF1A <small>MA0046[.\d]*</small></td>(.*?)</tr>", html)
    mean, plain, present, none = re.findall(r"<td>(.*?)</td>", line)
    assert float(mean) >= 0.5 and present in ("50 %", "100 %") and (plain, none) == ("0.00", "0 %")
    table = html[html.index("<h2>Motifs") :]
    assert table[: table.index("</table>")].count("<tr>") == 1 + len(FACTORS)


def test_without_pyjaspar_the_table_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    jaspar.find_motif.cache_clear()
    html = page(tmp_path, draw(12, 8))
    assert "Left out: motifs come from pyjaspar: pip install guided" in html


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint of the shipped nucleotide models' format, with random weights."""
    torch.manual_seed(0)
    folder, size = tmp_path_factory.mktemp("tiny"), {"width": 8, "kernel": 3, "dilations": [1]}
    config = {"kind": "nucleotides", "alphabet": "ACGT", "length": 12, "labels": ["none", "HepG2"], "steps": 3}
    save_file(TokenConvolution(4, 2, **size).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | size))
    return folder


@pytest.mark.parametrize("report", ["--report", "--no-report"])
def test_the_command_writes_fasta_beside_the_samples(model, tmp_path, monkeypatch, report):
    words = ["sample", model, "--reward", "gc", "-M", 2, "-n", 12, "--prompt", "HepG2", "--device", "cpu", report]
    monkeypatch.setattr(sys, "argv", ["guided", *map(str, words), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    records = (tmp_path / "run" / "samples.fasta").read_text().split(">")[1:]
    assert len(records) == 12 and all(re.fullmatch(r"request_\d+ .* prompt=HepG2\n[ACGT]{12}\n", r) for r in records)
    if report == "--report":
        html = (tmp_path / "run" / "report.html").read_text()
        assert "All 12 are in samples.fasta." in html and "Left out" not in html
