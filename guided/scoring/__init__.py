"""What a run maximises: rewards from any source, transformed, weighted and aggregated into one number a sample.

| file | what it does |
|---|---|
| `objective.py`, `term.py` | the objective and its terms |
| `specification.py` | from a specification to terms |
| `sources.py`, `locate.py`, `parameters.py` | rewards by name, in files, modules, plug-ins and programs |
| `registry.py` | the table of rewards by name |
| `protocol.py` | what scores samples, and what wraps it |
| `function.py`, `copies.py` | a function of Python, called on copies |
| `external.py`, `program.py` | another program |
| `limits.py`, `failures.py` | the time limit and the failure policy |
| `workers.py`, `process.py`, `serving.py` | a batch scored in parts, by processes and threads |
| `turns.py` | who runs while another waits for scores |
| `cache.py` | scores on disk |
| `digests.py`, `dependencies.py`, `identity.py` | what scores depend on, and whether that has changed |
| `transforms.py` | from raw scores to one number |
"""
