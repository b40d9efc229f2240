"""Does an entry fit a backbone, and how does it act there?

`injection.py` says how a motion acts. `optimised.py` has the entries that were optimised, and
`ready.py` makes any motion ready for a generation. `drafts.py` makes videos of it, one or several
at once.
"""

from ditflow.compatibility.drafts import draft_injection, videos_of
from ditflow.compatibility.injection import Injection
from ditflow.compatibility.optimised import entry_control
from ditflow.compatibility.ready import Injected, check_entry, injected, own_size, window_of

__all__ = [
    "Injected",
    "Injection",
    "check_entry",
    "draft_injection",
    "entry_control",
    "injected",
    "own_size",
    "videos_of",
    "window_of",
]
