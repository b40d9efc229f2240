"""How far a library of clips has come, in numbers and in words. Read `progress.py` first."""
