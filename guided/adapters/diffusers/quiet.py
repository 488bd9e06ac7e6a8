"""Loading without the libraries' progress bars and warnings: errors are raised, in one line."""

__all__ = ["quiet"]

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged by diffusers, transformers and the hub, and no bars are shown."""
    import diffusers.utils.logging
    import huggingface_hub.utils.logging
    import transformers.utils.logging

    with_bars: tuple[Any, ...] = (diffusers.utils.logging, transformers.utils.logging)
    libraries = (*with_bars, huggingface_hub.utils.logging)
    before = [logging.get_verbosity() for logging in libraries]
    try:
        for logging in libraries:
            logging.set_verbosity(CRITICAL)
        for logging in with_bars:
            logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # arguments that newer releases rename
            warnings.filterwarnings("ignore", module="huggingface_hub")
            yield
    finally:
        for logging, verbosity in zip(libraries, before, strict=True):
            logging.set_verbosity(verbosity)
        for logging in with_bars:
            logging.enable_progress_bar()
