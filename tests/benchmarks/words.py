"""How often the words of a clip are right, on held-out clips of the synthetic world.

    python -m tests.benchmarks.words --clips 100

The truth is that of the world's layers, not of a measured field. A motion that is within a seventh
of the limit of being named, or a way within 3 degrees of being another, may be named or not: such
clips are right either way. A camera is right if what is named is all that it does and nothing
else, no thing included. A sprite is right if one thing is named, its way is right, and no camera.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections import Counter
from collections.abc import Sequence

import torch

from datamodules.synthetic import CAMERA_MOTIONS, MOTIONS, SyntheticClip, World
from ditflow.bank.search.phrases import Phrase, told
from ditflow.fields.sources import field_of
from ditflow.fields.words import PAN, RETURNED, ROLL, THING, ZOOM, described

NEAR, DEGREES = 7 / 6, 3.0  # of an amount to a limit, and of a way to another
OCTANT = 22.5  # degrees


def camera_does(clip: SyntheticClip, slack: float) -> set[tuple[str, str, str]]:
    """Kind, way and pace of what the camera does from the first frame to the last: with a slack of
    1 all that may be said of it, with one of -1 what must be, whatever its pace.
    """
    ground, size = clip.layers[0], clip.size
    first, last = ground.matrix[0], ground.matrix[-1]
    turned = torch.linalg.solve(first, last)
    centre = torch.tensor([(size.width - 1) / 2, (size.height - 1) / 2])
    seen = (ground.points(torch.tensor([0, -1]), centre[None]))[:, 0]
    moved = torch.linalg.solve(first, seen[1] - seen[0]) / size.height
    growth = -0.5 * math.log(float(torch.linalg.det(turned)))
    degrees = math.degrees(math.atan2(float(turned[1, 0]), float(turned[0, 0])))
    ways = sides(moved, slack)
    amounts = {
        ("pan", "right" if moved[0] > 0 else "left"): (abs(float(moved[0])) * ("x" in ways), PAN),
        ("tilt", "down" if moved[1] > 0 else "up"): (abs(float(moved[1])) * ("y" in ways), PAN),
        ("zoom", "in" if growth > 0 else "out"): (abs(growth), ZOOM),
        ("roll", "clockwise" if degrees > 0 else "counterclockwise"): (abs(degrees), ROLL),
    }
    return {
        (*what, pace)
        for what, (amount, limits) in amounts.items()
        for pace in paces(amount, limits, slack)
    }


def sides(way: torch.Tensor, slack: float) -> str:
    """The axes along which a way may be named with a slack of 1, and must be with one of -1."""
    x, y = way.abs().tolist()
    edge = OCTANT - math.copysign(DEGREES, slack)
    along = math.degrees(math.atan2(y, x))
    return "x" * (90 - along > edge) + "y" * (along > edge)


def paces(amount: float, limits: tuple[float, float, float], slack: float) -> set[str]:
    """The paces that an amount may have with a slack of 1. With one of -1, a single one that stands
    for any, or none where the amount need not be named.
    """
    still, slow, fast = limits
    if slack < 0:
        return {""} if amount > still * NEAR else set()
    called = {"slow"} if still / NEAR < amount < slow * NEAR else set()
    called |= {""} if slow / NEAR < amount < fast * NEAR else set()
    return called | ({"fast"} if amount > fast / NEAR else set())


def is_right(clip: SyntheticClip, phrases: frozenset[Phrase]) -> bool:
    """Whether all that a camera does is named, with its pace, and nothing else."""
    named = {(p.kind, "".join(p.ways), p.pace) for p in phrases} - {("still", "", "")}
    must = {what[:2] for what in camera_does(clip, -1)}
    return named <= camera_does(clip, 1) and must <= {what[:2] for what in named}


def sprite_is_right(clip: SyntheticClip, phrases: frozenset[Phrase]) -> bool:
    """Whether one thing is named with its way, where it moves, and no camera."""
    path = (clip.layers[1].offset[0] - clip.layers[1].offset) / clip.size.height
    lengths = path.norm(dim=1)
    back = bool(lengths[-1] < RETURNED * lengths.max())
    way = path[int(lengths.argmax()) if back else -1]
    if float(way.norm()) < THING * NEAR:
        return True
    names = {"x": "right" if way[0] > 0 else "left", "y": "down" if way[1] > 0 else "up"}
    may, must = ({names[axis] for axis in sides(way, slack)} for slack in (1, -1))
    said = [(phrase.number, phrase.ways) for phrase in phrases if phrase.kind == "thing"]
    others = {phrase.kind for phrase in phrases} - {"thing", "still", "back"}
    return not others and [number for number, _ in said] == ["one"] and must <= said[0][1] <= may


def measured(seeds: Sequence[int]) -> dict[str, Counter[str]]:
    """Counts of clips of each motion, and of those that are named right."""
    counts = {motion: Counter[str]() for motion in MOTIONS}
    for motion in MOTIONS:
        for seed in seeds:
            clip = World().clip(seed, motion)
            with warnings.catch_warnings(action="ignore"):
                words = described(field_of(clip.frames))
            judge = is_right if motion in CAMERA_MOTIONS else sprite_is_right
            right = judge(clip, told(words))
            counts[motion]["clips"] += 1
            counts[motion]["right"] += right
            if not right:
                print(json.dumps({"wrong": clip.name, "words": words}), flush=True)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100, help="of each motion")
    parser.add_argument("--first", type=int, default=1000, help="the seed of the first clip")
    options = parser.parse_args()
    counts = measured(range(options.first, options.first + options.clips))
    for motion, count in counts.items():
        print(json.dumps({"motion": motion} | count), flush=True)
    cameras = sum((counts[motion] for motion in CAMERA_MOTIONS), Counter())
    print(json.dumps({"motion": "all cameras"} | cameras))


if __name__ == "__main__":
    main()
