"""The motion of a clip as a value, and what can be done with it. Read `field.py` first."""

from __future__ import annotations

from ditflow.fields import operations
from ditflow.fields.field import FieldError, FieldSource, MotionField
from ditflow.fields.sources import field_of
from ditflow.fields.words import described

__all__ = ["FieldError", "FieldSource", "MotionField", "described", "field_of", "operations"]
