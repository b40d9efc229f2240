"""A stand-in of the Hugging Face Hub on loopback: the routes that a bank there needs.

It keeps repositories as lists of commits in memory. `*.safetensors` go the way of large files, by
Git LFS, as the hub's own .gitattributes say; everything else comes inside of the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask, Response, request
from werkzeug.serving import make_server

TOKEN = "hf_reader_and_writer"
DATASET = "/api/datasets/<user>/<name>"


@dataclass
class Repository:
    """Its commits, each a sha and files by path. A gated one shows everything but files' bytes."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, changes: dict[str, bytes]) -> str:
        files = {**(self.commits[-1][1] if self.commits else {}), **changes}
        known = repr((len(self.commits), sorted(files.items())))
        self.commits.append((hashlib.sha1(known.encode()).hexdigest(), files))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


@dataclass
class Hub:
    """Repositories by id, what was asked, and what is to fail: a status by a part of a path."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    def add(self, repo: str, files: dict[str, bytes], **options: Any) -> Repository:
        self.repositories[repo] = Repository(**options)
        self.repositories[repo].commit(files)
        return self.repositories[repo]

    def files(self, repo: str) -> dict[str, bytes]:
        return self.repositories[repo].commits[-1][1]


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()
    server = make_server("127.0.0.1", 0, _app(hub), threaded=True)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def reached(endpoint: str, home: Any, token: str = TOKEN) -> Iterator[None]:
    """huggingface_hub asks this endpoint, with this token, a home of its own, and no pauses."""
    from huggingface_hub import HfFileSystem, constants
    from huggingface_hub.utils import _http, close_session

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ENDPOINT": endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
        }.items():
            patch.setattr(constants, name, value)
        patch.setenv("HF_TOKEN", token)
        patch.setattr(_http.time, "sleep", lambda seconds: None)
        HfFileSystem.clear_instance_cache()
        close_session()
        try:
            yield
        finally:
            HfFileSystem.clear_instance_cache()
            close_session()


def _app(hub: Hub) -> Flask:
    app = Flask("hub")

    @app.before_request
    def _before() -> Response | None:
        hub.asked.append(f"{request.method} {request.path}")
        for part, status in hub.fails.items():
            if part in f"{request.method} {request.path}":
                return _refusal(status)
        if request.method in ("POST", "PUT") and not _known():
            return _refusal(401)
        return None

    @app.get(DATASET)
    @app.get(f"{DATASET}/revision/<path:revision>")
    def _info(user: str, name: str, revision: str = "main") -> Any:
        found = _seen(hub, f"{user}/{name}", revision)
        if isinstance(found, Response):
            return found
        repository, (sha, _) = found
        return {"id": f"{user}/{name}", "sha": sha, "private": repository.private}

    @app.get(f"{DATASET}/tree/<revision>")
    @app.get(f"{DATASET}/tree/<revision>/<path:under>")
    def _tree(user: str, name: str, revision: str, under: str = "") -> Any:
        found = _seen(hub, f"{user}/{name}", revision)
        if isinstance(found, Response):
            return found
        recursive = request.args.get("recursive", "").lower() == "true"
        rows = list(_rows(found[1][1], under.rstrip("/"), recursive))
        return rows if rows or not under else _refusal(404, "EntryNotFound")

    @app.get("/datasets/<user>/<name>/resolve/<revision>/<path:path>")
    def _resolve(user: str, name: str, revision: str, path: str) -> Any:
        found = _seen(hub, f"{user}/{name}", revision)
        if isinstance(found, Response):
            return found
        repository, (sha, files) = found
        if repository.gated:
            return _refusal(403, "GatedRepo")
        if path not in files:
            return _refusal(404, "EntryNotFound")
        answer = Response(files[path], headers={"X-Repo-Commit": sha}, mimetype="x/y")
        answer.set_etag(_sums(files[path])[1 if _is_large(path) else 0])
        return answer.make_conditional(
            request, accept_ranges=True, complete_length=len(files[path])
        )

    @app.post("/api/repos/create")
    def _create() -> Any:
        asked = request.json
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in hub.repositories:
            return _refusal(409)
        hub.add(repo, {".gitattributes": b""}, private=asked.get("visibility") == "private")
        return {"url": f"{hub.url}/datasets/{repo}"}

    @app.post("/api/validate-yaml")
    def _validate() -> Any:
        if "license: unheard-of" in request.json["content"]:
            return {"errors": [{"message": '"license" must be one of the list'}]}, 400
        return {"warnings": [], "errors": []}

    @app.post(f"{DATASET}/preupload/<revision>")
    def _preupload(user: str, name: str, revision: str) -> Any:
        files, asked = hub.files(f"{user}/{name}"), [row["path"] for row in request.json["files"]]
        modes = {path: "lfs" if _is_large(path) else "regular" for path in asked}
        rows = [
            {
                "path": path,
                "uploadMode": modes[path],
                "shouldIgnore": False,
                "oid": _sums(files[path])[_is_large(path)] if path in files else None,
            }
            for path in asked
        ]
        return {"files": rows}

    @app.post("/datasets/<user>/<name>.git/info/lfs/objects/batch")
    def _batch(user: str, name: str) -> Any:
        upload = {row["oid"]: {"href": f"{hub.url}/upload/{row['oid']}"} for row in _objects()}
        return {
            "transfer": "basic",
            "objects": [{**row, "actions": {"upload": upload[row["oid"]]}} for row in _objects()],
        }

    @app.put("/upload/<oid>")
    def _upload(oid: str) -> Any:
        hub.large[oid] = request.get_data()
        return {}

    @app.post(f"{DATASET}/commit/<revision>")
    def _commit(user: str, name: str, revision: str) -> Any:
        repository = hub.repositories[f"{user}/{name}"]
        head, *lines = (json.loads(line) for line in request.get_data().splitlines())
        if head["value"].get("parentCommit") not in (None, repository.commits[-1][0]):
            return _refusal(412)
        changes = {}
        for line in lines:
            value = line["value"]
            changes[value["path"]] = (
                hub.large[value["oid"]]
                if line["key"] == "lfsFile"
                else base64.b64decode(value["content"])
            )
        sha = repository.commit(changes)
        address = f"{hub.url}/datasets/{user}/{name}/commit/{sha}"
        return {"commitUrl": address, "commitOid": sha}

    return app


def _objects() -> list[dict[str, Any]]:
    return json.loads(request.get_data())["objects"]


def _known() -> bool:
    """Uploads go to a signed address, without a token."""
    signed = request.path.startswith("/upload/")
    return signed or request.headers.get("Authorization") == f"Bearer {TOKEN}"


def _seen(
    hub: Hub, repo: str, revision: str
) -> Response | tuple[Repository, tuple[str, dict[str, bytes]]]:
    repository = hub.repositories.get(repo)
    if repository is None or (repository.private and not _known()):
        return _refusal(404 if _known() else 401, "RepoNotFound")
    commit = repository.at(revision)
    return _refusal(404, "RevisionNotFound") if commit is None else (repository, commit)


def _rows(files: dict[str, bytes], under: str, recursive: bool) -> Iterator[dict[str, Any]]:
    folders = set()
    start = f"{under}/" if under else ""
    for path, data in files.items():
        folder, deeper, _ = path.removeprefix(start).partition("/")
        if not path.startswith(start):
            continue
        if deeper and folder not in folders:
            folders.add(folder)
            yield {"type": "directory", "path": start + folder, "oid": "0" * 40, "size": 0}
        if not deeper or recursive:
            git, sha256 = _sums(data)
            row = {"type": "file", "path": path, "oid": git, "size": len(data)}
            large = {"oid": sha256, "size": len(data), "pointerSize": 130}
            yield {**row, "lfs": large} if _is_large(path) else row


def _is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def _sums(data: bytes) -> tuple[str, str]:
    """What git and what LFS call a file by."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), hashlib.sha256(
        data
    ).hexdigest()


def _refusal(status: int, code: str = "") -> Response:
    return Response("{}", status, {"X-Error-Code": code} if code else {}, mimetype="text/json")
