"""What a sample's score comes from, as a file: the docked pose of a ligand.

A reward that has it is registered with `pose`. A pose is found anew for each sample that one is asked for, with the
workers and the time limit of the reward.
"""

__all__ = ["poses"]

from collections.abc import Callable, Sequence
from functools import partial

from guided.errors import RewardError
from guided.scoring.function import Function
from guided.scoring.limits import Hang, TimeLimit
from guided.scoring.process import Task
from guided.scoring.protocol import Scorer
from guided.scoring.term import Term
from guided.scoring.workers import Worker

Pose = Callable[[str], str]


def poses(term: Term, samples: Sequence[str]) -> list[str | None]:
    """The SDF records of n samples; None where there is no pose, and for all if the reward has none.

    Raises:
        RewardError: A worker process cannot be started.
        ImportError: A library is missing.
    """
    pose = term.source.pose
    if pose is None:
        return [None] * len(samples)
    if term.pool is not None and term.spread:
        task = Task(term.name, _records, {"pose": pose}, False)
        return term.pool.run([partial(_elsewhere, task, term.time_limit, sample) for sample in samples])
    return [_here(pose, term.time_limit, sample) for sample in samples]


def _records(samples: Sequence[str], pose: Pose) -> list[str | None]:
    found: list[str | None] = []
    for sample in samples:
        try:
            found.append(pose(sample))
        except (ImportError, RewardError):  # no sample's fault
            raise
        except Exception:  # it cannot be docked
            found.append(None)
    return found


def _here(pose: Pose, limit: float | None, sample: str) -> str | None:
    scorer: Scorer = Function(_records, {"pose": pose})
    return _first(scorer if limit is None else TimeLimit(scorer, limit), [sample])


def _elsewhere(task: Task, limit: float | None, sample: str, worker: Worker) -> str | None:
    return _first(lambda samples: worker.process.call(task, samples, None, limit, lambda: worker.stopped), [sample])


def _first(call: Callable[[list[str]], object], samples: list[str]) -> str | None:
    """The only record of a call; None if it took too long or ended its process."""
    try:
        found = call(samples)
    except Hang:
        return None
    return found[0] if isinstance(found, list) else None
