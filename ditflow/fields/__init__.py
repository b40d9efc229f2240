"""The motion of a clip as a value, and what can be done with it. Read `field.py` first."""
