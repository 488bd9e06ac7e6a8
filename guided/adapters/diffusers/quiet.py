"""Loading without the libraries' bars, warnings and advice: what concerns a user is raised, in one line."""

__all__ = ["quiet"]

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Errors alone are logged by diffusers and transformers, and no bars are shown."""
    import diffusers.utils.logging
    import transformers.utils.logging

    libraries: tuple[Any, ...] = (diffusers.utils.logging, transformers.utils.logging)
    before = [logging.get_verbosity() for logging in libraries]
    try:
        for logging in libraries:
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # names of arguments that newer releases spell otherwise
            yield
    finally:
        for logging, verbosity in zip(libraries, before, strict=True):
            logging.set_verbosity(verbosity)
            logging.enable_progress_bar()
