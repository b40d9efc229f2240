"""The notebook of docs/, run in place, and README's picture from it: `make notebook`.

A fresh kernel runs it in an empty folder, offline. What is stored are sources and outputs, and
nothing of the machine: no times, no paths.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK, PICTURE = ROOT / "docs/first_motion.ipynb", ROOT / "docs/figures/first-motion.jpg"
PICTURED, FORMAT = "readme", "image/jpeg"  # the tag of a cell whose output README shows
SECONDS = 900  # of one cell, on a machine that is busy


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with outputs of a fresh kernel. Raises CellExecutionError where a cell fails."""
    offline = {
        "HF_HUB_OFFLINE": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "COLUMNS": "100",
    }
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": folder}})
        client.execute(env={**os.environ, **offline, "IPYTHONDIR": f"{folder}/.ipython"})
        return cleaned(notebook, folder)


def cleaned(notebook: NotebookNode, folder: str) -> NotebookNode:
    """The same without what another run would store otherwise; streams of a cell are joined."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            told = [output for output in cell.outputs if output.get("name") == "stdout"]
            text = "".join(output.text for output in told).replace(folder, ".")
            kept = [output for output in cell.outputs if output.output_type != "stream"]
            for output in kept:
                output.pop("execution_count", None)
                output.metadata = {}
                output.data.pop("text/plain", None)
            stream = nbformat.v4.new_output("stream", name="stdout", text=plain(text))
            cell.outputs = [*([stream] if text.strip() else []), *kept]
    return notebook


def plain(text: str) -> str:
    """Text as a terminal leaves it: without colours, and without lines that were overwritten."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
    return "\n".join(line.rpartition("\r")[2].rstrip() for line in text.split("\n"))


def picture_of(notebook: NotebookNode) -> bytes:
    """The output that README shows."""
    (cell,) = [cell for cell in notebook.cells if PICTURED in cell.metadata.get("tags", ())]
    (data,) = [output.data[FORMAT] for output in cell.outputs if FORMAT in output.get("data", {})]
    return base64.b64decode(data)


def main() -> None:
    notebook = executed(nbformat.read(NOTEBOOK, as_version=4))
    nbformat.write(notebook, NOTEBOOK)
    PICTURE.write_bytes(picture_of(notebook))
    print(NOTEBOOK.relative_to(ROOT), PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
