"""`ditflow report RUN`: the results of `ditflow test` as one page.

Nothing heavy is imported before the options are understood.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from trainers.extras import need


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and a still picture beside it, and print where they are. Raises ValueError, in
    one sentence, for a folder that is no run.
    """
    options = _parser().parse_args(argv)
    need("jinja2", "markupsafe")
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import track

    from ditflow.files import atomic_file, expanded
    from ditflow.visual import write_page
    from trainers.report.page import page_of
    from trainers.report.run import read_run
    from trainers.report.still import still_of

    run = read_run(expanded(options.run))
    results = list(run.results())
    videos = len(run.clips) + len(results)
    share = int(options.megabytes * 1e6 * 3 / 4 / videos)  # base64 writes 3 bytes as 4
    page = page_of(run, results, share)
    console = Console(stderr=True)
    sections = track(
        page.sections, "embedding", total=len(run.clips), console=console, transient=True
    )
    out = expanded(options.out) if options.out else run.folder.path / "index.html"
    weight = write_page(out, replace(page, sections=sections))
    print(f"{out} ({decimal(weight)})")
    if still := still_of(run, results):
        with atomic_file(out.with_name("still.png")) as file:
            file.write(still)
        print(out.with_name("still.png"))
    if problems := sum(bool(result.problem) for result in results):
        print(
            f"{problems} of {len(results)} results are missing or lack something. "
            "The page says what, in their places.",
            file=sys.stderr,
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ditflow report",
        description="Show a run of `ditflow test` as one page. Writes still.png beside it.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that `ditflow test` wrote")
    parser.add_argument("--out", metavar="FILE", help="the page (default: RUN/index.html)")
    parser.add_argument(
        "--megabytes",
        type=_positive,
        default=100.0,
        help="size of all videos; heavier ones become smaller copies (default: %(default)s)",
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
