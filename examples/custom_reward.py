"""A reward of your own: any function from a batch of samples to as many numbers, higher is better.

    python examples/custom_reward.py

Neither gradients nor training are needed, so a reward may count, look things up, or run a program.
"""

import argparse

import guided
from guided.samplers import SVDD


@guided.register_reward("oxygens")
def oxygens(smiles: list[str]) -> list[float]:
    """The number of oxygen atoms."""
    return [float(s.count("O") + s.count("o")) for s in smiles]


def main() -> None:
    """Oxygens only, and oxygens together with drug-likeness."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model = guided.load("molecules")
    own = guided.sample(model, reward="oxygens", sampler="unguided", n=16)
    many = guided.sample(model, reward="oxygens", sampler=SVDD(M=5), n=16)
    # Weights are shares of one number; `linear=0,6` maps 0 oxygens to 0 and 6 or more to 1.
    both = guided.sample(model, reward={"oxygens?linear=0,6": 1.0, "qed": 2.0}, sampler=SVDD(M=5), n=16)

    print(f"the model's own:     {own.rewards.mean():.1f} oxygens, {own.samples[0]}")
    print(f"for oxygens:         {many.rewards.mean():.1f} oxygens, {many.samples[0]}")
    count, qed = (sum(both.columns[name]) / 16 for name in ("oxygens_raw", "qed"))
    print(f"for oxygens and QED: {count:.1f} oxygens, QED {qed:.2f}, {both.samples[0]}")


if __name__ == "__main__":
    main()
