"""Find entries of a bank by how they move: like a motion, or as words say."""

# N entries, D numbers of a descriptor

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ditflow.bank.errors import BankError, BankStorageError, UnknownEntryError
from ditflow.bank.records import ATTEMPTS, Records
from ditflow.bank.search.descriptor import descriptor
from ditflow.bank.search.phrases import Phrase, agreement, asked, told
from ditflow.bank.search.rows import Rows, current, row_of, words_of
from ditflow.bank.storage import Folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ditflow.fields.field import MotionField

BLOCK = 1 << 14  # descriptors that are multiplied at once
ROUNDED = 1e-3  # two steps of float16 below 1: processors round differently
LEAST = 0.005  # a score below is shown as 0.00, and finds nothing
AGAIN = "remove it and fit its clip again, or with --method instant"


@dataclass(frozen=True)
class Match:
    """Attributes: name: of an entry. score: above 0, at most 1: the cosine of two motions, how well
    words agree (twice the phrases that are met in the number of phrases of both), or the mean of
    both. words: what its motion does.
    """

    name: str
    score: float
    words: str


@dataclass(frozen=True)
class Found:
    """Attributes:
    matches: the best first.
    searched: how many entries keep their motion. left_out: how many do not.
    """

    matches: tuple[Match, ...]
    searched: int
    left_out: int


def find(
    folder: Folder,
    records: Records,
    like: str | MotionField | None,
    words: str,
    limit: int,
) -> Found:
    """As `MotionBank.search` says."""
    if like is None and not words:
        raise BankError("Say what to search for: a motion to be like, or words.")
    if limit < 1:
        raise BankError(f"limit is {limit}: ask for at least 1 entry.")
    wanted = asked(words) if words else frozenset[Phrase]()
    given = None if like is None or isinstance(like, str) else _vector(like)
    doubted: list[str] = []
    for attempt in range(ATTEMPTS):
        rows = current(folder, records, doubted)
        own = [at for at, name in enumerate(rows.of.name) if name == like]
        if not (changed := _changed(records, rows, own, True)):
            searched = _check_searchable(rows)
            if isinstance(like, str):
                _check_moves(rows, own, like)
            vector = rows.vectors[own[0]].astype("float32") if own else given
            scores = _scores(rows, vector, wanted)
            best = _best(rows, scores, own, limit)
            if not (changed := _changed(records, rows, best, vector is not None)):
                left_out = len(rows.of.name) - searched
                return Found(tuple(_match(rows, scores, at) for at in best), searched, left_out)
        doubted += changed if attempt < ATTEMPTS // 2 else rows.of.name
    raise BankStorageError(f"Entries were replaced {ATTEMPTS} times in a search. Try again.")


def _check_searchable(rows: Rows) -> int:
    """How many entries keep their motion. Raises BankError where none does."""
    searched = sum(map(bool, rows.of.words))
    if not rows.of.name:
        raise BankError("The bank holds no entries to search.")
    if not searched:
        raise BankError(f"None of the {len(rows.of.name)} entries keeps its motion: {AGAIN}.")
    return searched


def _vector(field: MotionField) -> NDArray[Any]:
    """The descriptor of a motion. Raises BankError for one that is still."""
    vector: NDArray[Any] = descriptor(field)
    if not vector.any():
        clip = f"The clip {field.source.clip!r}" if field.source.clip else "The clip"
        raise BankError(f"{clip} holds no motion: nothing is like it. Search by words instead.")
    return vector


def _check_moves(rows: Rows, own: list[int], name: str) -> None:
    """Raises BankError unless there is an entry of that name, which moves."""
    if not own:
        raise UnknownEntryError(f"There is no entry {name!r:.200}.")
    if not rows.of.words[own[0]]:
        raise BankError(f"The entry {name!r} keeps no motion of its clip: {AGAIN}.")
    if not rows.vectors[own[0]].any():
        raise BankError(f"The entry {name!r} holds no motion: nothing is like it.")


def _scores(rows: Rows, vector: NDArray[Any] | None, wanted: frozenset[Phrase]) -> NDArray[Any]:
    """Of each row: its likeness, how its words agree, or the mean of both."""
    import numpy as np

    parts = []
    if vector is not None:
        blocks = range(0, len(rows.vectors), BLOCK)
        like = [rows.vectors[at : at + BLOCK].astype(np.float32) @ vector for at in blocks]
        parts.append(np.nan_to_num(np.concatenate(like)).clip(-1, 1))
    if wanted:
        known = {words: agreement(wanted, told(words)) for words in set(rows.of.words)}
        parts.append(np.array([known[words] for words in rows.of.words]))
    scores: NDArray[Any] = np.mean(parts, axis=0)
    return scores


def _best(rows: Rows, scores: NDArray[Any], own: list[int], limit: int) -> list[int]:
    """Places of the best rows with a score of LEAST or more, equal ones by name. What the others
    are compared with is left out.
    """
    import numpy as np

    order = np.lexsort([np.array(rows.of.name), -scores])
    good = (int(at) for at in order if scores[at] >= LEAST and rows.of.words[at])
    return list(islice((at for at in good if at not in own), limit))


def _match(rows: Rows, scores: NDArray[Any], at: int) -> Match:
    return Match(rows.of.name[at], float(scores[at]), rows.of.words[at])


def _changed(records: Records, rows: Rows, places: list[int], moved: bool) -> list[str]:
    """Names of the entries there that do not say what their rows say."""
    return [rows.of.name[at] for at in places if not _is_current(records, rows, at, moved)]


def _is_current(records: Records, rows: Rows, at: int, moved: bool) -> bool:
    """Whether the entry itself is there, and has the content and words of its row; where `moved`,
    its vector too.
    """
    import numpy as np

    said = rows.of.content[at], rows.of.words[at]
    try:
        if not moved:
            return records.read(rows.of.name[at], words_of) == said
        *own, vector = records.read(rows.of.name[at], row_of)
    except BankStorageError:
        raise
    except UnknownEntryError:  # removed since it was listed
        return False
    except ValueError:  # damaged, and its row is empty
        return said == ("", "")
    return tuple(own) == said and np.allclose(rows.vectors[at], vector, rtol=0, atol=ROUNDED)
