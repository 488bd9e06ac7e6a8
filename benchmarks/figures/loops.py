"""The loop against a plain one, and decoders of look-aheads against the full one: ratios within one process."""

__all__ = ["TABLES"]

from benchmarks.figures.draw import script
from benchmarks.figures.recipe import Measurement, Table
from guided.storage import read_json

LOOP = "benchmarks/hot_loop.py --json {out}/ratios.json"
RANDOM, OURS = "random network, L = 50, K = 128, M = 10, B = 8", "`molecules`, K = 64, M = 10, B = 16"
HOT = Measurement(
    "hot_loop",
    {RANDOM: (), OURS: ("molecules",)},
    {
        RANDOM: {"commands": [LOOP]},
        OURS: {"commands": [f"{LOOP} --model molecules --reward qed --requests 16 --steps 64"]},
    },
    script(lambda out: [read_json(out / "ratios.json")]),
    minutes=4,
)
DECODERS = Measurement(
    "lookahead",
    ("images",),
    {"all": {"commands": ["benchmarks/lookahead.py --requests 7 -M 4 --steps 20 --repeat 7 --json {out}/rows.json"]}},
    script(lambda out: read_json(out / "rows.json")["rows"]),
    minutes=4,
)

TABLES = (
    Table(
        HOT,
        {
            "": "{label}",
            "network rows": "{network_rows:.1%} of the plain loop's",
            "wall": "{speedup:.1f} times faster",
            "outside network, decoding and reward": "{overhead:.0%} of the wall-clock time",
            "decoding": "{decode:.0%}",
        },
    ),
    Table(
        DECODERS,
        {
            "look-ahead": "{label}",
            "time": "{time:.2f}",
            "reward less that of full": "{gap:+.3f}",
            "its size": "{size:.3f}",
            "correlation": "{r:.2f}",
            "SVDD's median reward": "{svdd:.2f}",
        },
    ),
)
