"""Optimising motion with Lightning: the module, its callbacks and its strategy. Read
`optimization.py` first.
"""
