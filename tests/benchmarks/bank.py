"""How a bank of many entries is listed, looked up and verified: time and memory of each command in
a process of its own.

    python -m tests.benchmarks.bank --entries 1000 100000

Entries are small (4 kB): what grows with their number is measured, not how fast a disk reads.
Processor time is what counts where the machine is shared.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ditflow.bank import MotionBank
from ditflow.bank.file_format import read_header, write_header
from tests.ditflow.bank.entries import make_entry

# the process's own, not its parent's
PEAK = (
    "import atexit; "
    "atexit.register(lambda: open(REPORT, 'w').write(open('/proc/self/status').read()))\n"
)
WARM = "import sys; from trainers.commands.bank.command import main; "
MEASURES = {  # what is run, with BANK and NAME for the bank and one of its names
    "start of the program": WARM,
    "list, no index yet": WARM + "sys.exit(main(['list', BANK]))",
    "reindex": WARM + "sys.exit(main(['reindex', BANK]))",
    "list": WARM + "sys.exit(main(['list', BANK]))",
    "reindex, nothing new": WARM + "sys.exit(main(['reindex', BANK]))",
    "show one": WARM + "sys.exit(main(['show', BANK, NAME]))",
    "show a misspelt one": WARM + "sys.exit(main(['show', BANK, NAME + 'x']) - 2)",
    "verify": WARM + "sys.exit(main(['verify', BANK]))",
    "gc": WARM + "sys.exit(main(['gc', BANK, '--dry_run']))",
    "look up 1,000 in Python": (
        "from ditflow.bank import MotionBank; bank = MotionBank(BANK); "
        "[bank.metadata(NAME) for _ in range(1000)]"
    ),
}


def fill(folder: Path, entries: int) -> None:
    """The same entry under many names, written without waiting for the disk."""
    data = make_entry(1).to_bytes("x")
    header = read_header(file := io.BytesIO(data), len(data), "x")
    body = file.read()
    (folder / "entries").mkdir(parents=True)
    for number in range(entries):
        name = f"clip-{number:06d}"
        (folder / "entries" / f"{name}.safetensors").write_bytes(
            write_header(replace(header, name=name)) + body
        )


def used(code: str, names: Mapping[str, str]) -> dict[str, object]:
    """What a Python process uses that runs a code with these names in it."""
    with tempfile.NamedTemporaryFile() as report:
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        run = f"{given}REPORT = {report.name!r}\n{PEAK}{code}"
        before = os.times()
        subprocess.run([sys.executable, "-c", run], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        lines = Path(report.name).read_text().splitlines()
    spent = after.children_user + after.children_system
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return {
        "processor_seconds": round(spent - before.children_user - before.children_system, 2),
        "seconds": round(after.elapsed - before.elapsed, 2),
        "mebibytes": peak // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, nargs="+", default=[1000, 100_000])
    for entries in parser.parse_args().entries:
        with tempfile.TemporaryDirectory(prefix="bank-") as folder:
            fill(Path(folder) / "bank", entries)
            names = {"BANK": f"{folder}/bank", "NAME": f"clip-{entries // 2:06d}"}
            for what, code in MEASURES.items():
                row = {"entries": entries, "what": what} | used(code, names)
                print(json.dumps(row), flush=True)
            assert len(MotionBank(Path(folder) / "bank")) == entries


if __name__ == "__main__":
    main()
