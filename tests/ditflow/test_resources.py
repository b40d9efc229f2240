"""What ships is found, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ditflow import resources
from ditflow.resources import shipped


@pytest.fixture(params=["wheel", "checkout"])
def package(request, tmp_path, monkeypatch) -> Path:
    """A copy of the layout: data inside the package, or beside it."""
    package = tmp_path / "ditflow"
    data = package if request.param == "wheel" else tmp_path
    (data / "configs" / "pretrain").mkdir(parents=True)
    (data / "configs" / "smoke.yaml").write_text("")
    (data / "secret.txt").write_text("")
    package.mkdir(exist_ok=True)
    monkeypatch.setattr(resources, "PACKAGE", package)
    return data


@pytest.mark.parametrize("name", ["smoke.yaml", "pretrain"])
def test_found(package, name):
    assert shipped("configs", name) == package / "configs" / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "none.yaml", "../secret.txt", "pretrain/../../secret.txt", "/etc/passwd"],
)
def test_not_shipped(package, name):
    assert shipped("configs", name) is None
    assert shipped("checkpoints", name) is None


def test_this_copy_ships_its_configurations():
    assert (resources.home("configs") / "pretrain").is_dir()
