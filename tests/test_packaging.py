"""The wheel: all code, configurations and backbones are in it, and it works without the checkout.

The wheel is built from a copy and installed into an environment of its own, which sees this
environment's dependencies but not the checkout.
"""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from trainers.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ditflow", "datamodules", "trainers")
SOURCES = (
    *PACKAGES,
    "configs",
    "checkpoints",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
OUTSIDE = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
}


def run(*command: str | Path, cwd: Path, timeout: float = 600) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=OUTSIDE,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, (
        f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: a build folder left in the checkout would put old files into the next
    wheel.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(
                path, source / name, ignore=shutil.ignore_patterns("__pycache__", "runs")
            )
        else:
            shutil.copy(path, source / name)
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        source,
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        folder,
        cwd=folder,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel; the dependencies come from this one by a path file, which
    does not bring editable installs along.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    site = run(
        python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=folder
    ).strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "venv" / "bin"


def test_wheel_holds_code_configurations_and_backbones(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    expected |= {
        f"ditflow/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    expected |= {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ditflow" / "visual" / "templates").iterdir()
    }
    expected |= {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ditflow" / "models" / "presets").glob("*.yaml")
    }
    expected.add("trainers/app/page.css")
    for model, index in (
        ("tiny-rope", "model_index.json"),
        ("tiny-sincos", "model_index.json"),
        ("tiny-wan", "model_index.json"),
        ("tiny-clip", "config.json"),
    ):
        folder = ROOT / "checkpoints" / model
        expected |= {
            f"ditflow/{path.relative_to(ROOT).as_posix()}"
            for path in folder.rglob("*")
            if path.is_file()
        }
        assert f"ditflow/checkpoints/{model}/{index}" in names
    expected |= {
        f"ditflow/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "checkpoints" / "banks").rglob("*.safetensors")
    }
    assert "ditflow/checkpoints/banks/starter/search.safetensors" in expected
    assert expected - names == set()
    assert not [name for name in names if name.startswith(("tests/", "configs/", "checkpoints/"))]


def test_every_package_is_listed():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert found | {"ditflow.configs", "ditflow.checkpoints"} == listed


def test_every_requirement_is_pinned():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    requirements = (
        settings["options"]["install_requires"] + settings["options.extras_require"]["test"]
    )
    wanted = {line.split(">=")[0].split("[")[0].lower() for line in requirements.split()}
    pinned = {
        line.split("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert wanted - pinned == set()


def imported_packages() -> set[str]:
    """What our packages import from elsewhere, by the first word of its name."""
    nodes = [
        node
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    ]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    return {name.split(".")[0] for name in plain | named} - {*PACKAGES, *sys.stdlib_module_names}


def test_every_import_is_declared():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    requirements = settings["options"]["install_requires"] + "".join(
        extras[name] for name in ("app", "lora", "quantised", "report")
    )
    declared = {line.split(">=")[0].split("[")[0].lower() for line in requirements.split()}
    providers = packages_distributions()
    assert {"torch", "tqdm", "cv2"} <= imported_packages()
    assert [
        name
        for name in sorted(imported_packages())
        if not declared & {provider.lower() for provider in providers.get(name, [name])}
    ] == []


def test_the_tests_install_what_reports_need():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = {
        name: set(lines.split()) for name, lines in settings["options.extras_require"].items()
    }
    shipped = (extras[name] for name in ("app", "lora", "report", "s3", "tensorboard"))
    assert set().union(*shipped) <= extras["test"]
    assert extras["notebook"] - extras["test"] == {"jupyterlab>=4.2"}  # opens it; kernels run it
    named = {line.split(">=")[0].lower() for line in extras["report"]}
    assert named == set(EXTRAS["report"]), "the sentence about a missing package names this extra"


INJECT = """
import sys
import ditflow
backbone = ditflow.load_backbone("tiny-rope")
bank = ditflow.MotionBank(sys.argv[1])
(name,) = [name for name in bank if name == "tiny-rope-rotary_positions"]
frames = ditflow.inject_motion(backbone, bank[name], "blue clouds", steps=3)
heavy = ("lightning", "torchmetrics", "jsonargparse", "matplotlib")
print(tuple(frames.shape), [module for module in heavy if module in sys.modules])
"""


def test_injecting_an_entry_loads_no_trainer():
    bank = ROOT / "tests" / "data" / "old_bank"
    said = run(sys.executable, "-c", INJECT, bank, cwd=ROOT).splitlines()[-1]
    assert said.endswith("3, 64, 64) []")


def test_imports_come_from_the_wheel(environment, tmp_path):
    code = (
        "import ditflow, datamodules, trainers; "
        "print(ditflow.__file__, datamodules.__path__, trainers.__path__)"
    )
    files = run(environment / "python", "-c", code, cwd=tmp_path)
    assert str(environment.parent) in files and str(ROOT) not in files


def test_shipped_files_are_found(environment, tmp_path):
    code = (
        "import ditflow; from ditflow.resources import shipped as s; "
        "print(s('configs', 'tiny-rope.yaml'), "
        "s('checkpoints', 'tiny-rope'), s('configs', 'no.yaml'), "
        "len(ditflow.MotionBank('starter')))"
    )
    said = run(environment / "python", "-c", code, cwd=tmp_path)
    config, backbone, nothing, motions = said.split()
    assert (
        Path(config).is_file()
        and (Path(backbone) / "model_index.json").is_file()
        and nothing == "None"
        and int(motions) >= 24
    )
    assert str(environment.parent) in config


def test_help(environment, tmp_path):
    assert "fit" in run(environment / "ditflow", "--help", cwd=tmp_path)


def test_demo_outside_the_checkout(environment, tmp_path):
    run(
        environment / "ditflow",
        "demo",
        "--out",
        "shown",
        "--clips",
        "1",
        "--prompts",
        "1",
        "--steps",
        "3",
        "--inner-steps",
        "1",
        cwd=tmp_path,
    )
    table = (tmp_path / "shown" / "table.csv").read_text()
    methods = {line.partition(",")[0] for line in table.splitlines()[1:]}
    optimised = {"ditflow-positions", "ditflow-positions-zero-shot"}
    assert methods == {"backbone", "instant"} | optimised
    assert (tmp_path / "shown" / "still.png").stat().st_size > 10_000
    assert (tmp_path / "shown" / "index.html").stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["shown"]
