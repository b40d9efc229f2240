"""How entries of the starter bank move videos: measured against what they hold.

    python -m tests.benchmarks.starter tiny-rope --every 3

A video is followed back to its first frame as a clip is. The cosine and the speed of its field to
the entry's are those of `instant_controls`.
"""

from __future__ import annotations

import argparse
import json
import warnings

from datamodules.synthetic import obeys
from ditflow import MotionBank, inject_motion, load_backbone
from tests.benchmarks.instant_controls import compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--every", type=int, default=3, help="take each so manieth entry")
    parser.add_argument("--prompt", default="red clouds")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    backbone, bank = load_backbone(options.backbone, device="cpu"), MotionBank("starter")
    rows = []
    for name in list(bank)[:: options.every]:
        frames = inject_motion(backbone, bank[name], options.prompt, seed=options.seed)
        with warnings.catch_warnings(action="ignore"):
            row = compared(bank[name].field, frames)
        row |= {"obeyed": float(obeys(frames, options.prompt))}
        rows.append(row)
        print(json.dumps({"entry": name} | row), flush=True)
    means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    print(json.dumps({"mean of": len(rows)} | means))


if __name__ == "__main__":
    main()
