"""Where a run is drawn: devices and clusters, as a user names them."""

__all__ = ["check_cluster", "check_devices"]

from typing import Any

from guided.errors import GuidedError, check_number, kind_of
from guided.runs.options import spelled


def check_devices(given: Any) -> int | list[str] | None:
    """A number of devices, or their names, from what a user gives.

    Raises:
        GuidedError: It is neither.
    """
    if given is None:
        return None
    read = given
    if isinstance(given, str):
        whole = given.strip().removeprefix("-").isdecimal()
        read = int(given) if whole else [name.strip() for name in given.split(",")]
    if isinstance(read, list | tuple):
        names = [str(name) for name in read]  # torch.device("cuda:0"), too
        if names and all(name and not name[0].isdecimal() for name in names):
            return names
        raise GuidedError(
            f"{spelled('devices')} is {given!r}; it must be a number of processes, or the name of a device for each, "
            "as cuda:0,cuda:1 or cpu,cpu"
        )
    return check_number(spelled("devices"), read, int, least=1)


def check_cluster(given: Any) -> Any:
    """The name of a cluster with its options, or an executor.

    Raises:
        GuidedError: It is neither.
    """
    if given is None or isinstance(given, str) or all(hasattr(given, name) for name in ("open", "draw", "close")):
        return given
    raise GuidedError(f"{spelled('cluster')} is {kind_of(given)}; it must be ray, or an executor")
