"""`ditflow demo`: clips whose motion is known exactly -> motion bank -> new videos, all measured
against the clips.

Here are its options; nothing heavy is imported before they are understood.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

BACKBONES = ("tiny-rope", "tiny-sincos")  # those that know the synthetic world


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    from trainers.commands.demo_journey import Journey, claim
    from trainers.commands.demo_tasks import tasks_of

    settings = {key: value for key, value in vars(options).items() if key != "out"}
    claim(Path(options.out), settings)
    try:
        Journey(
            Path(options.out),
            options.backbone,
            tasks_of(options.clips, options.prompts, options.seed),
        ).run(_arguments(options))
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ditflow demo",
        description="Build a motion bank, generate and measure on synthetic clips, offline.",
    )
    parser.add_argument(
        "--out",
        default="demo",
        metavar="FOLDER",
        help="where everything is written (default: %(default)s)",
    )
    parser.add_argument(
        "--clips",
        type=_whole_number,
        default=6,
        help="number of reference clips (default: %(default)s)",
    )
    parser.add_argument(
        "--prompts",
        type=_whole_number,
        default=2,
        choices=range(1, 7),
        metavar="{1..6}",
        help="new ones for each clip (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of prompts and noise (default: %(default)s)"
    )
    parser.add_argument(
        "--backbone",
        choices=BACKBONES,
        default=BACKBONES[0],
        help="an embedded backbone (default: %(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=_whole_number,
        help="denoising steps (default: as recommended for the backbone)",
    )
    parser.add_argument(
        "--inner-steps",
        type=_whole_number,
        help="updates at each guided step (default: as recommended for the backbone)",
    )
    return parser


def _whole_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _arguments(options: argparse.Namespace) -> list[str]:
    wanted = {"--model.steps": options.steps, "--model.inner_steps": options.inner_steps}
    return [
        word for name, value in wanted.items() if value is not None for word in (name, str(value))
    ]
