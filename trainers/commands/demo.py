"""`ditflow demo`: runs `ditflow test` on `configs/benchmarks/demo.yaml`, then `ditflow report`.

Nothing heavy is imported before the options are understood.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from trainers.extras import need
from trainers.lasting import lasting

SETUPS = {
    "tiny-rope": "ditflow-positions",
    "tiny-sincos": "ditflow-sinusoidal",
    "tiny-wan": "ditflow-positions",
}
"""Backbones that know the synthetic world, and the setup whose entries serve other prompts."""

WRITES = """
The folder then holds index.html, all videos side by side; still.png, some of their frames;
table.md, table.csv and rows.csv, the numbers; and banks/, the motion banks. Stopped and started
again, the demo goes on from where it was.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 1 where a video failed, else 0. Raises ValueError for a folder that
    holds a demo with other settings.
    """
    options = _parser().parse_args(argv)
    need("jinja2", "markupsafe")
    with lasting():
        from rich.console import Console
        from rich.markdown import Markdown

        from trainers.commands import benchmark, report

    code = benchmark.main(["test", *benchmark_options(options)])
    report.main([options.out])
    table = (Path(options.out).expanduser() / "table.md").read_text(encoding="utf-8")
    Console().print(Markdown(table.partition("## All prompts")[2].partition("\n## ")[0]))
    return code


def benchmark_options(options: argparse.Namespace) -> list[str]:
    """The options of `ditflow test` that the demo's options stand for."""
    setup = SETUPS[options.backbone]
    given = {
        "out": options.out,
        "data.clips": options.clips,
        "data.prompts": options.prompts,
        "data.seed": options.seed,
        "seed": options.seed,
        "setups": json.dumps(["backbone", "instant", setup]),
        "zero_shot": json.dumps([setup]),
        "model.backbone": options.backbone,
        "model.steps": options.steps,
        "model.inner_steps": options.inner_steps,
        **_processes(options.clips),
    }
    named = [(f"--{name}", str(value)) for name, value in given.items() if value is not None]
    return ["--config", "configs/benchmarks/demo.yaml", *(word for pair in named for word in pair)]


def _processes(clips: int) -> dict[str, str | int]:
    """Without a GPU, several processes of one thread each share the clips."""
    import torch

    from trainers.motion import cores

    if torch.cuda.is_available():
        return {}
    return {"trainer.accelerator": "cpu", "trainer.devices": cores.processes(clips)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ditflow demo",
        description="Build a motion bank, generate and measure on synthetic clips, offline.",
        epilog=WRITES,
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add("--out", default="demo", metavar="FOLDER", help=f"folder for everything {default}")
    add("--clips", type=_count, default=6, help=f"number of reference clips {default}")
    prompts = {"choices": range(1, 7), "metavar": "{1..6}", "default": 2}
    add("--prompts", type=_count, **prompts, help=f"number of new prompts for each clip {default}")
    add("--seed", type=int, default=0, help=f"seed of prompts and noise {default}")
    backbone = {"choices": tuple(SETUPS), "default": "tiny-rope"}
    add("--backbone", **backbone, help=f"an embedded backbone {default}")
    recommended = "(default: as recommended for the backbone)"
    add("--steps", type=_count, help=f"denoising steps {recommended}")
    add("--inner-steps", type=_count, help=f"updates at each guided step {recommended}")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
