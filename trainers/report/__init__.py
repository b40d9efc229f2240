"""A run of `ditflow test` as one page. Read `page.py` first."""
