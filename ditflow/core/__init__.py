"""Values and mathematics that know no model: sizes, schedules, positions. Read `sizes.py` first."""
