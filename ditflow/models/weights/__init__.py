"""What is asked of a model's files before they are loaded, what is merged into its weights, and how
these are kept where memory is short: begin at `plan.py`.
"""
