"""The short help of a command: what it does, an example, and the options that people use.

Each option's text is that of the docstring that `--help all` reads too. It is taken from the source
by `ast`, because importing the classes would import torch and Lightning, which takes seconds.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = {
    "bank": "Folder or URL of the motion bank; `fit` makes it where it is missing.",
    "out": "Folder for videos; by default `videos` in the bank.",
    "again": (
        "A video that `predict` made: what is not given is taken from it, and the folder `again` "
        "beside it gets the same video. What it was made from must be as it was."
    ),
    "method": (
        "How motion is taken. `optimise` fits positions or latents of the backbone to each clip; "
        "`instant` follows the clip's pixels, in a second or less on a CPU, for any backbone; "
        "--model.source is dis, raft, lucas-kanade, cotracker3 or amf."
    ),
    "dry_run": "Print what would be done and what it would cost, and write nothing.",
    "measure": (
        "With --dry_run: time one block of the backbone on this device, for about a minute at "
        "most, and say how long all of it will take."
    ),
}
"""Options of `fit` and `predict` that belong to no class."""
CONFIG = "YAML file with these options. A shipped one is found by its file's name."
MODEL, DATA = "trainers/motion/optimization.py", "datamodules/motion_tasks.py"
GROUPS = {"model": (MODEL, "MotionOptimization"), "data": (DATA, "MotionTaskModule")}


@dataclass(frozen=True)
class ShortHelp:
    """`about` is one sentence. `options` are names without dashes. `function`, if given, is the
    file and the name of the function whose arguments they are.
    """

    about: str
    examples: tuple[str, ...]
    options: tuple[str, ...]
    function: tuple[str, str] | None = None

    def text(self, command: str) -> str:
        shown = {"config": CONFIG} | {name: self._meaning(name) for name in self.options}
        lines = [f"usage: ditflow {command} [options]", "", self.about, "", "examples:"]
        lines += [f"  {example}" for example in self.examples]
        lines += ["", "options:"]
        for name, meaning in shown.items():
            lines += [f"  --{name}", *textwrap.wrap(meaning, 90, **INDENT)]
        return "\n".join([*lines, "", f"`ditflow {command} --help all` lists every option.", ""])

    def _meaning(self, option: str) -> str:
        if self.function is not None:
            return arguments_of(*self.function)[option]
        group, _, name = option.partition(".")
        return arguments_of(*GROUPS[group])[name] if name else OWN[option]


INDENT = {"initial_indent": " " * 6, "subsequent_indent": " " * 6}


def arguments_of(file: str, name: str) -> dict[str, str]:
    """What the docstring of a class or a function says of each argument."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    (found,) = (
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
    )
    section = inspect.cleandoc(ast.get_docstring(found) or "").partition("Args:\n")[2]
    section = textwrap.dedent(section.partition("\n\n")[0])
    arguments = re.findall(r"^(\w+): (.*(?:\n .*)*)", section, re.MULTILINE)
    return {argument: " ".join(meaning.split()) for argument, meaning in arguments}


HELP = {
    "fit": ShortHelp(
        "Take the motion of clips into a motion bank. Stopped and started again, it goes on.",
        (
            "ditflow fit --config configs/tiny-rope.yaml --bank bank/ --data.manifest clips.csv",
            "ditflow fit --config configs/cogvideox-5b.yaml --bank bank/ --data.manifest clips.csv "
            "--dry_run",
            "ditflow fit --method instant --bank bank/ --data.videos 'clips/*.mp4'",
        ),
        (
            *("method", "bank", "data.manifest", "data.videos", "data.prompt"),
            *("data.frames", "data.size"),
            *("data.batch_size", "model.backbone", "model.lora", "model.variable", "model.signal"),
            *("model.steps", "model.inner_steps", "model.savings", "model.dtype", "model.finish"),
            *("out", "dry_run", "measure"),
        ),
    ),
    "predict": ShortHelp(
        "Make videos from the motions of a bank and new prompts, without the clips.",
        (
            "ditflow predict --config configs/tiny-rope.yaml --bank bank/ "
            "--data.prompts prompts.txt --out videos/",
            "ditflow predict --again videos/car-red-clouds-848782-seed0.mp4",
        ),
        (
            *("bank", "out", "again", "data.prompts", "data.entries", "data.seeds"),
            *(
                "data.batch_size",
                "data.negative_prompt",
                "model.backbone",
                "model.lora",
                "model.steps",
                "model.guidance_scale",
            ),
            *(
                "model.strength",
                "model.noise_share",
                "model.change",
                "model.injection_blocks",
                "model.dtype",
                "model.fps",
                "dry_run",
                "measure",
            ),
        ),
    ),
    "test": ShortHelp(
        "Make the videos of several methods, measure them, and write tables.",
        (
            "ditflow test --config configs/benchmarks/synthetic.yaml --out runs/synthetic/",
            "ditflow report runs/synthetic/",
        ),
        (
            *("out", "data", "setups", "zero_shot", "baseline", "methods"),
            *("model", "trainer", "metrics", "batch_size", "seed"),
        ),
        ("trainers/commands/benchmark.py", "test"),
    ),
    "ablate": ShortHelp(
        "Make and measure the videos of one method at several values of each setting.",
        ("ditflow ablate --config configs/benchmarks/ablation.yaml --out runs/ablation/",),
        (
            *("out", "data", "setup", "vary", "kinds"),
            *("model", "trainer", "metrics", "batch_size", "seed"),
        ),
        ("trainers/benchmark/ablation.py", "ablate"),
    ),
}
