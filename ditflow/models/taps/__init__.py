"""Taps on a frozen, stock transformer, and blocks that are compiled with them.

Read `attention.py` first.
"""

from ditflow.models.taps.attention import StopForward, taps
from ditflow.models.taps.compiled import Backend, check_compiler, compile_blocks
from ditflow.models.taps.layout import Args, Kwargs, Layout

__all__ = [
    "Args",
    "Backend",
    "Kwargs",
    "Layout",
    "StopForward",
    "check_compiler",
    "compile_blocks",
    "taps",
]
