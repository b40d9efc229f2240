"""Find entries by their motion. Read `find.py` first."""

from ditflow.bank.search.find import Found, Match

__all__ = ["Found", "Match"]
