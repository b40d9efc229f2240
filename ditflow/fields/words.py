"""A motion in plain words: what the camera does, and how many things move by themselves.

A bank keeps them with an entry, and is searched by them: `ditflow.bank.search.phrases` reads them.
"""

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
ROLL = (2.0, 10.0, 60.0)  # degrees
THING = 0.05  # heights of the frame that a thing moves beyond the camera's motion
REACH = 0.27  # mean distance of a place from the centre, in diagonals of the frame
FAINT = 0.15  # of what the camera does most: less of another motion may be the flow's error
LEAST = 0.01  # share of the frame that a thing covers
DRIFT = 0.35  # share of the camera's mean motion that flow may drift by, wherever it is
TRUSTED = 0.5  # confidence of its cells
RETURNED = 0.3  # share of the largest movement that is left where a motion has come back
NUMBERS = ("no", "one", "two", "three", "four", "five")


def described(field: MotionField) -> str:
    """Plain words for a motion, such as "pans left slowly, zooms in; one thing moves up".

    They compare the last time with the first frame. Where the motion has come back by then, they
    are those of the time when most had moved, with "and comes back". A camera that pans right sees
    its content move left, one that tilts up sees it move down, and one that rolls clockwise sees it
    turn the other way. It zooms in where content grows. A thing moves relative to the camera's
    motion, in the direction that is seen. Where nothing moves it is "still".
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
    growth, turn = 0.0, 0.0
    if area > 0:  # else it is no camera's motion
        growth = -0.5 * math.log(area)
        turn = math.atan2(float(seen[0, 1] - seen[1, 0]), float(seen[0, 0] + seen[1, 1]))
    sense = "counterclockwise" if turn > 0 else "clockwise"  # of the camera
    reach = REACH * math.hypot(aspect, 1.0)
    least = FAINT * max(float(moved.norm()), reach * abs(growth), reach * abs(turn))
    parts = []
    if float(moved.norm()) > least:
        for way in _directions(moved):
            verb, along = ("pans", 0) if way in ("left", "right") else ("tilts", 1)
            parts.append(_paced(f"{verb} {way}", abs(float(moved[along])), PAN))
    if reach * abs(growth) > least:
        parts.append(_paced("zooms in" if growth > 0 else "zooms out", abs(growth), ZOOM))
    if reach * abs(turn) > least:
        parts.append(_paced(f"rolls {sense}", abs(math.degrees(turn)), ROLL))
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
    ways = [" and ".join(_directions(own[:, region].mean(1))[::-1]) for region in large]
    if len(large) >= len(NUMBERS):
        return "many things move"
    said = []
    for way in sorted(set(ways)):
        number = ways.count(way)
        said.append(f"{NUMBERS[number]} thing{' moves' if number == 1 else 's move'} {way}")
    return ", ".join(said)


def _directions(way: Tensor) -> list[str]:
    """The sides, one or two of them, that a way leads to: eight directions are told apart."""
    x, y = way.tolist()
    sides = []
    if abs(x) > math.tan(math.pi / 8) * abs(y):
        sides.append("right" if x > 0 else "left")
    if abs(y) > math.tan(math.pi / 8) * abs(x):
        sides.append("down" if y > 0 else "up")
    return sides
