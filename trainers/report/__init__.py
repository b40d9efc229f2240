"""Pages to look at: a run's videos side by side, motion as colours, numbers. Read `page.py`
first.
"""
