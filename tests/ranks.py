"""Ranks of the command line, as torchrun or SLURM starts them: forked from this process, so that
none of them imports anything anew.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2


def torchrun(rank: int, world_size: int) -> dict[str, str]:
    return {
        "TORCHELASTIC_RUN_ID": "test",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(world_size),
    }


def slurm(rank: int, world_size: int) -> dict[str, str]:
    """As many nodes, with one task each."""
    job = {
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NAME": "bank",
        "SLURM_NTASKS": str(world_size),
        "SLURM_NTASKS_PER_NODE": "1",
    }
    return job | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": "0", "SLURM_NODEID": str(rank)}


class Ranks:
    """Processes that run `ditflow` with the same words. What they print is in `log`; `first` is
    called with the rank in each of them, before anything else.
    """

    def __init__(
        self,
        words: Sequence[object],
        world_size: int,
        log: Path,
        *,
        launcher: Callable[[int, int], dict[str, str]] = torchrun,
        first: Callable[[int], object] = lambda rank: None,
    ) -> None:
        import trainers.commands.fit  # noqa: F401  before the fork, once for all

        cv2.setNumThreads(1)  # a pool of threads does not live through a fork
        gc.collect()  # so that little that waits for such threads is left to be freed
        nodes, devices = (world_size, 1) if launcher is slurm else (1, world_size)
        self.words = [
            *map(str, words),
            "--trainer.accelerator",
            "cpu",
            "--trainer.devices",
            str(devices),
            "--trainer.num_nodes",
            str(nodes),
        ]
        self.log, self.first, self.codes = log, first, dict[int, int]()
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        self.pids = [
            self._fork(rank, meeting | launcher(rank, world_size)) for rank in range(world_size)
        ]

    def kill(self, ranks: Sequence[int], number: int = signal.SIGKILL) -> None:
        for rank in ranks:
            if rank not in self.codes:
                os.kill(self.pids[rank], number)

    def poll(self) -> bool:
        """Whether all have ended."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.codes and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                self.codes[rank] = os.waitstatus_to_exitcode(ended[1])
        return len(self.codes) == len(self.pids)

    def wait(self, seconds: float = 600.0) -> list[int]:
        """Exit codes by rank, negative for a signal. What has not ended by then is killed, and the
        test fails.
        """
        deadline = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > deadline:
                self.kill(range(len(self.pids)))
                raise AssertionError(f"still running after {seconds} s:\n{self.log.read_text()}")
            time.sleep(0.01)
        return [self.codes[rank] for rank in range(len(self.pids))]

    def _fork(self, rank: int, environment: Mapping[str, str]) -> int:
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        code = 1
        try:
            gc.freeze()  # the rest is never freed: a decoder's frame would wait for its threads
            os.environ.update(environment)
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.first(rank)
            from trainers.cli import main

            sys.argv = ["ditflow", *self.words]
            code = main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def at_step(number: int, act: Callable[[], object]) -> Callable[[int], None]:
    """In each process, something happens before its n-th denoising step."""

    def first(rank: int) -> None:
        from trainers.motion import work

        step, count = work.denoising_step, iter(range(1, 10_000))

        def stepped(*arguments, **options):
            if next(count) == number:
                act()
            return step(*arguments, **options)

        work.denoising_step = stepped

    return first


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
