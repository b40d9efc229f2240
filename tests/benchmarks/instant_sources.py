"""How exact the fields of each source are, on clips of the world: their mean error in tokens.

python -m tests.benchmarks.instant_sources tiny-rope
"""

# F latent frames, H W rows and columns of tokens

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from datamodules.synthetic import MOTIONS, SyntheticClip, World
from ditflow.core.sizes import Compression
from ditflow.extraction import source_of
from ditflow.fields.field import resized
from ditflow.fields.sources import Source, field_of
from ditflow.models import load_backbone

SOURCES, SEEDS, TOKENS = ("dis", "lucas-kanade", "amf"), (3, 11, 27), 8
TIMES = Compression().latent_times(25)


def error(clip: SyntheticClip, source: Source) -> Tensor:
    """End-point error in tokens, the mean of all cells, followed or filled, after the first."""
    cells = TOKENS, TOKENS
    found = field_of(clip.frames, source).resampled(TIMES, cells, 25).displacement
    near = [[clip.flow(int(time), 0), clip.flow(int(time + 0.5), 0)] for time in TIMES]
    exact = torch.stack([torch.stack(pair).mean(0) / clip.size.height for pair in near])
    return (TOKENS * (found - resized(exact, cells))).norm(dim=1)[1:].mean()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, world = load_backbone(options.backbone, dtype="float32"), World()
    print(f"| source | {' | '.join(MOTIONS)} | mean |\n{'|---' * (len(MOTIONS) + 2)}|")
    for name in SOURCES:
        source = source_of(name, model)
        each = [
            torch.stack([error(world.clip(seed, motion), source) for seed in SEEDS]).mean()
            for motion in MOTIONS
        ]
        cells = [f"{float(value):.2f}" for value in (*each, torch.stack(each).mean())]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
