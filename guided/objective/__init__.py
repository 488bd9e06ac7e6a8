"""What a run maximises: rewards from any source, under guard, transformed, weighted and aggregated.

| file | what it does |
|---|---|
| `objective.py` | the objective and its terms |
| `drafts.py` | from a specification to terms |
| `sources.py`, `locate.py`, `external.py` | rewards by name, in files, modules, plug-ins and programs |
| `parameters.py` | `name?key=value` |
| `guard.py` | the failure policy and the time limit |
"""

__all__ = ["Aggregate", "Objective", "RewardSpec", "Term", "resolve_reward"]

from guided.objective.objective import Aggregate, Objective, RewardSpec, Term, resolve_reward
