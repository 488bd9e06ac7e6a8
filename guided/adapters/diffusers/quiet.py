"""Loading without the libraries' progress bars and warnings: errors are raised, in one line."""

__all__ = ["quiet"]

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL, WARNING, Handler, LogRecord, getLogger
from typing import Any


class _Heard(Handler):
    """Keeps messages instead of showing them."""

    def __init__(self) -> None:
        super().__init__(WARNING)
        self.messages: list[str] = []

    def emit(self, record: LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Nothing is logged by diffusers, transformers and the hub, and no bars are shown.

    Yields the list of what transformers warns of, as of weights that its file lacks.
    """
    import diffusers.utils.logging
    import huggingface_hub.utils.logging
    import transformers.utils.logging

    with_bars: tuple[Any, ...] = (diffusers.utils.logging, transformers.utils.logging)
    libraries = (*with_bars, huggingface_hub.utils.logging)
    before = [logging.get_verbosity() for logging in libraries]
    logger, heard = getLogger("transformers"), _Heard()
    handlers, spread = logger.handlers[:], logger.propagate
    try:
        for logging in libraries:
            logging.set_verbosity(CRITICAL)
        transformers.utils.logging.set_verbosity(WARNING)
        logger.handlers, logger.propagate = [heard], False
        for logging in with_bars:
            logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # arguments that newer releases rename
            warnings.filterwarnings("ignore", module="huggingface_hub")
            yield heard.messages
    finally:
        logger.handlers, logger.propagate = handlers, spread
        for logging, verbosity in zip(libraries, before, strict=True):
            logging.set_verbosity(verbosity)
        for logging in with_bars:
            logging.enable_progress_bar()
