"""The app as a process, spoken to by HTTP: what it refuses, what it survives, and who waits."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from ditflow.video import write_video
from tests.pages import blocks
from tests.served import Served, Visitor, clip_at, served, started, wish
from tests.trainers.commands.test_motion import panning
from trainers.app.doors import UPLOAD, UPLOADS, Doors

STEPS = 60


@pytest.fixture(scope="module")
def app() -> Iterator[Served]:
    with served("--steps", str(STEPS), "--max-megabytes", "1", "--max-seconds", "5") as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    file = tmp_path_factory.mktemp("clips") / "pan.mp4"
    write_video(file, panning(9), 8)
    return file.read_bytes()


@pytest.fixture
def visitor(app, request) -> Visitor:
    return Visitor(app.url, f"visit{abs(hash(request.node.name))}")


def said(output: list) -> str:
    return str(output[0])


def test_a_clip_is_looked_at_and_a_video_is_made(visitor, clip):
    place = visitor.upload("pan.mp4", clip)
    assert "pans left" in said(visitor.look(place)).lower()
    output = visitor.done("make", wish())
    assert "Made with strength 1 and seed 0." in said(output)
    file = requests.get(output[1]["url"], timeout=30)
    assert file.status_code == 200 and file.content[4:8] == b"ftyp"


@pytest.mark.parametrize(
    "place",
    [
        "/etc/passwd",
        "etc/passwd",
        "../../../etc/passwd",
        "http://127.0.0.1:9/clip.mp4",
        "https://example.org/clip.mp4",
        "file:///etc/passwd",
        "data:video/mp4;base64,AAAA",
        "",
    ],
)
def test_no_path_and_no_address_of_a_visitor_is_read(visitor, place):
    assert visitor.join("look", [clip_at(place)]).status_code == 403
    editor = {"background": clip_at(place), "layers": [], "composite": None}
    made = wish()
    made[2] = editor
    assert visitor.join("make", made).status_code == 403


def test_paths_that_only_begin_well_are_refused(visitor, clip):
    place = visitor.upload("pan.mp4", clip)
    assert (
        visitor.join("look", [clip_at(f"{place}/../../../../../../etc/passwd")]).status_code == 403
    )
    for path in (f"{place}/../../../../../../etc/passwd", "/etc/passwd", "/etc%2Fpasswd"):
        answer = requests.get(f"{visitor.api}/file={path}", timeout=30)
        assert answer.status_code in (403, 404) and b"root:" not in answer.content
    address = f"{visitor.api}/file=http://127.0.0.1:9/x"
    assert requests.get(address, timeout=30).status_code == 403


def test_files_of_a_visit_are_served_to_nobody(app, visitor, clip):
    visitor.look(visitor.upload("pan.mp4", clip))
    visitor.done("keep", ["kept"])
    (entry,) = app.folder.glob("ditflow-app-*/visits/*/bank/entries/kept.safetensors")
    assert requests.get(f"{visitor.api}/file={entry}", timeout=30).status_code == 403
    assert visitor.join("look", [clip_at(str(entry))]).status_code == 403


@pytest.mark.parametrize(
    "place",
    [
        "gradio_api/info",
        "gradio_api/openapi.json",
        "gradio_api/proxy=http://127.0.0.1:9/",
        "gradio_api/deep_link",
        "gradio_api/vibe-code",
        "gradio_api/runs",
        "gradio_api/component_server",
        "monitoring",
        "docs",
        "openapi.json",
        "login",
    ],
)
def test_nothing_is_served_that_the_page_does_not_ask_for(app, place):
    assert requests.get(f"{app.url}/{place}", timeout=30).status_code == 404


@pytest.mark.parametrize("place", ["call/make", "call/v2/make", "run/make", "api/make"])
def test_there_is_no_interface_for_programs(app, place):
    answer = requests.post(f"{app.url}/gradio_api/{place}", json={"data": []}, timeout=30)
    assert answer.status_code == 404


def test_another_site_cannot_speak_to_it_by_a_name_of_its_own(app):
    answer = requests.get(app.url, headers={"Host": "evil.example"}, timeout=30)
    assert answer.status_code == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_another_site_can_neither_send_nor_ask(visitor, clip, origin):
    headers, files = {"Origin": origin}, {"files": ("pan.mp4", clip)}
    answer = requests.post(f"{visitor.api}/upload", files=files, headers=headers, timeout=30)
    assert answer.status_code == 403
    answer = requests.post(f"{visitor.api}/queue/join", b"{}", headers=headers, timeout=30)
    assert answer.status_code == 403
    own = {"Origin": visitor.url}
    answer = requests.post(f"{visitor.api}/upload", files=files, headers=own, timeout=30)
    assert answer.status_code == 200


def test_there_is_room_for_so_many_uploads(tmp_path):
    """Of a folder that is full, the server says so before it takes anything."""
    sent = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    doors = Doors(None, tmp_path, 100)  # type: ignore[arg-type]
    (tmp_path / "a.mp4").write_bytes(bytes(100 * UPLOADS + 1))
    scope = {"type": "http", "path": UPLOAD, "headers": [(b"content-length", b"5")]}
    asyncio.run(doors(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 507


def test_an_event_names_few_files_and_is_not_nested(visitor, clip):
    place = clip_at(visitor.upload("pan.mp4", clip))
    region = {"background": None, "layers": [place] * 6, "composite": None}
    data = ["a cat", 1, region, True, 0, None, False]
    assert visitor.join("make", data).status_code == 413
    nested = b"[" * 200_000
    assert requests.post(f"{visitor.api}/queue/join", nested, timeout=30).status_code == 403


def test_what_no_page_sends_is_one_sentence(visitor, clip):
    visitor.look(visitor.upload("pan.mp4", clip))
    asked = wish()
    assert "load the page anew" in said(visitor.done("make", [None, *asked[1:]]))
    assert "load the page anew" in visitor.done("keep", [None])[1]


@pytest.mark.parametrize("claimed", [True, False])
def test_a_file_that_is_too_large_is_refused(app, visitor, claimed):
    """Whether or not its size is said before."""
    parts = (b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n',)
    body = parts[0] + bytes(1_200_000) + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    data = body if claimed else iter([body])
    answer = requests.post(f"{visitor.api}/upload", data=data, headers=headers, timeout=30)
    assert answer.status_code == 413
    assert not [file for file in app.folder.rglob("*.mp4") if file.stat().st_size > 1_000_000]


def test_an_event_that_says_too_much_is_refused(visitor):
    assert visitor.join("make", wish("x" * (1 << 21))).status_code == 413


def test_a_broken_clip_is_told_in_a_sentence_and_the_next_is_taken(app, visitor, clip):
    told = said(visitor.look(visitor.upload("broken.mp4", clip[:-900])))
    assert "broken.mp4 was cut off" in told and str(app.folder) not in told
    told = said(visitor.look(visitor.upload("page.mp4", b"<script>alert(1)</script>")))
    assert "page.mp4 is not a video" in told
    assert "pans left" in said(visitor.look(visitor.upload("pan.mp4", clip))).lower()


def test_a_clip_that_is_too_long_is_told_in_a_sentence(visitor, tmp_path):
    write_video(tmp_path / "long.mp4", panning(48), 8)
    told = said(visitor.look(visitor.upload("long.mp4", (tmp_path / "long.mp4").read_bytes())))
    assert "long.mp4 lasts 6.0 seconds, and at most 5 are taken" in told


def test_two_visitors_one_at_a_time_and_who_waits_is_told_the_place(app, clip):
    first, second = Visitor(app.url, "first"), Visitor(app.url, "second")
    for visitor in (first, second):
        visitor.look(visitor.upload("pan.mp4", clip))
    times: dict[str, list[tuple[str, float]]] = {"first": [], "second": []}
    places = []

    def follow(visitor: Visitor) -> None:
        for message in visitor.messages():
            times[visitor.key].append((message["msg"], time.monotonic()))
            if message["msg"] == "estimation" and visitor is second:
                places.append(message["rank"])

    threads = []
    for visitor in (first, second):
        assert visitor.join("make", wish(beside=visitor is first)).status_code == 200
        threads.append(threading.Thread(target=follow, args=(visitor,)))
        threads[-1].start()
    for thread in threads:
        thread.join(120)
    ended = dict(times["first"])["process_completed"]
    began = dict(times["second"])["process_starts"]
    assert began >= ended - 0.05, "messages are sent every 50 ms"
    assert places and places[0] == 0, "next in the queue"


def test_a_closed_page_ends_its_work_and_the_next_visitor_is_served(app, clip):
    gone, other = Visitor(app.url, "gone"), Visitor(app.url, "other")
    for visitor in (gone, other):
        visitor.look(visitor.upload("pan.mp4", clip))
    open_page = requests.get(f"{gone.api}/heartbeat/gone", stream=True, timeout=30)
    assert gone.join("make", wish(beside=True)).status_code == 200
    messages = gone.messages()
    for message in messages:
        if message["msg"] == "progress" and message["progress_data"][0]["index"] >= 3:
            break
    messages.close()
    open_page.close()
    asked = time.monotonic()
    assert other.join("make", wish()).status_code == 200
    steps = [
        (time.monotonic(), message["progress_data"][0]["index"])
        for message in other.messages()
        if message["msg"] == "progress" and message["progress_data"]
    ]
    rates = [(b - a) / (n - m) for (a, m), (b, n) in pairwise(steps) if n > m]
    a_step = sum(rates) / len(rates)
    waited = steps[0][0] - asked - steps[0][1] * a_step
    assert waited < STEPS * a_step, "less than half of what the other had before him"
    folders = [*app.folder.glob("ditflow-app-*/visits/*/videos")]
    made = {Path(file).parent.parent.parent for folder in folders for file in folder.rglob("*.mp4")}
    assert made and len(folders) == len(made), "nothing is left of what was stopped"


def test_a_port_that_is_taken_is_one_sentence_before_the_model_is_loaded(app):
    words = ["app", "--backbone", "nothing", "--port", app.url.rpartition(":")[2]]
    done = subprocess.run(
        [sys.executable, "-m", "trainers.cli", *words], capture_output=True, text=True, timeout=90
    )
    said = done.stderr.splitlines()
    assert done.returncode == 2 and len(said) == 1 and "Name another by" in said[0], done.stderr


def test_it_ends_when_told_and_leaves_nothing_behind(app, clip):
    """In the midst of work. Nothing that was done to it before has made a traceback."""
    visitor = Visitor(app.url, "last")
    visitor.look(visitor.upload("pan.mp4", clip))
    assert visitor.join("make", wish(beside=True)).status_code == 200
    next(message for message in visitor.messages() if message["msg"] == "progress")
    assert app.end() == 0
    assert [path.name for path in app.folder.iterdir()] == ["log"]
    assert "Traceback" not in (app.folder / "log").read_text(encoding="utf-8")


def test_the_file_of_a_space_runs_as_the_docs_show_it(tmp_path):
    """With what Spaces set in the environment. There is no Hugging Face here."""
    (script,) = [text for text in blocks("docs/app.md", "text") if "import main" in text]
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = str(door.getsockname()[1])
    (tmp_path / "app.py").write_text(script.replace("7860", port))
    space = {"SPACE_ID": "user/space", "SYSTEM": "spaces", "GRADIO_SERVER_NAME": "0.0.0.0"}
    with started([sys.executable, str(tmp_path / "app.py")], space) as running:
        page = requests.get(f"http://127.0.0.1:{port}", timeout=30)
        assert page.status_code == 200 and "Give the motion of a clip" in page.text
        assert running.end() == 0
