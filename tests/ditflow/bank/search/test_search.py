"""Search: what is found, and an index that is never trusted over the entries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ditflow.bank import (
    BankError,
    BankStorageError,
    EntryError,
    FieldEntry,
    FieldMetadata,
    MotionBank,
    UnknownEntryError,
)
from ditflow.bank.file_format import Header
from ditflow.bank.search import rows
from ditflow.bank.search.rows import FILE
from ditflow.fields import MotionField, described
from tests.ditflow.bank.entries import make_entry, make_field_entry, make_field_metadata, replaced
from tests.ditflow.fields.analytic import moving

MOTIONS = {
    "left": moving((0.2, 0)),
    "left-slowly": moving((0.05, 0)),
    "right": moving((-0.2, 0)),
    "still": moving(),
    "up-and-in": moving((0, 0.2), 1.2),
    "zoom": moving((0, 0), 1.3),
}


def entry_of(field: MotionField, words: str | None = None) -> FieldEntry:
    told = make_field_metadata(size=(9, 32, 48), times=field.times).as_dict()
    told = {name: value for name, value in told.items() if name not in ("times", "method")}
    return FieldEntry.of(field, **told | {"words": described(field) if words is None else words})


def fill(bank: MotionBank) -> MotionBank:
    for name, field in MOTIONS.items():
        bank[name] = entry_of(field)
    return bank


@pytest.fixture
def bank(tmp_path: Path) -> MotionBank:
    return fill(MotionBank(tmp_path / "bank", create=True))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the entries that rows are made of."""
    names: list[str] = []
    row = rows.row_of
    monkeypatch.setattr(
        rows, "row_of", lambda file, header: names.append(header.name) or row(file, header)
    )
    return names


def names(bank: MotionBank, **query: object) -> list[str]:
    return [match.name for match in bank.search(**query).matches]


def test_like_an_entry_or_a_motion(bank: MotionBank) -> None:
    found = bank.search(like="left")
    assert [match.name for match in found.matches] == ["left-slowly"]  # no opposite, nor itself
    assert found.matches[0].score == pytest.approx(1, abs=2e-3)  # float16
    assert (found.searched, found.left_out) == (6, 0)
    again = bank.search(like=moving((0.1, 0)))
    assert [match.name for match in again.matches] == ["left", "left-slowly"]  # equals by name
    assert names(bank, like=moving((0, 0.1), 1.1))[:1] == ["up-and-in"]


def test_words(bank: MotionBank) -> None:
    found = bank.search(words="slow pan left")
    assert [(match.name, match.score) for match in found.matches] == [
        ("left-slowly", 1.0),
        ("left", 0.5),
    ]
    assert found.matches[0].words == "pans left slowly"
    assert names(bank, words="zoom in") == ["zoom", "up-and-in"]
    assert names(bank, words="still") == ["still"]
    assert names(bank, words="roll clockwise") == []


def test_both_are_their_mean(bank: MotionBank) -> None:
    (found, *_) = bank.search(like="left", words="slow pan left").matches
    assert (found.name, found.score) == ("left-slowly", pytest.approx(1, abs=2e-3))
    scores = {match.name: match.score for match in bank.search(like="left", words="zoom").matches}
    assert scores["zoom"] == pytest.approx(0.5, abs=0.01) and "right" not in scores


def test_the_limit(bank: MotionBank) -> None:
    assert names(bank, like=moving((0.1, 0)), limit=1) == ["left"]
    with pytest.raises(BankError, match="limit is 0: ask for at least 1"):
        bank.search(words="pan", limit=0)


def test_an_optimised_entry_is_found_by_the_motion_that_it_keeps(bank: MotionBank) -> None:
    field = MOTIONS["right"]
    bank["optimised"] = make_entry(1).with_motion(field, described(field))
    bank["of-before"] = make_entry(2)
    assert names(bank, like="right") == names(bank, words="pan right")[:1] == ["optimised"]
    assert bank.search(like="right").left_out == 1
    with pytest.raises(BankError, match="'of-before' keeps no motion of its clip: remove it and"):
        bank.search(like="of-before")
    assert bank["optimised"].field is not None and bank["of-before"].field is None


def test_words_are_made_where_an_entry_has_none(bank: MotionBank) -> None:
    bank["wordless"] = entry_of(MOTIONS["zoom"], "")
    assert "wordless" in names(bank, words="zoom in")


def test_rows_are_made_of_new_and_changed_entries_alone(bank: MotionBank, made: list[str]) -> None:
    bank.search(words="pan")
    assert made == list(MOTIONS)
    made.clear()
    bank["new"] = entry_of(MOTIONS["left"])
    bank.put("zoom", entry_of(MOTIONS["right"]), overwrite=True)
    del bank["left"]
    found = names(MotionBank(bank.path), like="right")
    assert found == ["zoom"] and sorted(made) == ["new", "zoom"]
    made.clear()
    assert names(bank, words="pan left") == ["left-slowly", "new"] and made == []


def test_reindex_makes_what_a_search_needs(bank: MotionBank, made: list[str]) -> None:
    """It knows no entry that was removed, and is written where it has changed alone."""
    assert bank.reindex() == 6 and sorted(made) == sorted(MOTIONS)
    made.clear()
    assert names(bank, words="pan left") == ["left", "left-slowly"] and made == []
    del bank["left"]
    assert bank.reindex() == 5
    file = Path(bank.path) / FILE
    assert "left" not in rows._kept(bank._folder).of.name
    before = file.stat()
    assert bank.reindex() == 5 and file.stat() == before and made == []
    file.unlink()
    assert names(bank, words="pan left") == ["left-slowly"]


def test_what_is_found_is_compared_with_the_entry(bank: MotionBank) -> None:
    """Its file has the size and the mark that it had, but says otherwise."""
    bank.search(words="pan")
    file = Path(bank.path) / "entries" / "zoom.safetensors"
    before = file.stat()
    data = entry_of(MOTIONS["right"]).to_bytes("zoom")
    padded = entry_of(MOTIONS["right"], "pans right").to_bytes("zoom")
    assert before.st_size in (
        len(data),
        len(padded),
    )  # "zooms in" is as long as "pans right" less 2
    with open(file, "r+b") as stream:
        stream.write(data if len(data) == before.st_size else padded)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert bank._entries.listing()["zoom"] == (
        before.st_size,
        f"{before.st_mtime_ns}.{before.st_ino}",
    )
    assert names(bank, words="zoom in") == ["up-and-in"]
    assert "zoom" in names(bank, like="right")


def damages() -> dict[str, object]:
    def flipped(data: bytes) -> bytes:
        return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]

    return {
        "empty": lambda data: b"",
        "cut": lambda data: data[: len(data) // 2],
        "flipped": flipped,
        "rubbish": lambda data: b"rubbish" * 100,
        "another record": lambda data: make_field_entry().to_bytes("search"),
        "of another version": lambda data: data.replace(b'"version\\":1', b'"version\\":0'),
    }


@pytest.mark.parametrize("damage", damages())
def test_an_index_that_is_damaged_is_made_anew(bank: MotionBank, damage: str) -> None:
    wanted = bank.search(like="left", words="pan")
    file = Path(bank.path) / FILE
    sound = file.read_bytes()
    file.write_bytes(damages()[damage](sound))
    assert file.read_bytes() != sound
    assert bank.search(like="left", words="pan") == wanted
    assert file.read_bytes() == sound and not list(file.parent.glob("*.tmp"))


def test_a_damaged_entry_is_not_found_and_stops_nothing(bank: MotionBank) -> None:
    with open(Path(bank.path) / "entries" / "left.safetensors", "r+b") as stream:
        stream.truncate(200)
    found = bank.search(words="pan left")
    assert [match.name for match in found.matches] == ["left-slowly"]
    assert (found.searched, found.left_out) == (5, 1)
    with pytest.raises(BankError, match="The entry 'left' keeps no motion of its clip"):
        bank.search(like="left")


def test_what_could_not_be_read_once_is_read_again(
    bank: MotionBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older version of ditflow could not, whose files of rows are found here."""

    def unknown(header: Header) -> FieldMetadata:
        raise EntryError("a schema of another version")

    with monkeypatch.context() as older:
        older.setattr(FieldEntry, "checked_metadata", unknown)
        bank.reindex()
    again = MotionBank(bank.path)
    assert names(again, words="pan left") == ["left", "left-slowly"]
    again.reindex()
    assert not any(row.problem for row in MotionBank(bank.path).index())


def test_a_bank_that_cannot_be_written_is_searched(
    bank: MotionBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank._folder, "write", refused)
    assert names(bank, like="left") == ["left-slowly"]
    assert not (Path(bank.path) / FILE).exists()


def test_a_disk_that_cannot_be_read_is_no_damaged_entry(
    bank: MotionBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BankStorageError("Cannot read: the disk reports an error.")

    monkeypatch.setattr(rows, "row_of", refuse)
    with pytest.raises(BankStorageError, match="the disk reports an error"):
        bank.search(words="pan")


def test_in_object_storage() -> None:
    bank = fill(MotionBank("memory://searched", create=True))
    assert names(bank, like="left") == ["left-slowly"]
    del bank["left-slowly"]
    assert names(MotionBank("memory://searched"), words="pan left") == ["left"]


def test_an_index_of_a_stranger_finds_only_what_is_there(bank: MotionBank) -> None:
    """Sums and shapes are right; it knows other entries, and numbers that are none."""
    bank.search(words="pan")
    known = rows.current(bank._folder, bank._entries)
    known.of.name[0], known.of.words[1] = "ghost", "zooms in"
    known.of.name[2], known.of.size[2], known.of.mark[2] = (
        column[3] for column in (known.of.name, known.of.size, known.of.mark)
    )  # one entry twice
    vectors = known.vectors.copy()
    vectors[:2] = float("nan")
    bank._folder.write(FILE, rows.packed(rows.Rows(known.of, vectors)))
    assert "ghost" not in names(bank, words="pan left") + names(bank, like="right")
    found = bank.search(like=moving((0.1, 0)), limit=100)
    assert all(0 < match.score <= 1 for match in found.matches)
    assert len({match.name for match in found.matches}) == len(found.matches)
    assert found.searched == len(MOTIONS)


def lying(bank: MotionBank, **words: str) -> None:
    """An index with the names, marks and content hashes of all entries, but with other words, and
    the vector of "right" for "left" and the other way round."""
    known = rows.current(bank._folder, bank._entries)
    at = {name: place for place, name in enumerate(known.of.name)}
    for name, said in words.items():
        known.of.words[at[name]] = said
    vectors = known.vectors.copy()
    vectors[[at["left"], at["right"]]] = vectors[[at["right"], at["left"]]]
    bank._folder.write(FILE, rows.packed(rows.Rows(known.of, vectors)))


@pytest.mark.parametrize(
    "query", [{"words": "roll clockwise"}, {"words": "pan left"}, {"like": moving((0.1, 0))}]
)
def test_an_index_does_not_lie_about_what_is_found(bank: MotionBank, query: dict) -> None:
    wanted = bank.search(**query).matches
    lying(bank, zoom="rolls clockwise", right="pans left")
    found = bank.search(**query).matches
    assert set(found) <= set(wanted), "less, since what an index omits is not noticed"
    assert ("left-slowly" in {match.name for match in found}) == bool(wanted)


def test_an_index_does_not_lie_about_what_others_are_like(bank: MotionBank) -> None:
    wanted = bank.search(like="left")
    lying(bank)
    assert bank.search(like="left") == wanted
    lying(bank, left="")
    assert bank.search(like="left") == wanted


def test_an_index_that_lies_about_everything_is_made_anew(bank: MotionBank) -> None:
    for number in range(20):
        bank[f"zoom-{number}"] = entry_of(MOTIONS["zoom"])
    wanted, lies = bank.search(words="roll"), dict.fromkeys(bank, "rolls clockwise")
    sound = (Path(bank.path) / FILE).read_bytes()
    lying(bank, **lies)
    assert bank.search(words="roll", limit=1) == wanted
    assert sorted(rows._kept(bank._folder).of.words) == sorted(
        bank[name].metadata.words for name in bank
    )
    assert len((Path(bank.path) / FILE).read_bytes()) == len(sound)


def test_what_rounding_changes_is_no_lie(bank: MotionBank, made: list[str]) -> None:
    bank.search(words="pan")
    known = rows.current(bank._folder, bank._entries)
    other = (known.vectors.astype("float32") + 1e-5).astype("float16")
    bank._folder.write(FILE, rows.packed(rows.Rows(known.of, other)))
    made.clear()
    assert names(bank, like="left") == ["left-slowly"] and made == []


def test_entries_that_changed_unseen_in_a_bank_that_cannot_be_written(
    bank: MotionBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each search finds the changes anew, one after the other, and ends."""
    bank.search(words="pan")
    for name in ("left", "left-slowly"):
        bank.put(name, entry_of(MOTIONS["zoom"]), overwrite=True)
    listed, kept = bank._entries.listing(), rows._kept(bank._folder)
    for at, name in enumerate(kept.of.name):  # as if the files had kept size and mark
        kept.of.size[at], kept.of.mark[at] = listed[name]
    bank._folder.write(FILE, rows.packed(kept))
    monkeypatch.setattr(bank._folder, "write", refused)
    assert names(bank, words="pan left", limit=1) == []
    assert names(bank, words="zoom in") == ["zoom", "up-and-in"]  # nothing doubts the others


def refused(*_: object) -> None:
    raise BankStorageError("Cannot write: permission is denied.")


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ({}, BankError, "Say what to search for"),
        ({"words": "wobble"}, BankError, "'wobble' is not understood. Known are: pan left"),
        ({"like": "kite"}, UnknownEntryError, "There is no entry 'kite'"),
        ({"like": "still"}, BankError, "The entry 'still' holds no motion: nothing is like it"),
        ({"like": moving()}, BankError, "The clip 'a' holds no motion: nothing is like it"),
    ],
)
def test_what_cannot_be_searched_for(
    bank: MotionBank, query: dict, error: type[BankError], message: str
) -> None:
    with pytest.raises(error, match=message):
        bank.search(**query)


def test_an_empty_bank_and_one_without_motions(tmp_path: Path) -> None:
    bank = MotionBank(tmp_path, create=True)
    with pytest.raises(BankError, match="The bank holds no entries to search"):
        bank.search(words="pan")
    bank["before"] = make_entry(1)
    with pytest.raises(BankError, match="None of the 1 entries keeps its motion: remove it and"):
        bank.search(words="pan")


def test_motion_in_an_optimised_entry_is_kept_small_and_comes_back() -> None:
    plain, field = (
        make_entry(1, latents=True),
        MOTIONS["up-and-in"].resampled(tuple(float(time) for time in range(9)), (64, 96), 9),
    )
    entry = plain.with_motion(field, "zooms in")
    again = type(entry).from_bytes(entry.to_bytes("kite"))
    assert again.content_hash == entry.content_hash != plain.content_hash
    assert torch.equal(again.parameters, plain.parameters)
    assert again.field.cells == (8, 12) and again.metadata.words == "zooms in"
    assert len(entry.to_bytes()) - len(plain.to_bytes()) < 12_000
    kept = again.field.resampled(field.times, field.cells, 9)
    torch.testing.assert_close(kept.displacement, field.displacement, rtol=0, atol=0.01)
    assert replaced(entry, clip="x").field.source.clip == "x"
