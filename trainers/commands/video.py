"""`ditflow video show FILE`: how a video was made, as its file says.

The file may be a stranger's: what it says is shown as plain text, control characters escaped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Print what the file says. Raises VideoError, in one sentence, where it says nothing."""
    options = _parser().parse_args(argv)
    from ditflow.video_provenance import read_provenance

    facts = read_provenance(options.file).as_dict()
    if options.json:
        print(json.dumps(facts))
        return 0
    from rich.table import Table
    from rich.text import Text

    from trainers.progress.view import console_of, plain

    table = Table(show_header=False, box=None)
    for field, value in facts.items():
        if field == "prompt" or value not in ("", None, ()):
            shown = value if isinstance(value, str) else json.dumps(value)
            table.add_row(Text(field, style="bold"), Text(plain(shown), overflow="fold"))
    console_of(sys.stdout).print(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ditflow video", description="Look into a video that ditflow made."
    )
    commands = parser.add_subparsers(required=True, metavar="{show}")
    about = "how a video was made: prompt, seed, motion, model, settings and versions"
    show = commands.add_parser(
        "show",
        help=about,
        description=f"Print {about}.",
        epilog="example: ditflow video show videos/car-red-clouds-848782-seed0.mp4",
    )
    show.add_argument("file", metavar="FILE", help="a video of `predict`, or of `fit`")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
