"""How molecules are judged: the definitions of MOSES, as training/molecules/evaluate.py has them.

`FCD` is the Fréchet ChemNet distance to random molecules of the test split of MOSES; for n samples it is too large by
about 1240 / n. `QED` and `SA` are means over the valid samples; `diversity` is IntDiv1. Imported by npo.py; it does
nothing by itself.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from npo_task import Metric, Task

from guided.core.diffusion import Diffusion
from guided.errors import GuidedError
from guided.metrics.molecules import ChemNet, frechet_distance, internal_diversity
from training.molecules.evaluate import canonicals, properties, reference_set

METRICS = (
    *(Metric("validity"), Metric("unique"), Metric("FCD", -math.inf)),
    *(Metric("QED"), Metric("SA", -math.inf), Metric("diversity")),
)


def molecule_task(model: Diffusion, work: Path, size: int) -> Task:
    """The task, with a number of molecules of the test split as reference.

    Raises:
        GuidedError: The model is not one of molecules.
    """
    if model.modality != "molecules":
        raise GuidedError(f"{model.name!r} is no model of molecules")
    work.mkdir(parents=True, exist_ok=True)
    reference, chemnet = reference_set(work, size), ChemNet()

    def measure(samples: list[str]) -> Mapping[str, float]:
        molecules = [molecule for molecule in canonicals(samples) if molecule]
        if len(molecules) < 2:
            return {metric.name: math.nan for metric in METRICS} | {"validity": len(molecules) / len(samples)}
        values, found = properties(molecules), chemnet.statistics(molecules)
        return {
            "validity": len(molecules) / len(samples),
            "unique": len(set(molecules)) / len(molecules),
            "FCD": frechet_distance(*found, reference["mean"], reference["covariance"]),
            "QED": float(values["QED"].mean()),
            "SA": float(values["SA"].mean()),
            "diversity": internal_diversity(molecules),
        }

    real = {name: float(reference[name].mean()) for name in ("QED", "SA")}
    return Task("molecules", METRICS, measure, judge={"reference": size}, reference=real)
