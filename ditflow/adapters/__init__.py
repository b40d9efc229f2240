"""Motion on stock diffusers pipelines. Read `motion.py` first."""
