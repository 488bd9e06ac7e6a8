"""Schedulers whose steps are not those of this package, even without noise, and what is taken in their place.

A step of the process is one of first order, with a share `eta` of fresh noise: at 0 it is DDIM's, or the Euler step
of a flow. A multistep solver takes its step from predictions of earlier times, which candidates do not have of their
own. Only its times are used, and nobody is to find that out from the samples: it is said, or refused where such a
solver was asked for by name. (Solvers that call the network between the times have no usable grid, see `levels`.)
"""

__all__ = ["check_named", "share_of", "solver_of"]

import warnings
from typing import Any

from guided.errors import GuidedError, check_number

#: In the names of multistep solvers.
MULTISTEP = ("Multistep", "PNDM", "Singlestep", "LMS", "SASolver", "CogVideoXDPM")


def solver_of(scheduler: Any) -> str:
    """Why a scheduler's steps are not taken; "" where those of first order are its own."""
    name, config = type(scheduler).__name__, scheduler.config
    if int(config.get("solver_order", 2)) == 1 and "UniPC" not in name:  # which corrects its last step, too
        return ""
    if any(word in name for word in MULTISTEP):
        return f"{name} takes each step from several predictions, and candidates branch"
    return ""


def share_of(eta: Any, scheduler: Any) -> float:
    """The share of fresh noise; 1 if none is given, with a warning where the scheduler's steps are of another kind.

    Raises:
        GuidedError: It is no number.
    """
    if eta is not None:
        number = check_number("eta", eta, float)
        return eta if isinstance(eta, int) else number  # unchanged, for the message about its bounds
    if reason := solver_of(scheduler):
        warnings.warn(
            f"{reason}: its times are used, with steps of first order and fresh noise (eta=1); give eta, or a "
            f"scheduler with single steps, as {_single(scheduler)}",
            stacklevel=2,
        )
    return 1.0


def check_named(eta: Any, scheduler: Any) -> None:
    """Raises GuidedError if a scheduler that was asked for by name cannot take its steps, and no `eta` says which."""
    if eta is None and (reason := solver_of(scheduler)):
        raise GuidedError(
            f"scheduler: {reason}; give eta too, for steps of first order on its times (1 is ancestral sampling), or "
            f"a scheduler with single steps, as {_single(scheduler)}"
        )


def _single(scheduler: Any) -> str:
    flow = "FlowMatch" in type(scheduler).__name__ or scheduler.config.get("use_flow_sigmas", False)
    return "FlowMatchEulerDiscreteScheduler" if flow else "DDIMScheduler"
