r"""Motifs of transcription factors from JASPAR: log-odds matrices, and the exact law of their scores.

A motif of width w has a log-odds matrix W, in bits, against equal frequencies of the four bases:

.. math:: W_{bj} = \log_2 \frac{(n_{bj} + 0.1 / 4) / (\sum_b n_{bj} + 0.1)}{1/4}, \quad
    s_i = \sum_j W_{x_{i+j}, j}

and a window's p-value is the probability that a random sequence scores at least as high. The law of the score is
computed exactly, column after column, for W rounded to thousandths of a bit.

References:
    | JASPAR 2024: 20th anniversary of the open-access database of transcription factor binding profiles
    | (Rauluseviciute et al., Nucleic Acids Research 52, D174, 2024)

    | Methods for calculating the probabilities of finding patterns in sequences
    | (Staden, Computer Applications in the Biosciences 5, 89, 1989)
"""

__all__ = ["Motif", "find_motif"]

import re
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError, nearest

RELEASE = "JASPAR2024"  # a fixed one, so that a name stays the same matrix; what came later is looked up in the newest
PSEUDOCOUNT = 0.1  # spread over the four bases, as FIMO does
STEP = 1e-3  # bits
_ID = re.compile(r"[A-Za-z]{2}\d{4}(\.\d+)?")


@dataclass(frozen=True, eq=False)
class Motif:
    """A motif.

    Attributes:
        id: JASPAR's, with the version: "MA0114.4".
        name: The transcription factor's: "HNF4A".
        counts: How often each base was seen at each place of a site, with shape `(4, w)`.
    """

    id: str
    name: str
    counts: NDArray[np.float64]

    @property
    def width(self) -> int:
        """In nt."""
        return int(self.counts.shape[1])

    @cached_property
    def log_odds(self) -> NDArray[np.float64]:
        """In bits, with shape `(4, w)`."""
        counts = self.counts + PSEUDOCOUNT / 4
        return np.asarray(np.log2(4 * counts / counts.sum(axis=0)))

    @cached_property
    def steps(self) -> NDArray[np.int32]:
        """The log-odds in whole thousandths of a bit, with shape `(4, w)`."""
        return np.rint(self.log_odds / STEP).astype(np.int32)

    def survival(self) -> NDArray[np.float64]:
        """P(score >= s) of a random window, for each whole s from the lowest score to the highest."""
        law = np.ones(1)
        for column in self.steps.T:
            shifts = column - column.min()
            longer = np.zeros(len(law) + shifts.max())
            for shift in shifts:
                longer[shift : shift + len(law)] += 0.25 * law
            law = longer
        return np.cumsum(law[::-1])[::-1]

    def cutoff(self, threshold: float) -> int:
        """The lowest score, in thousandths of a bit, whose p-value is below the threshold.

        Raises:
            ValueError: The threshold is not a probability, or the motif is so short that no score is so rare.
        """
        return _cutoff(self, threshold)


@lru_cache(maxsize=4096)
def _cutoff(motif: Motif, threshold: float) -> int:
    if not 0 < threshold <= 1:
        raise GuidedError(f"threshold is a p-value, > 0 and at most 1, given {threshold:g}")
    survival = motif.survival()
    rare = np.flatnonzero(survival < threshold)
    if not len(rare):
        raise GuidedError(
            f"no sequence matches {motif.name} ({motif.id}, {motif.width} nt) with a p-value below {threshold:g}: "
            f"the best match has {survival[-1]:.2g}; take a higher threshold"
        )
    return int(rare[0] + motif.steps.min(axis=0).sum())


@lru_cache(maxsize=4096)
def find_motif(id: str) -> Motif:
    """The motif of a JASPAR id ("MA0114.4", "MA0114" for its newest version), or of a factor by name ("HNF4A").

    Case does not matter in a name, unless two factors differ only in it. Of several matrices of a name, those of human
    go first, then those of vertebrates, then the lowest id; of several versions the newest.

    Raises:
        ImportError: pyjaspar is not installed.
        ValueError: There is no such motif.
    """
    try:
        from pyjaspar import JASPAR_LATEST_RELEASE, jaspardb
    except ImportError as error:
        raise ImportError(f"motifs come from pyjaspar: pip install guided ({error})") from error
    names: set[str] = set()
    for release in (RELEASE, JASPAR_LATEST_RELEASE):
        database = jaspardb(release=release)
        try:
            record = _record(database, id)
            if record is not None:
                counts = np.array([record.counts[base] for base in "ACGT"], dtype=np.float64)
                return Motif(record.matrix_id, record.name, counts)
            names |= {name for (name,) in database.conn.execute("SELECT NAME FROM MATRIX WHERE COLLECTION = 'CORE'")}
        finally:
            database.conn.close()
    raise GuidedError(f"JASPAR has no motif {id!r}{nearest(id, names)}; give an id such as MA0114.4 or a factor's name")


def _record(database: Any, id: str) -> Any:
    def order(record: Any) -> tuple[bool, bool, bool, str]:
        return record.name != id, "9606" not in record.species, record.tax_group != "vertebrates", record.matrix_id

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is none
        if _ID.fullmatch(id):
            return database.fetch_motif_by_id(id.upper())
        return min(database.fetch_motifs(collection="CORE", tf_name=id), key=order, default=None)
