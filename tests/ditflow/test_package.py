from __future__ import annotations

import subprocess
import sys

import pytest

import ditflow


@pytest.mark.parametrize("name", ditflow.__all__)
def test_everything_public_is_there(name: str) -> None:
    assert getattr(ditflow, name) is not None and name in dir(ditflow)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="'ditflow' has no attribute 'transfer_emotion'"):
        _ = ditflow.transfer_emotion


def test_importing_imports_nothing_heavy() -> None:
    code = (
        "import sys, ditflow; ditflow.__version__, ditflow.cite(); "
        "heavy = ('torch', 'diffusers', 'numpy', 'lightning'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_cite() -> None:
    assert "2412.07776" in ditflow.cite() and "2408.06072" in ditflow.cite()
    assert ditflow.cite("cogvideox").count("@") == 1
    with pytest.raises(ValueError, match="no citation for 'gpt'; there are ditflow, cogvideox"):
        ditflow.cite("gpt")
