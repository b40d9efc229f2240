"""`ditflow` in a process of its own: its peak memory is its own, and it may use several devices."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)


def run_ditflow(words: Sequence[str]) -> int:
    """Run `ditflow` with these words and return its exit code.

    A process that failed, or that the system killed, only returns its code: the benchmark goes on.
    Where the process was told to stop, this process stops as well.
    """
    process = subprocess.Popen([sys.executable, "-m", "trainers.cli", *words])
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the terminal sends it to both processes
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if code in STOPPED:
        print("ditflow: stopped. The same command goes on from here.", file=sys.stderr)
        raise SystemExit(code if code > 0 else 128 - code)
    if code < 0:
        print(
            f"ditflow: {words[0]} was killed by signal {-code}, perhaps because memory ran out. "
            "Finished videos are kept.",
            file=sys.stderr,
        )
    return code
