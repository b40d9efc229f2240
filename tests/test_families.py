"""A family of models is one file and one line of a table: nothing else in the code names it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ditflow", "datamodules", "trainers")
TABLE = "ditflow/models/registry.py"
# words of a family, its file, and what is about that family alone: the embedded models are of our
# own making, and the demo offers them; a paper is cited by its title, help shows a recipe by its
# name, and the schedulers of a base class have that of the family that they were published with
FAMILIES = {
    "cogvideox": (
        r"(?i)cogvideox",
        "ditflow/models/families/cogvideox.py",
        (
            "trainers/pretraining/",
            "datamodules/pretraining",
            "ditflow/models/families/diffusion.py",
            "ditflow/citations.py",
            "trainers/commands/short_help.py",
        ),
    ),
    "wan": (
        r"\b(?:\w*_)?wan(?:_\w*)?\b|\bWAN\b|Wan(?![a-z])",
        "ditflow/models/families/wan.py",
        ("trainers/pretraining/", "trainers/commands/demo.py"),
    ),
}


def words_of(code: str) -> Iterator[str]:
    """Names and strings of a module; comments and docstrings may tell of anything."""
    tree = ast.parse(code)
    told = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in told:
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.alias(name=name) | ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.ImportFrom(module=str(name)) | ast.keyword(arg=str(name)):
                yield name


def naming(pattern: str) -> set[str]:
    """The modules whose code has the word."""
    return {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if any(re.search(pattern, word) for word in words_of(file.read_text("utf-8")))
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_only_its_own_file_and_the_table_name_a_family(family: str) -> None:
    pattern, file, others = FAMILIES[family]
    found = naming(pattern)
    assert {TABLE, file} <= found
    assert not [name for name in found - {TABLE, file} if not name.startswith(others)]


def test_words_in_prose_do_not_count() -> None:
    code = '"""Wan."""\n# Wan\ndef f(wan_a):\n    """Wan."""\n    return g("wan b", c=d.wan)\n'
    assert sorted(word for word in words_of(code) if "wan" in word.lower()) == [
        "wan",
        "wan b",
        "wan_a",
    ]
