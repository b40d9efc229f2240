"""The denoising loop and what acts on it. Read `loop.py` first."""
