"""What strangers write, at random: entries, records, indexes, leases, failures, manifests, and what
videos say of themselves.

What comes of it is an error in our words or a sound value: no crash, no hang, no partial write.
Some hundred inputs in the tests, the same ones each time; `make fuzz` runs ten thousand new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.manifest import read_manifest
from datamodules.prompts import read_prompts
from datamodules.rows import ManifestError
from ditflow.bank import BankError, EntryError, FieldEntry, MotionBank
from ditflow.bank.file_format import Header, Slot, pack, read_header, write_header
from ditflow.bank.kinds import KINDS
from ditflow.bank.kinds.entry import KIND
from ditflow.bank.kinds.field_entry import FIELDS as FIELD_FIELDS
from ditflow.bank.kinds.metadata import FIELDS
from ditflow.bank.leases import Leases
from ditflow.bank.records import is_name
from ditflow.bank.search.descriptor import LENGTH, VERSION
from ditflow.bank.search.rows import FILE as SEARCH
from ditflow.bank.search.rows import KIND as SEARCH_KIND
from ditflow.bank.upkeep import find_garbage
from ditflow.bank.validation import canonical_json
from ditflow.video import VideoError, encode_video
from ditflow.video_provenance import FIELDS as VIDEO_FIELDS
from ditflow.video_provenance import VideoProvenance, read_provenance
from tests.ditflow.bank.entries import (
    make_entry,
    make_field_entry,
    make_field_metadata,
    make_metadata,
)
from tests.ditflow.test_video_provenance import FRAMES, MADE

INPUTS, TARGETS, SECONDS = int(os.environ.get("DITFLOW_FUZZ", "500")), 8, 60
ENTRIES = (make_entry(1), make_field_entry(1))
# a body that every kind of entry can have, and where its tensors then lie
BODY = bytes(1728)
METADATA = {
    KIND: make_metadata().as_dict(),
    FieldEntry.KIND: make_field_metadata(times=(0.0, 2.0, 4.0)).as_dict(),
}
PLACES = {
    KIND: {"parameters": Slot("F32", (3, 2, 24, 3), 0, 1728)},
    FieldEntry.KIND: {
        "confidence": Slot("F16", (3, 6, 16), 0, 576),
        "displacement": Slot("F16", (3, 2, 6, 16), 576, 1728),
    },
}

fuzzed = settings(
    max_examples=-(-INPUTS // TARGETS),
    derandomize="DITFLOW_FUZZ" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
edits = st.lists(st.tuples(st.integers(0, 1 << 14), st.binary(max_size=12)), max_size=5)
slots = st.tuples(
    st.sampled_from(["F32", "F16", "U8", "C64", ""]),
    st.lists(st.integers(-2, 1 << 34) | st.sampled_from([0, 1, 2, 3, 24]), max_size=9),
    st.integers(-1, 1 << 34) | st.just(0),
    st.integers(-1, 1 << 34) | st.just(1728),
)


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    def late(*_):
        raise TimeoutError(f"one input took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def edited(data: bytes, changes: list[tuple[int, bytes]], length: int) -> bytes:
    changed = bytearray(data)
    for place, new in changes:
        place %= max(len(changed), 1)
        changed[place : place + len(new)] = new
    return bytes(changed[: length or None])


def whole(folder: Path) -> bool:
    return not list(folder.rglob("*.tmp"))


def look_at_all(folder: Path) -> None:
    """Whatever lies in a bank: everything that only looks says what is wrong and goes on, and what
    reads raises in our words.
    """
    bank = MotionBank(folder)
    assert all(isinstance(problem, str) and problem for problem in bank.verify())
    assert [row.name for row in bank.index()] == list(bank)
    assert (
        bank.failures() is not None
        and bank.requests.names() is not None
        and Leases(bank, "me").holders() is not None
        and find_garbage(bank) is not None
    )
    with contextlib.suppress(BankError):  # where no entry keeps a motion
        bank.search(words="pan left, zoom in, one thing moves up")
    for name in bank:
        with contextlib.suppress(EntryError):
            assert bank[name].content_hash == bank.content_hash(name)
    for key in bank.inflight():
        with contextlib.suppress(EntryError):
            bank.load_inflight(key)


def copy_all(folder: Path, target: Path) -> None:
    """What is copied out of such a bank is sound, and what is not sound leaves nothing behind."""
    source, copy = MotionBank(folder), MotionBank(target, create=True)
    for name in source:
        with contextlib.suppress(BankError):
            source.copy_to(name, copy)
    assert copy.verify() == [] and whole(target)


@fuzzed
@given(entry=st.sampled_from(ENTRIES), changes=edits, length=st.integers(0, 8192))
def test_damaged_entries(tmp_path_factory, entry, changes, length):
    sound = entry.to_bytes("kite")
    data = edited(sound, changes, length)
    with no_hang():
        try:  # only what is not damaged passes
            assert type(entry).from_bytes(data).content_hash == entry.content_hash
        except EntryError:
            assert data != sound
        folder = tmp_path_factory.mktemp("bank")
        (folder / "entries").mkdir()
        (folder / "entries" / "kite.safetensors").write_bytes(data)
        look_at_all(folder)
        copy_all(folder, folder / "copy")


@fuzzed
@given(
    changes=st.dictionaries(
        st.sampled_from(sorted(FIELDS | FIELD_FIELDS)) | st.text(max_size=9),
        json_values,
        max_size=3,
    ),
    table=st.dictionaries(
        st.sampled_from(["parameters", "reference_latents", "confidence", "x"]), slots, max_size=2
    ),
    kind=st.sampled_from([*KINDS, *KINDS, "ditflow in-flight record", ""]),
    name=st.sampled_from(["kite", "kite", "../kite", ""]),
)
def test_forged_entries(tmp_path_factory, changes, table, kind, name):
    """Everything fits together, sums included: only the claims are false."""
    places = {
        key: Slot(dtype, tuple(shape), start, stop)
        for key, (dtype, shape, start, stop) in table.items()
    }
    places = places or PLACES.get(kind, PLACES[KIND])
    metadata = METADATA.get(kind, METADATA[KIND]) | changes
    try:
        data = (
            write_header(
                Header(
                    "",
                    kind,
                    name,
                    metadata,
                    places,
                    hashlib.sha256(BODY).hexdigest(),
                )
            )
            + BODY
        )
    except ValueError:  # numbers that no JSON has
        return
    with no_hang():
        folder = tmp_path_factory.mktemp("bank")
        for under in ("entries", "inflight"):
            (folder / under).mkdir()
            (folder / under / "kite.safetensors").write_bytes(data)
        look_at_all(folder)
        copy_all(folder, folder / "copy")


@fuzzed
@given(
    header=st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()),
    length=st.none() | st.integers(0, (1 << 64) - 1),
)
def test_headers_of_anything(header, length):
    import io

    data = (len(header) if length is None else length).to_bytes(8, "little") + header
    with no_hang(), pytest.raises(EntryError, match="entry 'kite'"):
        read_header(io.BytesIO(data), len(data), "entry 'kite'")


@fuzzed
@given(
    lines=st.lists(json_values.map(json.dumps) | st.text(max_size=40), max_size=6),
    changes=edits,
    rubbish=st.booleans(),
)
def test_index_files(tmp_path_factory, lines, changes, rubbish):
    folder = tmp_path_factory.mktemp("bank")
    bank = MotionBank(folder, create=True)
    for number, name in enumerate(["boat", "kite"]):
        bank[name] = make_entry(number)
    bank.reindex()
    rows, good = list(bank.index()), (folder / "index.jsonl").read_bytes()
    text = "\n".join(['{"schema":2}' if rubbish else "", *lines]).encode(errors="replace")
    with no_hang():
        (folder / "index.jsonl").write_bytes(text if rubbish else edited(good, changes, 0))
        found = list(bank.index())
        assert [row.name for row in found] == ["boat", "kite"] and [row.size for row in found] == [
            row.size for row in rows
        ]
        assert bank.reindex() == 2 and whole(folder) and bank.verify() == []
        if rubbish:  # nothing of it can be a row: the entries were asked
            assert found == rows and (folder / "index.jsonl").read_bytes() == good


@fuzzed
@given(changes=edits, length=st.integers(0, 8192), told=json_values, forged=st.booleans())
def test_search_indexes(tmp_path_factory, changes, length, told, forged):
    """Whatever the file says, the entries are found as they are."""
    folder = tmp_path_factory.mktemp("bank")
    bank = MotionBank(folder, create=True)
    bank["kite"] = make_field_entry()
    wanted, good = bank.search(words="pan left"), (folder / SEARCH).read_bytes()
    data = edited(good, changes, length)
    if forged:  # the sums are right
        with contextlib.suppress(ValueError):
            text = torch.frombuffer(bytearray(canonical_json(told).encode()), dtype=torch.uint8)
            tensors = {"columns": text, "vectors": torch.zeros(1, LENGTH).half()}
            data = b"".join(pack(SEARCH_KIND, "search", {"version": VERSION}, tensors))
    with no_hang():
        (folder / SEARCH).write_bytes(data)
        assert bank.search(words="pan left") == wanted
        assert (folder / SEARCH).read_bytes() == good and whole(folder)


@fuzzed
@given(
    texts=st.lists(
        st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()),
        min_size=4,
        max_size=4,
    ),
    name=st.sampled_from(["kite.0", "kite.1", "kite", "kite.x", "..0", "kite.99999999999"]),
)
def test_notes_of_a_bank(tmp_path_factory, texts, name):
    """Leases, failures and what was asked for."""
    folder = tmp_path_factory.mktemp("bank")
    for path, content in zip(
        [
            "failed/kite.json",
            f"leases/{name}",
            "asked/0123456789abcdef.json",
            "inflight/kite.safetensors",
        ],
        texts,
        strict=True,
    ):
        (folder / path).parent.mkdir()
        (folder / path).write_bytes(content)
    with no_hang():
        look_at_all(folder)
        bank = MotionBank(folder)
        bank.mark_failed("kite", "again")
        assert bank.failures()["kite"].reason == "again"
        leases = Leases(bank, "me", expiry=0.0)
        assert leases.acquire("kite") and leases.holders()["kite"] == "me"
        leases.release("kite")
        assert whole(folder)


cells = st.text(max_size=12) | st.sampled_from(
    [
        "video",
        "prompt",
        "name",
        "a.mp4",
        "",
        '"',
        "seed",
        "start",
        "-1",
        "../x",
        "1e9",
        "\x00",
        "pan;left",
    ]
)
tables = st.lists(st.lists(cells, max_size=6), max_size=5).map(
    lambda rows: "\n".join(",".join(row) for row in [["video", "prompt"], *rows])
)
objects = st.lists(
    st.dictionaries(
        st.sampled_from(
            [
                "video",
                "prompt",
                "name",
                "negative_prompt",
                "start",
                "stride",
                "seed",
                "tags",
                "entry",
                "colour",
            ]
        ),
        json_values | cells,
        max_size=6,
    ),
    max_size=4,
).map(lambda rows: "\n".join(map(json.dumps, rows)))


@fuzzed
@given(
    text=tables | objects | st.text(max_size=200),
    suffix=st.sampled_from([".csv", ".jsonl", ".txt"]),
    raw=st.none() | st.binary(max_size=60),
)
def test_manifests(tmp_path_factory, text, suffix, raw):
    file = tmp_path_factory.mktemp("clips") / f"clips{suffix}"
    file.write_bytes(text.encode(errors="surrogatepass") if raw is None else raw)
    with no_hang():
        with contextlib.suppress(ManifestError):
            tasks = read_manifest(file)
            assert tasks and len({task.name for task in tasks}) == len(tasks)
            for task in tasks:
                assert (
                    is_name(task.name)
                    and os.path.isabs(task.video)
                    and task.stride >= 1
                    and task.start >= 0
                )
                make_metadata(
                    prompt=task.prompt,
                    start=task.start,
                    stride=task.stride,
                    seed=task.seed,
                    tags=task.tags,
                )
        with contextlib.suppress(ManifestError):
            assert read_prompts(file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@fuzzed
@given(
    changes=st.dictionaries(
        st.sampled_from(sorted(VIDEO_FIELDS)) | st.just("ditflow") | st.text(max_size=9),
        json_values,
        max_size=3,
    ),
    text=st.none() | st.text(max_size=80) | json_values.map(json.dumps),
    damage=edits,
)
def test_what_videos_say(tmp_path_factory, changes, text, damage):
    """A forged account, any text, and damage anywhere in the file."""
    told = json.dumps({"ditflow": 1, **MADE.as_dict(), **changes}) if text is None else text
    try:
        content = encode_video(FRAMES, 8, comment=told)
    except ValueError:  # text that no container holds
        return
    file = tmp_path_factory.mktemp("video") / "video.mp4"
    with no_hang():
        for data in (content, edited(content, damage, 0)):
            file.write_bytes(data)
            with contextlib.suppress(VideoError):
                made = read_provenance(file)
                assert VideoProvenance(**made.as_dict()) == made and made.to_json()
