"""Compare methods on the same clips and prompts. Read `run.py` first."""
