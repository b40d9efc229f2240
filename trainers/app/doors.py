"""The doors of the server: what the page itself asks for is let in, and nothing else.

Gradio has doors of its own: it serves only files that it was given, and takes only files that were
uploaded. It also fetches addresses that a visitor names, and has many interfaces for programs.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json")
FOLDERS = ("/assets/", "/static/")
API, FILE = "/gradio_api/", "/gradio_api/file="
CALLS = (
    "cancel",
    "queue/data",
    "queue/join",
    "reset",
    "startup-events",
    "upload",
    "upload_progress",
)
JOIN, LARGEST = "/gradio_api/queue/join", 1 << 20  # bytes of what an event says


class Doors:
    """An ASGI app before the `app`; `files` is the folder of uploads and of what is shown.

    Answers 404 to what the page has no use for, 403 to files from elsewhere, and 413 to more bytes
    than are taken.
    """

    def __init__(self, app: App, files: Path, most: int) -> None:
        self.app, self.files, self.most = app, files.resolve(), most

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None
        path = scope["path"]
        if not _is_known(path):
            return await _refuse(send, 404)
        if path.startswith(FILE) and not self._holds(path.removeprefix(FILE)):
            return await _refuse(send, 403)
        if _length(scope) > self.most:
            return await _refuse(send, 413)
        if path.rstrip("/") == JOIN:
            body = await _body(receive, LARGEST)
            if body is None:
                return await _refuse(send, 413)
            if not all(map(self._holds, _paths(body))):
                return await _refuse(send, 403)
            receive = _again(body, receive)
        return await self.app(scope, receive, send)

    def _holds(self, name: str) -> bool:
        """Whether a file is in the folder, by its absolute path."""
        return all(
            path.startswith("/") and Path(path).resolve().is_relative_to(self.files)
            for path in (name, unquote(name))
        )


def _is_known(path: str) -> bool:
    if path in PAGES or path.startswith((*FOLDERS, FILE, f"{API}heartbeat/")):
        return True
    return path.startswith(API) and path.removeprefix(API).rstrip("/") in CALLS


def _length(scope: Message) -> int:
    """Bytes that the body claims to have."""
    claimed = dict(scope["headers"]).get(b"content-length", b"0")
    return int(claimed) if claimed.isdigit() else 0


async def _body(receive: Receive, most: int) -> bytes | None:
    """All of the body, or None where it has more bytes than that."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then what comes after it."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given


def _paths(body: bytes) -> Iterator[str]:
    """What an event names as files: each value of the name "path" in its JSON."""
    try:
        values = [json.loads(body)]
    except ValueError:  # which Gradio refuses
        return
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values.extend(value.values())
            if (path := value.get("path")) is not None:
                yield path if isinstance(path, str) else ""
        elif isinstance(value, list):
            values.extend(value)


async def _refuse(send: Send, status: int) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
