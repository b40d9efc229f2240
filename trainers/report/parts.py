"""Motion as pictures, and the legend that explains their colours."""

# P pairs of latent frames, H W token rows and columns
from __future__ import annotations

from functools import cache

from torch import Tensor

from ditflow.visual import (
    Panel,
    Picture,
    distance_colours,
    distance_scale,
    flow_colours,
    png,
    still,
    wheel,
)

LEAST_REACH = 0.25  # tokens; with less, noise would look like motion
# levels of a component on each side of 0: 15 * 15 colours fit into the 256 of a small picture
LEVELS = 7
COLOURS = (
    "The colour is the direction: red is right, yellow-green down, cyan left, violet up. White is "
    "no motion, full colour the longest motion of the reference."
)
DISTANCES = (
    "How far the motion is from the reference's in each place: white where they agree, dark red "
    "where they differ by the longest motion of the reference."
)


def reach_of(reference: Tensor) -> float:
    """The length of the longest displacement (..., 2, H, W) of a reference, which full colour
    stands for. Pictures with one reach can be compared.
    """
    return max(LEAST_REACH, float(reference.norm(dim=-3).max()))


def reference_pictures(flow: Tensor) -> tuple[Picture, ...]:
    """The displacement (P, 2, H, W) as a film of colours, and the wheel that explains them."""
    reach = reach_of(flow)
    return _film("motion", flow_colours(_coarse(flow, reach), reach)), directions()


def motion_pictures(flow: Tensor, reference: Tensor | None) -> tuple[Picture, ...]:
    """The displacement (P, 2, H, W) as a film with the reach of the reference, and its distance
    from the reference's, if that is known and has the same size.
    """
    reach = reach_of(flow if reference is None else reference)
    film = _film("motion", flow_colours(_coarse(flow, reach), reach))
    if reference is None or reference.shape != flow.shape:
        return (film,)
    return film, _film(
        "difference", distance_colours(_coarse(flow, reach), _coarse(reference, reach), reach)
    )


def legend(what: str) -> tuple[Panel, ...]:
    """The two scales of colour. `what` describes the displacement."""
    distances = Picture("scale of distances", png(distance_scale(161, 40)))
    return Panel("motion", pictures=(directions(),), notes=(what, COLOURS)), Panel(
        "difference", pictures=(distances,), notes=(DISTANCES,)
    )


@cache
def directions() -> Picture:
    return Picture("directions", png(wheel(95)))


def _film(label: str, images: Tensor) -> Picture:
    return Picture(label, png(still(images, gap=0)), tiles=len(images))


def _coarse(flow: Tensor, reach: float) -> Tensor:
    """Each component clipped to the reach and rounded to a `LEVELS`th of it. The picture then has
    few colours and a quarter of the bytes.
    """
    return (flow / reach).clamp(-1, 1).mul(LEVELS).round() * (reach / LEVELS)
