"""The figure of docs/instant.md: `python docs/figures/instant.py`, from the repository's root.

Three frames of a synthetic clip: the first with the positions of its tokens, a later one with
arrows from each token back to where its content was, and the first again with the
positions moved there.
"""

# F token times, H W token rows and columns; places are (x, y) in pixels

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from datamodules.synthetic import World
from ditflow.fields import field_of

MOTION, SEED, LATER, CELLS = "rotation", 2, 10, 8
ONE = 1, 1  # row and column of the token that is ringed
INK, MOVED = "#ffffff", "#ffd400"


def main() -> None:
    frames = World().clip(SEED, MOTION).frames
    field = field_of(frames).resampled([0, LATER], (CELLS, CELLS), len(frames))
    side = frames.shape[-1]
    step = side / CELLS
    centres = (torch.arange(CELLS) + 0.5) * step
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    dx, dy = field.displacement[1] * side
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.3), dpi=110)
    first, later, moved = panels
    _shown(first, frames[0], "1  Frame 0: each token has its own place")
    first.scatter(x, y, s=16, c=INK, edgecolors="black", linewidths=0.6)
    _shown(later, frames[LATER], f"2  Frame {LATER}: where was its content in frame 0?")
    later.scatter(x, y, s=16, c=INK, edgecolors="black", linewidths=0.6)
    later.quiver(
        x, y, dx, dy, color=MOVED, angles="xy", scale_units="xy", scale=1, width=0.009,
        edgecolor="black", linewidth=0.5,
    )  # fmt: skip
    _shown(moved, frames[0], f"3  So the tokens of frame {LATER} get these places")
    places = torch.stack([x + dx, y + dy])
    for grid in (places, places.mT):
        for line in grid.unbind(1):
            moved.plot(*line, color=MOVED, linewidth=1)
    moved.scatter(*places, s=16, c=MOVED, edgecolors="black", linewidths=0.6)
    row, column = ONE
    here = x[row, column], y[row, column]
    there = places[0, row, column], places[1, row, column]
    for panel, place in ((first, there), (later, here), (moved, there)):
        panel.scatter(*place, s=170, facecolors="none", edgecolors=INK, linewidths=3.5, zorder=5)
        panel.scatter(
            *place, s=170, facecolors="none", edgecolors="black", linewidths=1.5, zorder=6
        )
    for panel in panels:
        panel.set_xlim(-side * 0.1, side * 1.1)
        panel.set_ylim(side * 1.1, -side * 0.1)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_suffix(".png"), metadata={"Software": None})


def _shown(panel: plt.Axes, frame: Tensor, title: str) -> None:
    """A frame uint8 (C, Y, X) and the grid of its tokens."""
    side = frame.shape[-1]
    panel.imshow(frame.permute(1, 2, 0), extent=(0, side, side, 0), interpolation="bilinear")
    for edge in torch.linspace(0, side, CELLS + 1).tolist():
        panel.plot([0, side], [edge, edge], color=INK, linewidth=0.5, alpha=0.5)
        panel.plot([edge, edge], [0, side], color=INK, linewidth=0.5, alpha=0.5)
    panel.set_facecolor("#3a3a3a")
    panel.set_title(title, fontsize=10.5, loc="left")
    panel.set_xticks([])
    panel.set_yticks([])


if __name__ == "__main__":
    main()
