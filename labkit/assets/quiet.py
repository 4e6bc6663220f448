"""Silence the progress bars and log messages of transformers inside a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging

from labkit.process import alone


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers inside the block; one thread at a time, because its settings are those of the process."""
    with alone():
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
