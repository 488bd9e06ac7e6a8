"""What searches find for how many calls: QED of molecules, the reward of each request's one sample.

python benchmarks/searches.py -n 32 --calls 100
"""

import argparse

import guided
from guided.samplers import SVDD, Beam, BestOfN, BlockBestOfN, Elite, NoiseSearch, Rollover, Tree


def searches(calls: int) -> list[object]:
    """Samplers of about as many calls; where a budget ends them, of as many."""
    return [
        SVDD(M=max(2, calls // 4)),
        Rollover(M=max(2, calls // 4)),
        Beam(N=4, M=max(2, calls // 16)),
        BlockBestOfN(N=max(2, calls // 8), block=4),
        Elite(N=10, rounds=1000),
        Tree(N=calls, every=4),
        NoiseSearch(N=10, rounds=calls // 10),
        BestOfN(calls),
    ]


def main() -> None:
    """Prints a line for each sampler: mean and worst reward, calls and network rows of a sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--model", default="molecules")
    parser.add_argument("--reward", default="qed")
    given = parser.parse_args()
    model = guided.load(given.model).with_steps(given.steps)
    for sampler in searches(given.calls):
        run = guided.sample(model, given.reward, sampler, n=given.n, budget_calls=given.calls)
        rewards, stats, n = run.rewards, run.stats, given.n
        print(
            f"{type(sampler).__name__:14} mean {rewards.mean():.4f} worst {rewards.min():.4f} "
            f"calls {stats.reward_calls / n:6.1f} rows {stats.network_rows / n:7.0f} "
            f"stopped {stats.stopped:3} seconds {stats.seconds['total']:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
