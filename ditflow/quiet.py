"""Loading models without the progress bars of transformers, which belong to programs and not to a
library.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Turns those of transformers off and on again; the hub's, which transformers would turn along,
    stay as they are.
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
        warnings.simplefilter(
            "ignore"
        )  # the hub's own variable HF_HUB_DISABLE_PROGRESS_BARS stays above all
        logging.enable_progress_bar() if transformers else logging.disable_progress_bar()
        enable_progress_bars() if hub else disable_progress_bars()
