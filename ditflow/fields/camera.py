"""The camera's part of a motion, and what moves by itself."""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

from ditflow.fields.field import MotionField
from ditflow.fields.fill import affine_motion


def split(field: MotionField) -> tuple[MotionField, MotionField]:
    """The camera's motion, and the rest of a field: `added(camera, rest)` is the field again.

    The camera's is the affine motion of each time that most of the trusted cells agree with. To
    give a field another camera, add another's camera to its rest.
    """
    camera = affine_motion(field.displacement, field.confidence)
    return field.replaced(camera), field.replaced(field.displacement - camera)
