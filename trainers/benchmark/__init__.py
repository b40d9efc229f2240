"""Many methods on the same clips and prompts, measured and compared. Read `run.py` first."""
