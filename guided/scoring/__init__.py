"""What a run maximises: rewards from any source, under guard, transformed, weighted and aggregated.

| file | what it does |
|---|---|
| `objective.py` | the objective and its terms |
| `specification.py` | from a specification to terms |
| `sources.py`, `locate.py`, `external.py` | rewards by name, in files, modules, plug-ins and programs |
| `parameters.py` | `name?key=value` |
| `failures.py` | the failure policy and the time limit |
"""
