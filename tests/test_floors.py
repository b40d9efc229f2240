"""Imports go down only: the floors of CONTRIBUTING.md, read from the code itself.

Every import counts, also those inside functions and under TYPE_CHECKING: what a module knows about
is part of the design.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ditflow", "datamodules", "trainers")

FLOORS = {
    0: (
        "ditflow.core",
        "ditflow.files",
        "ditflow.resources",
        "ditflow.citations",
        "ditflow.quiet",
        "ditflow.liveness",
        "ditflow.warning",
    ),
    1: ("ditflow.motion", "ditflow.models", "ditflow.video", "ditflow.fields"),
    2: ("ditflow.sampling", "ditflow.bank"),
    3: (
        "ditflow.compatibility",
        "ditflow.provenance",
        "ditflow.video_provenance",
        "ditflow.metrics",
        "ditflow.visual",
    ),
    4: ("ditflow.extraction", "ditflow.transfer", "ditflow.injection_provenance"),
    5: ("ditflow.adapters",),
    6: ("datamodules",),
    7: ("trainers.progress", "trainers.parser_errors", "trainers.extras", "trainers.lasting"),
    8: ("trainers.motion",),
    9: ("trainers.benchmark", "trainers.report", "trainers.pretraining"),
    10: ("trainers.app",),
    11: ("trainers.commands",),
    12: ("trainers.cli",),
}

# The public face of the library: it may name everything below floor 6, and only floors 6 and above
# may name it. Its version is open to all.
FACE = "ditflow"

# Rooms that are one idea in several files: these may read each other, as long as no circle comes of
# it.
SHARED = (
    "ditflow.adapters",
    "ditflow.compatibility",
    "ditflow.core",
    "ditflow.fields",
    "ditflow.models",
    "ditflow.sampling",
    "ditflow.bank",
    "ditflow.metrics",
    "ditflow.video",
    "datamodules",
    "datamodules.synthetic",
    "trainers.progress",
    "trainers.motion",
    "trainers.report",
    "trainers.benchmark",
    "trainers.pretraining",
    "trainers.app",
    "trainers.commands",
)
LONGEST, MOST = 250, 15  # lines of a file, files of a folder

# Elsewhere siblings meet only through base.py, and in the __init__.py that collects them, but for
# these.
ATTENTION = ("ditflow.motion.attention",)  # how several signals read scores
WITHIN = {
    "ditflow.motion.amf": ATTENTION,
    "ditflow.motion.motionclone": ATTENTION,
    "ditflow.motion.motionflow": ATTENTION,
    "ditflow.visual.gallery": (
        "ditflow.visual.curves",
        "ditflow.visual.page",
        "ditflow.visual.rendering",
    ),
    "ditflow.visual.page": ("ditflow.visual.curves", "ditflow.visual.rendering"),
    "ditflow.visual.rendering": ("ditflow.visual.curves",),
    # a report shows the folder of a benchmark
    "trainers.report.numbers": ("trainers.benchmark.statistics",),
    "trainers.report.page": ("trainers.benchmark.text",),
    "trainers.report.run": ("trainers.benchmark.compared", "trainers.benchmark.folder"),
}

# Where a dependency may be named.
HOMES = {
    "av": ("ditflow.video",),
    "diffusers": (
        "ditflow.adapters",
        "ditflow.models",
        "datamodules.pretraining",
        "trainers.pretraining",
    ),
    "transformers": (
        "ditflow.quiet",
        "ditflow.models",
        "ditflow.metrics",
        "trainers.pretraining",
    ),
    "torchmetrics": ("ditflow.metrics", "trainers"),
    "jinja2": ("ditflow.visual",),
    "lightning": ("datamodules", "trainers"),
    "jsonargparse": ("trainers",),
    "rich": ("trainers",),
    "fsspec": ("ditflow.bank",),
    "gradio": ("trainers.app",),
    "huggingface_hub": ("ditflow.bank", "ditflow.models", "ditflow.quiet"),
}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(file): file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


def floor_of(module: str) -> float:
    """The most particular line of the table decides: `trainers.cli` before `trainers`."""
    if module == FACE:
        return 5.5
    fitting = [
        (len(room), floor)
        for floor, rooms in FLOORS.items()
        for room in rooms
        if within(module, (room,))
    ]
    assert fitting, (
        f"{module} has no floor: put it into FLOORS and into the table of CONTRIBUTING.md"
    )
    return max(fitting)[1]


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """The modules that a source names, relative imports and submodules imported with `from`
    resolved.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module if is_package else module.rpartition(".")[0]
            base = resolve_name("." * node.level + (node.module or ""), package)
            if base == FACE and [alias.name for alias in node.names] == ["__version__"]:
                continue
            submodules = {f"{base}.{alias.name}" for alias in node.names} & FILES.keys()
            found |= submodules or {base}
    return found


def imports_of(module: str) -> set[str]:
    file = FILES[module]
    return imported(file.read_text(encoding="utf-8"), module, file.name == "__init__.py")


def allowed(module: str, other: str) -> bool:
    """Whether a module may import another one of ours."""
    if floor_of(other) != floor_of(module):
        return floor_of(other) < floor_of(module)
    package = other.rpartition(".")[0]
    collects = module == package
    shared = any(within(module, (room,)) and within(other, (room,)) for room in SHARED)
    beside = module.rpartition(".")[0] == package and other.endswith(".base")
    return collects or shared or beside or other in WITHIN.get(module, ())


def test_imports_go_down_only():
    wrong = [
        f"{module} (floor {floor_of(module)}) imports {other} (floor {floor_of(other)})"
        for module in FILES
        for other in sorted(imports_of(module))
        if other.split(".")[0] in PACKAGES and not allowed(module, other)
    ]
    assert not wrong, "\n".join(wrong)


def test_dependencies_stay_in_their_rooms():
    wrong = [
        f"{module} imports {name}, which lives in {HOMES[name]}"
        for module in FILES
        for name in sorted({other.split(".")[0] for other in imports_of(module)} & HOMES.keys())
        if not within(module, HOMES[name])
    ]
    assert not wrong, "\n".join(wrong)


def test_files_and_folders_stay_small():
    long = [
        f"{file.relative_to(ROOT)} has {lines} lines"
        for file in FILES.values()
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > LONGEST
    ]
    folders = Counter(file.parent.relative_to(ROOT) for file in FILES.values())
    full = [f"{folder} has {count} files" for folder, count in folders.items() if count > MOST]
    assert not long + full, "\n".join(long + full)


def test_only_the_registry_knows_the_families():
    families = {"ditflow.models.families.cogvideox", "ditflow.models.families.wan"}
    knowing = {module for module in FILES if imports_of(module) & families}
    assert knowing == {"ditflow.models.registry"}


@pytest.mark.parametrize("room", SHARED)
def test_no_circles_inside_a_room(room):
    graph = {
        module: {other for other in imports_of(module) if within(other, (room,))}
        for module in FILES
        if within(module, (room,))
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_signals_and_backbones_meet_only_through_recordings():
    for module in FILES:
        for room, other in (
            ("ditflow.motion", "ditflow.models"),
            ("ditflow.models", "ditflow.motion"),
        ):
            assert not (
                within(module, (room,))
                and any(within(name, (other,)) for name in imports_of(module))
            ), f"{module} imports {other}"


def test_tests_are_not_imported_by_the_packages():
    assert not [
        module for module in FILES if any(within(name, ("tests",)) for name in imports_of(module))
    ]


def test_every_line_of_the_tables_is_used():
    rooms = [room for floor in FLOORS.values() for room in floor]
    assert [room for room in rooms if not any(within(module, (room,)) for module in FILES)] == []
    assert [name for name, others in WITHIN.items() if not set(others) <= imports_of(name)] == []


def test_contributing_shows_the_same_floors():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = (re.match(r" ?(\d+) ", line) for line in text.splitlines())
    lines = {int(row[1]): row.string for row in rows if row}
    for floor, rooms in FLOORS.items():
        missing = [
            room for room in rooms if room.removeprefix("ditflow.") not in lines.get(floor, "")
        ]
        assert not missing, f"floor {floor} of CONTRIBUTING.md does not name {missing}"


@pytest.mark.parametrize(
    ("source", "module", "is_package", "expected"),
    [
        ("import torch.nn as nn", "ditflow.core.sizes", False, {"torch.nn"}),
        ("def f():\n    from diffusers import X", "ditflow.models.taps", False, {"diffusers"}),
        ("from .base import MotionSignal", "ditflow.motion.amf", False, {"ditflow.motion.base"}),
        ("from .amf import AMF", "ditflow.motion", True, {"ditflow.motion.amf"}),
        ("from ..core.sizes import TokenGrid", "ditflow.motion.amf", False, {"ditflow.core.sizes"}),
        ("from ..core.sizes import TokenGrid", "ditflow.motion", True, {"ditflow.core.sizes"}),
        ("from ditflow.core import sizes", "ditflow.video", False, {"ditflow.core.sizes"}),
        ("from ditflow import cite", "trainers.commands.demo", False, {"ditflow"}),
        ("from ditflow import __version__", "ditflow.transfer", False, set()),
    ],
)
def test_imports_are_read_as_python_reads_them(source, module, is_package, expected):
    assert imported(source, module, is_package) == expected


@pytest.mark.parametrize(
    ("module", "other", "verdict"),
    [
        ("ditflow.motion.amf", "ditflow.core.sizes", True),
        ("ditflow.core.sizes", "ditflow.motion.amf", False),
        ("ditflow.motion.amf", "ditflow.motion.base", True),
        ("ditflow.motion.amf", "ditflow.motion.smm", False),
        ("trainers.report.page", "trainers.commands.report", False),
        ("ditflow.bank.bank", "ditflow.bank.kinds.entry", True),
        ("ditflow.sampling.optimise", "ditflow.bank", False),
        ("ditflow.metrics.tracks", "ditflow.visual.grids", False),
        ("ditflow.visual.page", "ditflow.visual.grids", False),
        ("ditflow.transfer", "ditflow", False),
        ("ditflow", "ditflow.transfer", True),
        ("trainers.commands.demo", "trainers.cli", False),
        ("trainers.cli", "trainers.commands.demo", True),
    ],
)
def test_the_rule_itself(module, other, verdict):
    assert allowed(module, other) is verdict
