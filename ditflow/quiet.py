"""Load models without progress bars, which a library leaves to the program that uses it, and
without advice that does not hold here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """A context without the progress bars of transformers.

    Those of the hub's client stay as they are, although transformers switches both together.
    """
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging

    shown, silent = logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    _show_bars(False, hub=not silent)
    try:
        yield
    finally:
        _show_bars(shown, hub=not silent)


def _show_bars(transformers: bool, hub: bool) -> None:
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    with warnings.catch_warnings():
        # the hub's client warns where HF_HUB_DISABLE_PROGRESS_BARS decides instead
        warnings.simplefilter("ignore")
        logging.enable_progress_bar() if transformers else logging.disable_progress_bar()
        enable_progress_bars() if hub else disable_progress_bars()


@contextmanager
def only_errors(logger_name: str) -> Iterator[None]:
    """A context in which a logger says nothing but errors."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
