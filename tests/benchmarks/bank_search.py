"""How long `ditflow bank search` takes on a bank of many motion fields: seconds and memory of each
search in a process of its own, as the median of several.

    python -m tests.benchmarks.bank_search --entries 1000 100000 --repeats 5

Entries are small and have one motion, with words at random. The rows of the index are written at
once, as a search makes them, so that what is found is verified. Rows of
new entries are read from their files, as they are in use. The first search of all entries is timed
on 1,000 of them.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from datamodules.synthetic import World
from ditflow.bank import MotionBank
from ditflow.bank.file_format import Header, read_header, write_header
from ditflow.bank.kinds import content_hash
from ditflow.bank.records import Records
from ditflow.bank.remote_storage import open_folder
from ditflow.bank.search.descriptor import LENGTH, descriptor
from ditflow.bank.search.rows import FILE, Columns, Rows, packed
from ditflow.video import write_video
from tests.benchmarks.bank import used
from tests.ditflow.bank.entries import make_field_entry

WARM = "import sys; from trainers.commands.bank.command import main; "
MEASURES = {  # what is run, with BANK, NAME and CLIP for the bank, one of its names, and a video
    "start of the program": WARM,
    "--words": WARM + "sys.exit(main(['search', BANK, '--words', 'slow pan left, subject up']))",
    "--like an entry": WARM + "sys.exit(main(['search', BANK, '--like', NAME]))",
    "start of the program, torch loaded": WARM + "import torch, cv2",
    "--like a clip": WARM + "sys.exit(main(['search', BANK, '--like', CLIP]))",
    "both": WARM + "sys.exit(main(['search', BANK, '--like', NAME, '--words', 'zoom in']))",
}


def words(draw: random.Random) -> str:
    """Of a camera that does up to four things, and of up to two things."""
    does = [
        f"{draw.choice(ways)}{draw.choice(['', ' slowly', ' fast'])}"
        for ways in (
            ("pans left", "pans right"),
            ("tilts up", "tilts down"),
            ("zooms in", "zooms out"),
            ("rolls clockwise", "rolls counterclockwise"),
        )
        if draw.random() < 0.4
    ]
    ways = ("left", "right", "up", "down", "up and left")
    things = [f"one thing moves {draw.choice(ways)}" for _ in range(draw.choice((0, 0, 1, 2)))]
    camera = ", ".join(does) or "the camera is still"
    return "; ".join([camera, *things[:1]]) + "".join(f", {thing}" for thing in things[1:])


class Library:
    """A folder with a bank of so many entries, written without waiting for the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        data = make_field_entry(1).to_bytes("x")
        self.header = read_header(file := io.BytesIO(data), len(data), "x")
        self.body = file.read()
        (folder / "entries").mkdir(parents=True)

    def fill(self, numbers: range) -> None:
        for number in numbers:
            file = self.folder / "entries" / f"clip-{number:06d}.safetensors"
            file.write_bytes(write_header(self._header(number)) + self.body)

    def index(self) -> None:
        """Rows for the entries that there are."""
        place = open_folder(str(self.folder))
        listing = Records(place, "entries", "entry", ()).listing()
        columns = Columns(
            name=list(listing),
            size=[size for size, _ in listing.values()],
            mark=[mark for _, mark in listing.values()],
            content=[content_hash(self._header(int(name[-6:]))) for name in listing],
            words=[str(self._header(int(name[-6:])).metadata["words"]) for name in listing],
        )
        vector = descriptor(make_field_entry(1).field).astype(np.float16)
        vectors = np.broadcast_to(vector, (len(listing), LENGTH))
        place.write(FILE, packed(Rows(columns, vectors)))

    def _header(self, number: int) -> Header:
        told = {"seed": number, "words": words(random.Random(number))}
        metadata = self.header.metadata | told
        return replace(self.header, name=f"clip-{number:06d}", metadata=metadata)

    def grow(self) -> None:
        """A hundred more entries, which no row is of."""
        count = len(MotionBank(self.folder))
        self.fill(range(count, count + 100))

    def forget(self) -> None:
        """No index."""
        (self.folder / FILE).unlink()


def measures(library: Library, name: str, clip: Path, repeats: int) -> Iterator[dict[str, object]]:
    names = {"BANK": str(library.folder), "NAME": name, "CLIP": str(clip)}

    def measure(what: str, code: str, before: Callable[[], object] = list) -> dict[str, object]:
        runs = []
        for _ in range(repeats):
            before()
            runs.append(used(code, names))
        return {"what": what} | {key: median(run[key] for run in runs) for key in runs[0]}

    for what, code in MEASURES.items():
        yield measure(what, code)
    yield measure("--words, with 100 new entries", MEASURES["--words"], library.grow)
    shutil.rmtree(library.folder / "entries")
    (library.folder / "entries").mkdir()
    library.fill(range(1000))
    yield measure("--words, 1,000 entries and no index", MEASURES["--words"], library.forget)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for entries in options.entries:
        with tempfile.TemporaryDirectory(prefix="bank-") as folder:
            clip = Path(folder) / "clip.mp4"
            write_video(clip, World().clip(0, "pan").frames, 8.0)
            library = Library(Path(folder) / "bank")
            library.fill(range(entries))
            library.index()
            size = (library.folder / FILE).stat().st_size
            print(json.dumps({"entries": entries, "mebibytes of the index": size >> 20}))
            for row in measures(library, f"clip-{entries // 2:06d}", clip, options.repeats):
                print(json.dumps({"entries": entries} | row), flush=True)


if __name__ == "__main__":
    main()
