"""Initial noise that moves along: the first frame's, carried to where its content goes."""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns

from __future__ import annotations

import torch
from torch import Tensor

from ditflow.fields.field import cell_places


def carried(noise: Tensor, displacement: Tensor, share: float) -> Tensor:
    """Noise (F, C, Hl, Wl) with a share of the first frame's, carried along (F, 2, Hl, Wl).

    Each cell takes the noise of the cell that its content was in: sqrt(share) of it and
    sqrt(1 - share) of its own. No cell of the first frame is used twice in one frame, and where the
    content came from outside a cell keeps its own noise. So each frame stays standard normal, cell
    by cell and between cells; only what frames have in common follows the motion. A share of 0
    gives the same noise bit for bit.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"noise_share is {share:g}, but it is a share from 0 to 1.")
    if share == 0:
        return noise
    index, used = sources_of(displacement)
    first = noise[:1].expand_as(noise).flatten(-2)
    taken = first.gather(-1, index[:, None].expand(-1, noise.shape[1], -1)).view_as(noise)
    mixed = share**0.5 * taken + (1 - share) ** 0.5 * noise
    used = used.view(len(noise), 1, *noise.shape[-2:]).clone()
    used[0] = False
    return torch.where(used, mixed, noise)


def sources_of(displacement: Tensor) -> tuple[Tensor, Tensor]:
    """The cell of the first frame that each cell comes from, and whether it has it for itself.

    Both are (F, Hl*Wl). Of several cells that come from one, the one closest to it has it.
    """
    frames, _, rows, columns = displacement.shape
    sides = displacement.new_tensor([columns, rows])[:, None, None]
    exact = (cell_places(rows, columns, displacement.device) + displacement) * sides - 0.5
    nearest = exact.round()
    distance = (exact - nearest).square().sum(1).flatten(1)
    limits = displacement.new_tensor([columns - 1, rows - 1])[:, None, None]
    inside = ((nearest >= 0) & (nearest <= limits)).all(1).flatten(1)
    x, y = nearest.clamp(min=0).minimum(limits).long().unbind(1)
    index = (y * columns + x).flatten(1)
    order = distance.where(inside, torch.inf).argsort(dim=1, stable=True)
    ranked, rank = index.gather(1, order), torch.arange(index.shape[1], device=index.device)
    rank = rank.expand_as(ranked)
    first = torch.full_like(index, index.shape[1]).scatter_reduce(1, ranked, rank, "amin")
    has = first.gather(1, ranked) == rank
    used = torch.zeros_like(inside).scatter(1, order, has)
    return index, used & inside
