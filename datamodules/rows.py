"""Rows of a CSV file with a header, or of a JSONL file with one object on each line.

A row that cannot be taken is refused with its line number, before any work starts.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ditflow.bank.kinds.metadata import FIELDS
from ditflow.bank.records import is_name
from ditflow.files import expanded

Row = dict[str, Any]


class ManifestError(ValueError):
    """A file of clips or prompts that cannot be taken as it is."""


def read_rows(path: Path, *, required: set[str], optional: set[str]) -> list[tuple[str, Row]]:
    """Each row with the place that errors name: the file and the line.

    Values of a CSV file are text, without spaces around it. An optional value that is empty (CSV)
    or null (JSONL) is left out of its row.
    """
    rows = _jsonl(path, required) if path.suffix.lower() == ".jsonl" else _csv(path, required)
    if not rows:
        raise ManifestError(
            f"{path} has no rows: it needs the columns {_list(required)}, and may have "
            f"{_list(optional)}."
        )
    for where, row in rows:
        if missing := required - row.keys():
            raise ManifestError(
                f"{where} has no column {_list(missing)}: it needs {_list(required)}, and may have "
                f"{_list(optional)}."
            )
        if unknown := row.keys() - required - optional:
            raise ManifestError(
                f"{where} has an unknown column {_list(unknown)}: known are "
                f"{_list(required | optional)}."
            )
    return rows


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without the mark that some editors put first."""
    if not path.is_file():
        raise ManifestError(f"there is no file {path}.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})."
        ) from error


def check_values(values: Mapping[str, Any], where: str) -> None:
    """Raise ManifestError for a value that the metadata of an entry would refuse after the work.

    None stands for a recommended value, and passes.
    """
    for key, value in values.items():
        try:
            FIELDS[key](value) if value is not None else None
        except ValueError as error:
            raise ManifestError(f"{where}: {key} {error}, not {value!r:.80}.") from None


def check_name(name: object, where: str) -> None:
    """Raise ManifestError for what cannot name an entry or a video."""
    if not is_name(name):
        raise ManifestError(
            f"{where}: the name {name!r} is not one of 1 to 128 letters, digits, '.', '_' and '-' "
            "that does not begin with a dot."
        )


def integer(row: Row, key: str, default: Any, where: str) -> Any:
    """A whole number of a row, or the default where the row has none."""
    value = row.get(key)
    if value is None or value == "":
        return default
    try:
        return int(str(value))
    except ValueError:
        raise ManifestError(
            f"{where}: {key} is {value!r}, but it must be a whole number."
        ) from None


def picture(row: Row, where: str, folder: Path) -> str:
    """The absolute path of a row's image, or "" where the row has none."""
    image = row.get("image", "")
    if not isinstance(image, str):
        raise ManifestError(f"{where}: image is {image!r:.80}, but it must name a file.")
    return str((folder / expanded(image)).absolute()) if image else ""


def rate(row: Row, where: str) -> float | None:
    """The frames a second of a row, or None where the row has none."""
    value = row.get("fps")
    if value is None or value == "":
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise ManifestError(
            f"{where}: fps is {value!r:.80}, but it must be a finite number above 0."
        )
    return number


def _csv(path: Path, required: set[str]) -> list[tuple[str, Row]]:
    reader = csv.DictReader(
        io.StringIO(read_text(path), newline=""),
        restkey="(more cells than the header)",
        restval="",
        strict=True,
    )
    try:
        rows = [(reader.line_num, row) for row in reader]
        _without_repeats([(name.strip(), None) for name in reader.fieldnames or ()])
    except csv.Error as error:
        raise ManifestError(
            f"{path} line {reader.line_num} is not CSV ({error}): put quotes around a text with a "
            "comma."
        ) from error
    except ValueError as error:
        raise ManifestError(f"{path} line 1: {error}.") from None
    return [(f"{path} line {line}", _stripped(row, required)) for line, row in rows]


def _stripped(row: Mapping[str | Any, Any], required: set[str]) -> Row:
    cells = {
        (key or "").strip(): value.strip() if isinstance(value, str) else value
        for key, value in row.items()
    }
    return {key: value for key, value in cells.items() if value != "" or key in required}


def _jsonl(path: Path, required: set[str]) -> list[tuple[str, Row]]:
    lines = enumerate(read_text(path).split("\n"), start=1)
    rows = [(f"{path} line {line}", text) for line, text in lines if text.strip()]
    return [(where, _object(text, required, where)) for where, text in rows]


def _object(text: str, required: set[str], where: str) -> Row:
    try:
        row = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"{where} is not JSON ({error}): write one object on each line."
        ) from error
    if not isinstance(row, dict):
        raise ManifestError(f'{where} is not an object: write {{"video": ..., "prompt": ...}}.')
    return {key: value for key, value in row.items() if value is not None or key in required}


def _without_repeats(pairs: list[tuple[str, Any]]) -> Row:
    counts = Counter(name for name, _ in pairs)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"it has the column {repeated[0]!r} more than once")
    return dict(pairs)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
