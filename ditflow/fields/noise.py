"""Initial noise that moves along: what content was drawn with, it keeps wherever it goes."""

# F latent frames, C channels, H W latent rows and columns, S = H*W cells, M cells of the canvas

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ditflow.core.sizes import Compression, VideoSize
from ditflow.fields.field import MotionField, cell_places

AROUND = 1  # frames of room on each side of the first, for content that enters later


def on_latents(fields: Sequence[MotionField], compression: Compression, size: VideoSize) -> Tensor:
    """Displacements (B, F, 2, H, W) of fields on the latents of a video."""
    _, _, *cells = compression.latent_shape(size)
    times, frames = compression.latent_times(size.frames), size.frames
    moved = [field.resampled(times, (cells[0], cells[1]), frames).displacement for field in fields]
    return torch.stack(moved)


def carried(noise: Tensor, displacement: Tensor, share: float) -> Tensor:
    """Noise (F, C, H, W) of which a share moves along displacements (F, 2, H, W), in frames.

    Content brings the noise of the cell in which it was first seen: in the first frame, or where it
    enters. Its variance is `share` of a cell's, and the rest is the cell's own. Where content
    spreads over several cells they share its noise as their mean, as in "How I Warped Your Noise"
    (Chang et al., ICLR 2024). So each frame stays standard normal, cell by cell and between cells:
    only what frames have in common follows the motion. A share of 0 gives the same noise bit for
    bit. Raises ValueError for a share beyond 0 to 1.
    """
    check_share(share)
    if share == 0:
        return noise
    frames = noise.flatten(2)  # (F, C, S)
    cells, on_canvas, size = canvas_cells(displacement)
    canvas, seen = frames.new_zeros(noise.shape[1], size), cells.new_zeros(size, dtype=torch.bool)
    moved = []
    for own, cell, inside in zip(frames, cells, on_canvas, strict=True):
        known = inside & seen[cell]
        moved.append(_mixed(own, canvas, cell, known, share) if known.any() else own)
        new = _first(cell, inside & ~known, size)
        canvas[:, cell[new]], seen[cell[new]] = own[:, new], True
    return torch.stack(moved).view_as(noise)


def all_carried(noise: Tensor, displacement: Tensor, share: float) -> Tensor:
    """The same for noise (B, F, C, H, W) along displacements (b, F, 2, H, W), b being 1 or B."""
    fields = displacement.to(noise).expand(len(noise), -1, -1, -1, -1)
    pairs = zip(noise, fields, strict=True)
    return torch.stack([carried(own, along, share) for own, along in pairs])


def check_share(share: float) -> None:
    """Raise ValueError for a share of the noise beyond 0 to 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"noise_share is {share:g}, but it is a share from 0 to 1.")


def canvas_cells(displacement: Tensor) -> tuple[Tensor, Tensor, int]:
    """Where each cell's content was, on a canvas around the first frame.

    Gives indices of cells (F, S), whether they are on it (F, S), and how many cells M it has.
    """
    rows, columns = displacement.shape[-2:]
    sides = displacement.new_tensor([columns, rows])[:, None, None]
    places = (cell_places(rows, columns, displacement.device) + displacement) * sides - 0.5
    x, y = (places.round().long() + AROUND * sides.long()).unbind(1)
    width, height = (1 + 2 * AROUND) * columns, (1 + 2 * AROUND) * rows
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    cells = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return cells.flatten(1), inside.flatten(1), height * width


def _first(cell: Tensor, new: Tensor, size: int) -> Tensor:
    """Of cells (S,) that are new, the first of each content."""
    order = torch.arange(len(cell), device=cell.device)
    rank = torch.where(new, order, len(cell))
    first = cell.new_full((size,), len(cell)).scatter_reduce(0, cell, rank, "amin")
    found: Tensor = new & (first[cell] == order)
    return found


def _mixed(own: Tensor, canvas: Tensor, cell: Tensor, known: Tensor, share: float) -> Tensor:
    """Noise (C, S) whose mean over the cells of one content is partly that of the canvas (C, M).

    Its mean over the frame, which is its colour, is the cells' own.
    """
    count = known.new_zeros(canvas.shape[1], dtype=own.dtype).scatter_add(0, cell, known.to(own))
    total = torch.zeros_like(canvas).scatter_add(1, cell.expand_as(own), own * known)
    number = count[cell].clamp(min=1)  # cells of the same content
    brought, mean = canvas[:, cell], total[:, cell] / number.sqrt()  # both standard normal
    taken, left = share**0.5, (1 - share) ** 0.5
    mixed = own + (taken * brought + left * mean - mean) / number.sqrt()
    mixed = torch.where(known, mixed, own)
    other = torch.where(known, (left * brought - taken * mean) / number, 0).sum(1, keepdim=True)
    contents, cells = (known / number).sum().clamp(min=1), own.shape[1]
    # two standard normal numbers, of which this sum has no part of the canvas
    colour = left * mixed.sum(1, keepdim=True) / cells**0.5 - taken * other / contents**0.5
    whole: Tensor = mixed - mixed.mean(1, keepdim=True) + colour / cells**0.5
    return whole
