"""What every page of ours is made of: motion as pictures, and the legend that explains their
colours.
"""

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

LEAST_REACH = 0.25  # tokens: below, noise would look like motion
# of a displacement's components on each side of 0: 15 * 15 colours fit into the 256 of a small
# picture
LEVELS = 7
COLOURS = "The colour is the direction: red to the right, yellow-green down, cyan to the left, violet up. White is none, full colour the reference's longest."
DISTANCES = "How far the motion is from the reference's, in each place: white where they agree, dark red where they differ by the reference's longest motion."


def reach_of(reference: Tensor) -> float:
    """The longest displacement (..., 2, H, W) of a reference: pictures with its reach can be
    compared.
    """
    return max(LEAST_REACH, float(reference.norm(dim=-3).max()))


def reference_pictures(flow: Tensor) -> tuple[Picture, ...]:
    """The displacement (P, 2, H, W) as a film of colours, and the wheel that says what they
    mean.
    """
    reach = reach_of(flow)
    return _film("motion", flow_colours(_coarse(flow, reach), reach)), directions()


def motion_pictures(flow: Tensor, reference: Tensor | None) -> tuple[Picture, ...]:
    """The displacement (P, 2, H, W) as a film in the reference's colours, and its distance from the
    reference's where that is known and has the same size.
    """
    reach = reach_of(flow if reference is None else reference)
    film = _film("motion", flow_colours(_coarse(flow, reach), reach))
    if reference is None or reference.shape != flow.shape:
        return (film,)
    return film, _film(
        "difference", distance_colours(_coarse(flow, reach), _coarse(reference, reach), reach)
    )


def legend(what: str) -> tuple[Panel, ...]:
    """The two scales of colour; `what` says of which displacement."""
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
    """Each component rounded to a `LEVELS`th of the reach, and cut off there: a picture of few
    colours, which weighs a quarter.
    """
    return (flow / reach).clamp(-1, 1).mul(LEVELS).round() * (reach / LEVELS)
