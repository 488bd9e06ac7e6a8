"""The wall time of a run by a pipeline's own loop against that of the class of its family, on the shipped image model.

The two take turns, and the ratio of each pair is reported: `python benchmarks/pipeline_loops.py [--rounds 8]`.
"""

import statistics
import time

import typer

import guided
from guided.samplers import SVDD


def seconds(model: object, n: int, M: int) -> float:
    """The wall time of a run."""
    start = time.perf_counter()
    options = {"prompt": "red apple", "guidance": 4.0}
    guided.sample(model, reward="colourfulness", sampler=SVDD(M=M), n=n, **options)
    return time.perf_counter() - start


def main(rounds: int = 8, n: int = 4, candidates: int = 4, steps: int = 10) -> None:
    """Measures and prints the ratio."""
    family, loop = (guided.load("images", steps=steps, loop=loop, device="cpu") for loop in (False, True))
    for model in (family, loop):
        seconds(model, n, candidates)
    pairs = []
    for i in range(rounds):
        order = [family, loop] if i % 2 == 0 else [loop, family]
        taken = {id(model): seconds(model, n, candidates) for model in order}
        pairs.append((taken[id(family)], taken[id(loop)]))
        print(f"family {pairs[-1][0]:.2f} s, loop {pairs[-1][1]:.2f} s, ratio {pairs[-1][1] / pairs[-1][0]:.3f}")
    print(f"median ratio {statistics.median(b / a for a, b in pairs):.3f}")


if __name__ == "__main__":
    typer.run(main)
