"""Secondary structure of RNA: the minimum free energy.

The energy is that of the most stable secondary structure without pseudoknots, against the open strand, at 37 °C in 1 M
NaCl, by dynamic programming over nearest-neighbour energies. It is 0 for a strand that does not fold, and negative
otherwise. Two libraries compute it, each with its own energy tables and rules: ViennaRNA where it is installed,
otherwise seqfold, which is slower on long strands. Their energies of random strands of 50 nt correlate with .67 only:
name the engine where a run must mean the same on another machine. Neither releases Python's lock, so that threads would
not help.

Which direction is better is the user's to say: the raw score is the energy, so that without a transform open strands
are the better ones. `mfe?linear=0,-30` rewards stable structures, `mfe?linear=-30,0` open ones, `mfe?window=-20,-10,5`
a range.

References:
    | ViennaRNA Package 2.0
    | (Lorenz, Bernhart, Höner zu Siederdissen, Tafer, Flamm, Stadler and Hofacker, Algorithms for Molecular Biology 6,
      26, 2011)

    | Optimal computer folding of large RNA sequences using thermodynamics and auxiliary information
    | (Zuker and Stiegler, Nucleic Acids Research 9, 133, 1981)
    | implemented in seqfold: https://github.com/Lattice-Automation/seqfold
"""

__all__ = ["mfe"]

from collections.abc import Callable

import numpy as np

from guided.errors import GuidedError, nearest
from guided.rewards.sequences.composition import Samples, Scores, encode, or_worst
from guided.scoring.registry import register_reward


def _check_engine(engine: str = "auto") -> None:
    _folder(engine)


@register_reward("mfe", modality="dna", check=_check_engine)
def mfe(samples: Samples, engine: str = "auto") -> Scores:
    """Minimum free energy of the RNA, in kcal/mol, at most 0, lower is more stable; -inf for an invalid sequence.

    Args:
        samples: n sequences; T is read as U.
        engine: "vienna", "seqfold", or "auto" for the first of these that is installed.

    Raises:
        ImportError: The engine is not installed.
        ValueError: There is no such engine.
    """
    fold, batch = _folder(engine), encode(samples)
    energies = np.zeros(len(samples))
    for i in np.flatnonzero(batch.valid).tolist():
        energies[i] = fold(str(samples[i]).upper().replace("T", "U"))
    return or_worst(batch, energies)


def _folder(engine: str) -> Callable[[str], float]:
    folders = {"vienna": _vienna, "seqfold": _seqfold}
    if engine != "auto":
        if engine not in folders:
            known = ["auto", *folders]
            raise GuidedError(f"unknown engine {engine!r}{nearest(engine, known)}; it is one of {', '.join(known)}")
        return folders[engine]()
    try:
        return _vienna()
    except ImportError:
        return _seqfold()


def _vienna() -> Callable[[str], float]:
    try:
        from RNA import fold
    except ImportError as error:
        raise ImportError(f'mfe?engine=vienna needs ViennaRNA: pip install "guided[vienna]" ({error})') from error
    return lambda strand: round(fold(strand)[1], 2)  # it counts in hundredths, and returns float32


def _seqfold() -> Callable[[str], float]:
    try:
        from seqfold import dg
    except ImportError as error:
        raise ImportError(
            f'mfe needs ViennaRNA, pip install "guided[vienna]", or seqfold, pip install guided ({error})'
        ) from error
    # where no structure is stable it gives the best of the unstable ones, or -inf where there is none at all
    return lambda strand: min(0.0, energy) if np.isfinite(energy := dg(strand)) else 0.0
