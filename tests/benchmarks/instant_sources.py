"""How exact the fields of each source are, on clips of the world: their mean error in tokens.

python -m tests.benchmarks.instant_sources tiny-rope
"""

from __future__ import annotations

import argparse

import torch

from datamodules.synthetic import MOTIONS, World
from ditflow.extraction import source_of
from ditflow.fields.sources import field_of
from ditflow.models import load_backbone
from tests.ditflow.fields.exact import end_point_error

SOURCES, SEEDS = ("dis", "lucas-kanade", "amf"), (3, 11, 27)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, world = load_backbone(options.backbone, dtype="float32"), World()
    print(f"| source | {' | '.join(MOTIONS)} | mean |\n{'|---' * (len(MOTIONS) + 2)}|")
    for name in SOURCES:
        source = source_of(name, model)
        each = []
        for motion in MOTIONS:
            clips = [world.clip(seed, motion) for seed in SEEDS]
            errors = [end_point_error(clip, field_of(clip.frames, source)) for clip in clips]
            each.append(torch.stack(errors).mean())
        cells = [f"{float(value):.2f}" for value in (*each, torch.stack(each).mean())]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
