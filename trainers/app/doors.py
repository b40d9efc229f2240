"""The doors of the server: what the page itself asks for is let in, and nothing else.

Gradio has doors of its own: it serves only files that it was given, and takes only files that were
uploaded. It also fetches addresses that a visitor names, and has many interfaces for programs.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from trainers.app.place import LOCAL

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
NAMED = 5  # files that an event names: a picture, and three of a region
UPLOAD, UPLOADS = "/gradio_api/upload", 20  # largest files for which there is room at a time


class Doors:
    """An ASGI app before the `app`; `files` is the folder of uploads and of what is shown. With
    `local` it is served on this machine alone.

    Answers 404 to what the page has no use for, 403 to files from elsewhere and, where `local`, to
    what another site sends, 413 to more bytes or files than are taken, and 507 where the folder is
    full.
    """

    def __init__(self, app: App, files: Path, most: int, *, local: bool = False) -> None:
        self.app, self.files, self.most, self.local = app, files.resolve(), most, local

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
        if self.local and not _is_own(_header(scope, b"origin")):
            return await _refuse(send, 403)
        if _length(scope) > self.most:
            return await _refuse(send, 413)
        if path.rstrip("/") == UPLOAD and self._held() > UPLOADS * self.most:
            return await _refuse(send, 507)
        if path.rstrip("/") == JOIN:
            body = await _body(receive, LARGEST)
            if body is None:
                return await _refuse(send, 413)
            named = list(_paths(body))
            if not all(map(self._holds, named)):
                return await _refuse(send, 403)
            if len(named) > NAMED:
                return await _refuse(send, 413)
            receive = _again(body, receive)
        return await self.app(scope, receive, send)

    def _held(self) -> int:
        """Bytes of all files in the folder."""
        return sum(file.stat().st_size for file in self.files.rglob("*") if file.is_file())

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
    claimed = _header(scope, b"content-length")
    return int(claimed) if claimed.isdigit() else 0


def _header(scope: Message, name: bytes) -> str:
    return str(dict(scope["headers"]).get(name, b""), "latin-1")


def _is_own(origin: str) -> bool:
    """Whether a page of this machine asks, or no page at all."""
    return not origin or urlsplit(origin).hostname in LOCAL


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
    except RecursionError:  # nested deeper than any event is
        yield ""
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
