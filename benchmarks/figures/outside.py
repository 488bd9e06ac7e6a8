"""Tables of numbers that `make figures` does not measure: document, first line (empty for all of them), and why not."""

__all__ = ["OUTSIDE"]

EARLIER = "of weights before, by an earlier form of benchmarks/frontier.py, as the section says"
COMPARED = "fits and runs at equal network rows, compared once; `guided fit-value` and `guided sample` repeat them"
TRIED = "settings that were tried and are not the default"
OUTSIDE = (
    ("docs/frontier.md", "| sampler | size | median QED | calls | rows | seconds |", EARLIER),
    ("docs/frontier.md", "| area by | calls | rows | seconds |", EARLIER),
    ("docs/pmo.md", "", "benchmarks/pmo.py goes on where it was stopped; it needs the files of molscore"),
    ("docs/molecules_of_the_paper.md", "", "hours of docking, and of a published network that is not shipped"),
    ("docs/measured/h100.md", "", "one H100"),
    ("docs/scaling.md", "", "several processes on a machine that others use: the ratio says as much about these"),
    ("docs/rewards-at-scale.md", "| | |", "rewards and networks that sleep; benchmarks/workers.py prints the ratios"),
    (
        "docs/values.md",
        "| value | held-out loss | sampler's alpha = 0.5 | judge | alpha = 0 | judge |",
        "two fits, compared once to choose a default; `guided fit-value` prints the same of any other",
    ),
    ("docs/values.md", "| | K | M | network rows | guide | judge |", COMPARED),
    ("docs/values.md", "| | K | M | network rows | reward calls | median QED |", COMPARED),
    (
        "guided/checkpoints/dna/README.md",
        "| guidance | HepG2: 6-mer r | HNF4A, HNF1A | K562: 6-mer r | 3-mer r | GATA1::TAL1 | hESC: 6-mer r "
        "| POU5F1::SOX2 |",
        TRIED,
    ),
    (
        "guided/checkpoints/dna/README.md",
        "| guidance, 4,000 samples | HepG2: 6-mer r, HNF4A, HNF1A | K562: 6-mer r, 3-mer r, GATA1::TAL1 "
        "| hESC: 6-mer r, POU5F1::SOX2 | GM12878: 6-mer r, SPI1 |",
        "one H100; training.dna.evaluate judges as many",
    ),
    (
        "guided/checkpoints/molecules/README.md",
        "| temperature | novelty | FCD | QED, SA: Wasserstein-1 | rings, sum of differences | halogen on N, O or S |",
        TRIED,
    ),
    (
        "guided/checkpoints/rna/README.md",
        "| | shipped | again, the best: 2,155 updates | again, the last: 4,083 updates |",
        "a training whose weights are not shipped",
    ),
    ("docs/self_npo.md", "| | plain | CFG | NPO | NPO less CFG |", "of former weights of the images, and says so"),
    ("docs/images.md", "| pipelines | network | default guidance | default steps |", "defaults, not measured"),
    ("training/README.md", "", "trainings, and networks that were tried and not shipped"),
    ("guided/checkpoints/dna_oracle/README.md", "", "training.dna.oracle prints them when it has trained the oracles"),
)
