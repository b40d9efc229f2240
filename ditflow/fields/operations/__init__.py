"""What can be done with a motion: each operation gives a new field, and leaves the old as it is.

A field maps places now to places in its anchor frame. Where an operation asks beyond the frame, it
goes on with the camera's affine motion, and the confidence is 0. Operations on two fields take the
second to the cells of the first. What makes no sense raises FieldError.

`amount.py` has how much of a motion there is, and which part of it. `space.py` mirrors and turns,
`time.py` reverses and slows, `regions.py` keeps to a part of the frame, and `pairs.py` makes one
motion of two.
"""

from ditflow.fields.operations.amount import scaled, smoothed, split
from ditflow.fields.operations.pairs import added, chained, composed
from ditflow.fields.operations.regions import parted, restricted
from ditflow.fields.operations.space import mirrored, rotated
from ditflow.fields.operations.time import anchored, paced, reversed_in_time, slowed, trimmed

__all__ = [
    "added",
    "anchored",
    "chained",
    "composed",
    "mirrored",
    "paced",
    "parted",
    "restricted",
    "reversed_in_time",
    "rotated",
    "scaled",
    "slowed",
    "smoothed",
    "split",
    "trimmed",
]
