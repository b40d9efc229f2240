"""`ditflow app`: the whole journey in a browser, from a clip to a video with its motion.

Nothing heavy is imported before the options are understood.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from trainers.extras import need
from trainers.lasting import lasting


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the app until it is interrupted. Raises ValueError for a model or a bank that cannot be
    used, OSError where it cannot be served, and ModuleNotFoundError where Gradio is not installed.
    """
    options = _parser().parse_args(argv)
    need("gradio")
    from trainers.app.place import Place

    place = Place(options.host, options.port)
    place.check()
    with lasting():
        from ditflow.bank import MotionBank
        from ditflow.models import load_backbone
        from trainers.app.motions import Limits
        from trainers.app.server import serve
        from trainers.app.studio import Studio
        from trainers.motion.cores import settle_flow

    bank = MotionBank(options.bank, create=True) if options.bank else None
    model = load_backbone(options.backbone, device=options.device)
    settle_flow(model.spec)
    limits = Limits(options.max_megabytes, options.max_seconds)
    studio = Studio(model, limits, options.steps, options.fps)
    serve(studio, bank, place)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ditflow app",
        description="Serve a page that takes the motion of a clip and gives it to new videos.",
        epilog="example: ditflow app --backbone tiny-rope --bank bank/",
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add(
        "--backbone",
        default="tiny-rope",
        metavar="NAME",
        help=f"the model: a shipped one, a folder in diffusers format, or a hub id {default}",
    )
    add(
        "--bank",
        metavar="FOLDER",
        help="a bank that all visitors read and add to (default: each has one, which ends "
        "with the visit)",
    )
    add("--host", default="127.0.0.1", help=f"the address to serve; 0.0.0.0 is all {default}")
    add("--port", type=_count, metavar="N", help="default: the first free one from 7860 on")
    add("--device", metavar="NAME", help="default: the first GPU if there is one")
    add("--steps", type=_count, metavar="N", help="denoising steps (default: as recommended)")
    add("--fps", type=_positive, default=8.0, metavar="X", help=f"of the videos {default}")
    add(
        "--max-megabytes",
        type=_positive,
        default=200.0,
        metavar="X",
        help=f"of a clip that is sent {default}",
    )
    add(
        "--max-seconds",
        type=_positive,
        default=60.0,
        metavar="X",
        help=f"that a clip lasts at most {default}",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value
