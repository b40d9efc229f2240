"""A motion in plain words: what the camera does, and how many things move by themselves."""

# F times, H W rows and columns of cells; lengths are in heights of the frame, x right, y down

from __future__ import annotations

import math

import cv2
import torch
from torch import Tensor

from ditflow.fields.field import MotionField
from ditflow.fields.fill import affine_fit, spread

PAN = (0.02, 0.1, 0.4)  # heights of the frame: less is still, less is slow, more is fast
ZOOM = (0.03, 0.1, 0.5)  # logarithm of the growth
TURN = (2.0, 10.0, 60.0)  # degrees
THING = 0.05  # heights of the frame that a thing moves beyond the camera's motion
LEAST = 0.01  # share of the frame that a thing covers
DRIFT = 0.25  # share of the camera's mean motion that flow may drift by, wherever it is
TRUSTED = 0.5  # confidence of its cells
RETURNED = 0.3  # share of the largest movement that is left where a motion has come back
NUMBERS = ("no", "one", "two", "three", "four", "five")


def described(field: MotionField) -> str:
    """Plain words for a motion, such as "pans left slowly, zooms in; one thing moves up".

    They compare the last time with the first frame. Where the motion has come back by then, they
    are those of the time when most had moved, with "and comes back". A camera that pans right sees
    its content move left. It zooms in where content grows. "the picture turns clockwise" is said of
    what is seen. A thing moves relative to the camera's motion, in the direction that is seen.
    Where nothing moves it is "still".
    """
    sides = torch.tensor([field.aspect, 1.0])[:, None, None]
    lengths = (field.displacement * sides).norm(dim=1)
    amounts = (lengths * (field.confidence >= TRUSTED)).mean((1, 2))
    back = bool(amounts[-1] < RETURNED * amounts.max())
    time = int(amounts.argmax()) if back else len(amounts) - 1
    moved, trust = field.displacement[[time]], field.confidence[[time]]
    fit = affine_fit(moved, trust)
    whole = spread(fit, moved)
    own, followed = -((moved - whole) * sides)[0], (whole * sides)[0].norm(dim=0).mean()
    camera = _camera(fit[0], field.aspect)
    things = _things(own, own.norm(dim=0) > THING + DRIFT * followed, trust[0] >= TRUSTED)
    if not camera and not things:
        return "still"
    words = f"{camera or 'the camera is still'}; {things}" if things else camera
    return f"{words}, and comes back" if back else words


def _camera(fit: Tensor, aspect: float) -> str:
    """Words for an affine motion (3, 2), "" where it hardly moves."""
    sides = torch.tensor([aspect, 1.0], dtype=fit.dtype)
    seen = torch.eye(2, dtype=fit.dtype) + fit[:2].mT * sides[:, None] / sides  # now -> start
    area = float(torch.linalg.det(seen))
    # the camera's way: that from the place where the start's centre is now to the centre
    moved = torch.linalg.solve(seen, fit[2] * sides) if area > 0 else fit[2] * sides
    parts = [_paced(f"pans {_direction(moved)}", float(moved.norm()), PAN)]
    if area > 0:  # else it is no camera's motion
        growth = -0.5 * math.log(area)
        degrees = math.degrees(
            math.atan2(float(seen[0, 1] - seen[1, 0]), float(seen[0, 0] + seen[1, 1]))
        )
        sense = "clockwise" if degrees > 0 else "counterclockwise"
        parts.append(_paced("zooms in" if growth > 0 else "zooms out", abs(growth), ZOOM))
        parts.append(_paced(f"the picture turns {sense}", abs(degrees), TURN))
    return ", ".join(part for part in parts if part)


def _paced(words: str, amount: float, limits: tuple[float, float, float]) -> str:
    """The words with their pace; "" where there is too little of it."""
    still, slow, fast = limits
    if amount < still:
        return ""
    return words + (" slowly" if amount < slow else " fast" if amount > fast else "")


def _things(own: Tensor, moves: Tensor, trusted: Tensor) -> str:
    """Words for the connected regions of cells (H, W) that move by themselves (2, H, W).

    What is not trusted counts for nothing, but joins the parts of a thing on both sides of it.
    """
    count, labels = cv2.connectedComponents(moves.numpy().astype("uint8"), connectivity=8)
    regions = [torch.from_numpy(labels == label) & trusted for label in range(1, count)]
    large = [region for region in regions if float(region.float().mean()) >= LEAST]
    ways = [_direction(own[:, region].mean(1)) for region in large]
    if len(large) >= len(NUMBERS):
        return "many things move"
    said = []
    for way in sorted(set(ways)):
        number = ways.count(way)
        said.append(f"{NUMBERS[number]} thing{' moves' if number == 1 else 's move'} {way}")
    return ", ".join(said)


def _direction(way: Tensor) -> str:
    """One of eight directions in words: left, or up and left."""
    x, y = way.tolist()
    words = []
    if abs(y) > math.tan(math.pi / 8) * abs(x):
        words.append("down" if y > 0 else "up")
    if abs(x) > math.tan(math.pi / 8) * abs(y):
        words.append("right" if x > 0 else "left")
    return " and ".join(words)
