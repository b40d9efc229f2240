"""How a command shares the cores of its machine: threads of a process, and processes.

Threads share one operation and wait for each other at its end. Where tensors are small that is
every 100 microseconds, and a thread that has lost its core to another program keeps all others
waiting. Beside a load of 3 on two cores, a pass through an embedded backbone takes 2 to 7 times as
long on two threads as on one, and 3 to 18 times the processor time. Processes of one thread each
wait for nobody.

If OMP_NUM_THREADS is set, it decides.
"""

from __future__ import annotations

import os

import torch

from ditflow.models import Model, ModelSpec

SMALL = 2**20  # tokens x hidden dim: embedded backbones have 59,392, CogVideoX 34 and 55 million
MEMORY = 2 * 2**30  # bytes of the machine's memory for each process: one takes half of it


def settle(backbone: Model) -> None:
    """Use one thread in this process if the backbone is small and on a CPU."""
    if backbone.device.type == "cpu" and is_small(backbone.spec) and not set_by_hand():
        torch.set_num_threads(1)


def settle_flow(spec: ModelSpec) -> None:
    """Use one thread in this process if the frames of such a backbone are small, and let OpenCV
    have as many as PyTorch.
    """
    import cv2

    if is_small(spec) and not set_by_hand():
        torch.set_num_threads(1)
    cv2.setNumThreads(torch.get_num_threads())


def divide(processes: int) -> None:
    """Split the cores among `processes`. A process that is alone keeps its threads."""
    if processes > 1 and not set_by_hand():
        torch.set_num_threads(max(1, cores() // processes))


def processes(jobs: int) -> int:
    """Number of processes for `jobs` with a small backbone on this machine's CPU."""
    threads = torch.get_num_threads() if set_by_hand() else 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(jobs, cores() // threads, memory // MEMORY))


def is_small(spec: ModelSpec) -> bool:
    """Whether an operation is over before a second thread pays."""
    tokens = spec.text_tokens + spec.compression.grid(spec.size).tokens
    return tokens * spec.hidden <= SMALL


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_by_hand() -> bool:
    return bool(os.environ.get("OMP_NUM_THREADS"))
