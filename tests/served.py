"""The app as a process, and a visitor who speaks to it by HTTP as its page does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.registry import tiny_folder

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Served:
    """A running app: its address, its process, and the folder in which its own folder lies."""

    url: str
    process: subprocess.Popen[str]
    folder: Path

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def served(*options: str) -> Iterator[Served]:
    """An app on a tiny random model, at a free port."""
    words = ["app", "--backbone", str(tiny_folder("rotary")), *options]
    with started([sys.executable, "-m", "trainers.cli", *words]) as running:
        yield running


@contextmanager
def started(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """A process that serves the app. It has come so far that it says where."""
    with tempfile.TemporaryDirectory() as folder:
        told = os.environ | {"TMPDIR": folder, "PYTHONPATH": str(ROOT)} | dict(environment or {})
        with open(Path(folder) / "log", "w+", encoding="utf-8") as log:
            process = subprocess.Popen(
                words, cwd=ROOT, env=told, stdout=subprocess.PIPE, stderr=log, text=True
            )
            try:
                lines = (re.search(r"http://[\w.]+:\d+", line) for line in process.stdout or ())
                found = next(filter(None, lines), None)
                assert found, Path(log.name).read_text(encoding="utf-8")
                yield Served(found[0], process, Path(folder))
            finally:
                process.terminate()
                process.wait(30)


@dataclass
class Visitor:
    """A page without a browser. `key` is that of its visit."""

    url: str
    key: str

    @property
    def api(self) -> str:
        return f"{self.url}/gradio_api"

    def functions(self) -> dict[str, int]:
        """The numbers of the page's functions, by their names."""
        config = requests.get(f"{self.url}/config", timeout=30).json()
        return {one["api_name"]: one["id"] for one in config["dependencies"] if one["api_name"]}

    def upload(self, name: str, content: bytes) -> str:
        """Send a file, and return its place on the server."""
        files = {"files": (name, content)}
        sent = requests.post(f"{self.api}/upload", files=files, timeout=60)
        sent.raise_for_status()
        place: str = sent.json()[0]
        return place

    def join(self, function: str, data: list[Any]) -> requests.Response:
        """Ask for a piece of work."""
        body = {"data": data, "fn_index": self.functions()[function], "session_hash": self.key}
        return requests.post(f"{self.api}/queue/join", json=body | {"trigger_id": 1}, timeout=60)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server says of the work, until it is done."""
        asked = {"session_hash": self.key}
        with requests.get(f"{self.api}/queue/data", asked, stream=True, timeout=120) as stream:
            for line in stream.iter_lines(chunk_size=1):
                if line.startswith(b"data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] in ("process_completed", "close_stream"):
                        return

    def done(self, function: str, data: list[Any]) -> list[Any]:
        """What comes of a piece of work."""
        answer = self.join(function, data)
        assert answer.status_code == 200, answer.text
        *_, last = self.messages()
        assert last["success"], last
        result: list[Any] = last["output"]["data"]
        return result

    def look(self, path: str) -> list[Any]:
        """Send the place of a clip as the page does."""
        return self.done("look", [clip_at(path)])


def clip_at(path: str) -> dict[str, Any]:
    """A file as Gradio's pages name one."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "clip.mp4"}


def wish(prompt: str = "a cat", *, beside: bool = False) -> list[Any]:
    """What the page asks of `make`."""
    return [prompt, 1, None, True, 0, None, beside]
