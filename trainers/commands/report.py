"""`ditflow report RUN`: what `ditflow test` wrote, as one page to look at.

Here are its options; nothing heavy is imported before they are understood.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and say where it is and what it weighs. Raises ValueError, in one sentence,
    for a folder that is no run.
    """
    options = _parser().parse_args(argv)
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import track

    from ditflow.files import expanded
    from ditflow.visual import write_page
    from trainers.report.page import page_of
    from trainers.report.run import read_run

    run = read_run(expanded(options.run))
    results = list(run.results())
    page = page_of(
        run, results, share=int(options.megabytes * 1e6 * 3 / 4 / (len(run.clips) + len(results)))
    )  # base64 writes 3 bytes as 4
    page = replace(
        page,
        sections=track(
            page.sections,
            "embedding",
            total=len(run.clips),
            console=Console(stderr=True),
            transient=True,
        ),
    )
    out = expanded(options.out) if options.out else run.folder.path / "index.html"
    weight = write_page(out, page)
    if problems := sum(bool(result.problem) for result in results):
        print(
            f"{problems} of {len(results)} results are missing or lack something: the page says what, in their places.",
            file=sys.stderr,
        )
    print(f"{out} ({decimal(weight)})")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ditflow report", description="A run of `ditflow test` as one page to look at."
    )
    parser.add_argument("run", metavar="RUN", help="the folder that `ditflow test` wrote")
    parser.add_argument("--out", metavar="FILE", help="the page (default: RUN/index.html)")
    parser.add_argument(
        "--megabytes",
        type=_positive,
        default=100.0,
        help="for all videos; heavier ones go in as smaller copies (default: %(default)s)",
    )
    return parser


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value
