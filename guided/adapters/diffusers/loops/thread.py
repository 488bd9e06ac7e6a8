"""A pipeline's loop in a thread of its own, which ends with the loop's owner, an error, or an interrupt."""

__all__ = ["Loop"]

import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from guided.adapters.diffusers.loops.call import Call, Request
from guided.adapters.diffusers.loops.scheduler import Exchange, Refused, Told


class Loop:
    """The loop of a pipeline's call for some rows of one request.

    Args:
        call: How the pipeline is called.
        request: The request.
        rows: The number of rows.
        time: The time that is asked first; None to stop where the loop begins.
        latents: Latents that the call is given; None for none.
        capture: Whether the variables of the call are kept at its first step.

    Raises:
        GuidedError: The pipeline does not take what the request has.
    """

    def __init__(
        self,
        call: Call,
        request: Request,
        rows: int,
        time: float | None,
        latents: Tensor | None = None,
        capture: bool = False,
    ) -> None:
        self.exchange, self.rows = Exchange(time, code=call.code if capture else None), rows
        device = torch.device(call.pipeline._execution_device)
        # It knows the loop's parts and not the loop, so that a loop that nobody holds ends.
        args = (call, self.exchange, call.arguments(request, rows, latents), device)
        weakref.finalize(self, self.exchange.asked.put, None)
        self._thread = threading.Thread(target=_run, args=args, name="pipeline", daemon=True)
        self._thread.start()

    def listen(self) -> Told:
        """What the loop says next; the caller must have asked.

        Raises:
            GuidedError: The loop cannot serve as a denoiser.
            Exception: The pipeline's own.
        """
        try:
            told = self.exchange.told.get()
        except BaseException:  # an interrupt: what it says next would be taken for an answer to another question
            self.close()
            raise
        if not isinstance(told, BaseException):
            return told
        self._thread.join()
        try:
            raise told
        finally:
            del told  # its traceback holds this frame, and all that the network had: no circle, or memory stays taken

    def ask(self, x: Tensor, t: float) -> Told:
        """What the loop says of latents, with shape `(rows, *event)`, at a time."""
        self.exchange.asked.put((x, t))
        return self.listen()

    def close(self) -> None:
        """Ends the loop, and waits for its end: a call of the network that is under way is its last."""
        self.exchange.asked.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()


@contextmanager
def _processors(network: Any) -> Iterator[None]:
    """Puts a network's attention processors back, which some pipelines change for their loop."""
    before = dict(getattr(network, "attn_processors", {}))
    try:
        yield
    finally:
        after = getattr(network, "attn_processors", {})
        if any(after.get(name) is not processor for name, processor in before.items()):
            network.set_attn_processor(before)


def _run(call: Call, exchange: Exchange, arguments: Mapping[str, Any], device: torch.device) -> None:
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with _processors(call.network):
            call.run(exchange, arguments)
        reason = "its loop ends by itself" if exchange.times is not None else "its loop never calls its scheduler"
        exchange.told.put(Refused(reason))
    except BaseException as error:  # of any class: it is raised where the prediction was asked for
        exchange.told.put(error)
