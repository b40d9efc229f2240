"""What a cost depends on and takes of the machine: its name, and the memory of this process."""

from __future__ import annotations

import platform
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch


def peak_memory() -> int:
    """Peak memory of this process since `forget_peak_memory`, in bytes: of the GPU if it used one,
    else of the machine.

    On Linux it is read from /proc, because `getrusage` also counts the process that started this
    one. Other systems cannot reset their peak.
    """
    if torch.cuda.is_available() and (peak := torch.cuda.max_memory_allocated()):
        return peak
    with suppress(OSError):
        if own := re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()):
            return int(own[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def forget_peak_memory() -> None:
    """Reset the peak, so that the next batch has a peak of its own."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def machine(batch_size: int) -> str:
    """The hardware, PyTorch and batch size that seconds and memory depend on, in words."""
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    else:
        threads = torch.get_num_threads()
        where = f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"
    return f"{where}, torch {torch.__version__}, batches of {batch_size}"


def processor() -> str:
    """The name of the processor, from the system."""
    with suppress(OSError):
        if named := re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        ):
            return named[1].strip()
    return platform.processor() or platform.machine()
