"""What the phases of a fit cost on a large model, counted: this method against the published one.

    python -m tests.benchmarks.phases CogVideoX-5b CogVideoX-2b

Products of matrices are counted by torch on the device "meta", where nothing is computed and no
weights are needed. As published, all blocks run for the reference and for its keys and values, the
weights have gradients, and a video is made besides. The products of the loss are counted by hand:
two passes over all frame pairs by head there, one look at the scores here.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ditflow.core.sizes import VideoSize
from ditflow.models import Model, sketch_backbone
from ditflow.models.presets import recommended
from ditflow.sampling.variables import VARIABLES
from tests.trainers.motion.dry_run.test_plan import published_folder
from trainers.motion.dry_run.costs import sample_of

FRAMES, STEPS, GUIDED, UPDATES = (24, 49), 50, 10, 5


def products(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


class Phases:
    """Products of each phase of one clip."""

    def __init__(
        self, model: Model, size: VideoSize, *, published: bool = False, again: bool = True
    ) -> None:
        self.model, self.published, self.again = model, published, again
        self.latents, self.text = sample_of(model, size)
        preset = recommended(model.spec)
        self.block, self.kind = preset.block, VARIABLES[preset.variable]
        grid = model.spec.compression.grid(size)
        pairs, wide = grid.frames**2, model.spec.hidden
        # each product of a query with all keys, forward; backward there are two of this size
        self.scores = 2.0 * pairs * grid.tokens_per_frame**2 * wide

    def predict(self, position: Tensor | None = None) -> Tensor | None:
        return self.model.predict(self.latents, 500, self.text, position)

    def look(self, block: int) -> float:
        """At the reference, up to a block."""

        def run() -> None:
            early = not self.published
            with torch.no_grad(), self.model.tapped([block], stop_early=early):
                self.predict()

        return products(run)

    def update(self) -> float:
        """Forward and backward, with blocks computed `again` on the way back, and the loss."""
        parameter = self.kind.start(self.model, self.latents).parameter.requires_grad_()

        def run() -> None:
            with self.model.tapped([self.block], stop_early=True, checkpointing=self.again) as seen:
                current = self.kind.at(self.model, parameter)
                self.predict(current.position)
                (seen.query[self.block].sum() + seen.key[self.block].sum()).backward()

        return products(run) + 3 * self.scores

    def step(self) -> float:
        """Both passes of a step of denoising."""

        def run() -> None:
            with torch.no_grad():
                self.predict()

        return 2 * products(run)

    def rows(self) -> dict[str, float]:
        """Of one clip: what an entry needs, and what its own video takes besides, as published."""
        self.model.transformer.requires_grad_(self.published)
        return {
            "reference": self.look(self.block),
            "keys and values": GUIDED * self.look(0),
            "updates": GUIDED * UPDATES * self.update(),
            "guided steps": GUIDED * self.step(),
            "other steps": (STEPS - GUIDED) * self.step() if self.published else 0.0,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="CogVideoX-5b or CogVideoX-2b")
    for name in parser.parse_args().models:
        with tempfile.TemporaryDirectory() as folder:
            model = sketch_backbone(str(published_folder(Path(folder), name)), dtype="bfloat16")
        for frames in FRAMES:
            size = VideoSize(frames, 480, 720)
            theirs, ours = Phases(model, size, published=True), Phases(model, size)
            kept = Phases(model, size, again=False)
            forward = theirs.step() / 2
            print(f"{name}, {frames} frames, in forward passes of {forward:.3g} operations")
            print("| phase | published | here | here, all blocks kept |")
            print("|---|---|---|---|")
            counted = [phases.rows() for phases in (theirs, ours, kept)]
            for phase in counted[0]:
                print(f"| {phase} | {' | '.join(f'{c[phase] / forward:.1f}' for c in counted)} |")
            there, *here = (sum(c.values()) / forward for c in counted)
            told = " | ".join(f"{total:.1f} ({total / there:.2f})" for total in here)
            print(f"| all of it | {there:.1f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
