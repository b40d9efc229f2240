"""Optional packages: the extra that installs each, and the sentence for a missing one."""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS = {
    "app": ("gradio",),
    "lora": ("peft",),
    "quantised": ("torchao",),
    "report": ("jinja2", "markupsafe", "matplotlib"),
    "s3": ("s3fs",),
    "tensorboard": ("tensorboard",),
}
"""Packages by extra, as setup.cfg lists them."""


def need(*packages: str) -> None:
    """Raise ModuleNotFoundError for the first of the packages that is not installed."""
    for name in packages:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def missing(error: ModuleNotFoundError) -> str:
    """One sentence for a missing package, with the command that installs it."""
    name = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if name in packages:
            return f"{name} is not installed, and this needs it: pip install 'ditflow[{extra}]'."
    return str(error)
