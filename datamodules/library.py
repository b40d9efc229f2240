"""Clips on their way into a bank: which are finished, which were begun, and what a batch of them is
made of.
"""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns, L text tokens, E channels of
# the text encoder

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from datamodules.encoding_cache import References
from datamodules.manifest import WORDS, MotionTask
from datamodules.queue import inflight as records
from datamodules.queue.work_queue import Plan
from datamodules.step_loader import Leg
from ditflow.bank import Failure, MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.files import StorageError
from ditflow.models import ModelError
from ditflow.motion import Words
from ditflow.sampling.optimise import Guidance
from ditflow.sampling.reference import reference_prompt, words_of

# The disk, the backbone or the device, not the clip: everything else would fail too
BROKEN = (StorageError, ModelError, getattr(torch, "AcceleratorError", StorageError))
SLOW = 2.0  # seconds of planning after which a bar is shown
Fail = Callable[[str, Exception], None]
T = TypeVar("T")


class Method(Protocol):
    """What must be known of how clips are optimised, to tell whether an entry or a record is the
    one asked for.
    """

    negative_prompt: str  # where none is given
    guidance: Guidance

    @property
    def provenance(self) -> dict[str, Any]:
        """Fields of an entry's metadata that do not depend on the clip."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that a result depends on, but for the clip, as JSON values."""


@dataclass(frozen=True)
class MotionBatch:
    """Clips that are optimised together, each by itself. `settings` tells them from the same clips
    optimised in another way.
    """

    leg: Leg
    tasks: tuple[MotionTask, ...]
    settings: str
    size: VideoSize
    sha256: tuple[str, ...]  # of the clips' files
    containers: tuple[str, ...]  # of their frames
    latents: Tensor  # (B, F, C, Hl, Wl) float32, of the reference clips
    text: Tensor  # (B, L, E)
    negative: Tensor  # (B, L, E)
    seen_with: Tensor  # (B, L, E), of the prompt that the signal looks at the reference with
    words: Words | None  # of captions and prompts, for a signal that reads them

    def to(self, device: torch.device) -> MotionBatch:
        words = None if self.words is None else Words(*(x.to(device) for x in self.words))
        return replace(
            self,
            words=words,
            **{
                name: getattr(self, name).to(device)
                for name in ("latents", "text", "negative", "seen_with")
            },
        )


class Clips:
    """The clips asked for, against what the bank holds. `video_of` names a finished clip's video;
    None if only entries are wanted.

    `keep_reference`: an entry without the clip's latents is not the one asked for.
    """

    def __init__(
        self,
        tasks: Sequence[MotionTask],
        bank: MotionBank,
        method: Method,
        references: References,
        video_of: Callable[[str], Path] | None,
        *,
        keep_reference: bool = False,
    ) -> None:
        self.bank, self.method, self.references, self.video_of = bank, method, references, video_of
        self.signal = method.guidance.signal
        self.tasks = {task.name: self._read(task) for task in tasks}
        self.keep_reference = keep_reference

    def plan(self, limit: int) -> Plan:
        """What is left; writes nothing. Clips whose name in the bank means something else are not
        tried, nor those that have failed `limit` times.
        """
        failures, todo, failed = self.bank.failures(), list[str](), dict[str, Exception]()
        for name in tqdm(self.tasks, desc="Planning", unit="clip", leave=False, delay=SLOW):
            with reported(name, failed.__setitem__):
                if self._is_finished(name):
                    continue
                if name in failures and failures[name].attempts >= limit:
                    reason = failures[name].reason
                    raise ValueError(
                        f"it has failed {limit} times ({reason}); remove failed/{name}.json from the bank to try it again"
                    )
                todo.append(name)
        attempts = {name: failures[name].attempts for name in todo if name in failures}
        return Plan(tuple(todo), attempts, {name: one_line(why) for name, why in failed.items()})

    def sweep(self, todo: Collection[str]) -> None:
        """Drop the records of batches that are done: a run that was killed just then left them."""
        for record in self.begun():
            if not set(record.names) & set(todo):
                records.drop(self.bank, record.key)

    def encode(
        self,
        names: Collection[str],
        fail: Fail,
        between: Callable[[], None] = lambda: None,
        *,
        bar: bool = True,
    ) -> None:
        """Fill the cache for these clips and let the encoders go; those that cannot be read fail.
        `between` is called before each.
        """
        for name in tqdm(
            names,
            desc="Encoding",
            unit="clip",
            leave=False,
            file=sys.stdout,
            disable=not (names and bar),
        ):
            between()
            with reported(name, fail):
                self.references.clip(self.tasks[name])
                self.references.text(self._texts(self.tasks[name]))
        self.references.backbone.release_encoders()

    def check(self, names: Collection[str], fail: Fail) -> None:
        """Report the clips that `encode` would, by reading what it would read; nothing is encoded
        or kept.
        """
        for name in tqdm(names, desc="Reading", unit="clip", leave=False, disable=not names):
            with reported(name, fail):
                task = self.tasks[name]
                if not self.references.has(task):
                    self.references.read(task)
                self._texts(task)

    def is_done(self, name: str) -> bool:
        """Whether the clip is in the bank, with its video if one is wanted. Without a signal there
        are no entries, and the video is all.
        """
        return (self.signal is None or name in self.bank) and self._has_video(name)

    def done(self) -> set[str]:
        """All clips that are, by one look at the bank's folder."""
        entries = set(self.bank) if self.signal is not None else self.tasks.keys()
        return {name for name in self.tasks if name in entries and self._has_video(name)}

    def check_same(self, name: str) -> None:
        """Raise ValueError where the bank's entry was made from another clip, prompt or seed, or by
        another method.
        """
        task, metadata = self.tasks[name], asdict(self.bank.metadata(name))
        wanted = self.method.provenance | {
            "prompt": task.prompt,
            "seed": task.seed,
            "negative_prompt": task.negative_prompt or "",
        }
        wanted |= {"start": task.start, "stride": task.stride, "fps": task.fps or 0.0}
        wanted |= {word: getattr(task, word) for word in WORDS}
        if (size := self.alike(name)) is not None:
            wanted["size"] = (size.frames, size.height, size.width)
        if Path(task.video).exists():
            wanted["clip_sha256"] = self.references.sha256(task)
        other = [
            f"{key} {metadata[key]!r} instead of {value!r}"
            for key, value in wanted.items()
            if metadata[key] != value
        ]
        if self.keep_reference and not self.bank.keeps_reference(name):
            other.append("no reference latents instead of the clip's")
        if other:
            raise ValueError(
                f"the bank has an entry {name!r} that was made with {', '.join(other)}. Give the clip another name, or name another bank; "
                f"to make it again, remove entries/{name}.safetensors from the bank first."
            )

    def failures(self) -> Mapping[str, Failure]:
        return self.bank.failures()

    def alike(self, name: str) -> VideoSize | None:
        """Clips are optimised together where this is the same for all: the size of their video,
        None where that cannot be told.
        """
        with suppress(ValueError, OSError):
            return self.references.size_of(self.tasks[name])
        return None

    def begun(self) -> list[records.Record]:
        """Batches that were begun as they would be now, the furthest first."""
        ours = (
            record
            for record in records.begun(self.bank)
            if set(record.names) <= self.tasks.keys() and record.step < record.steps
        )
        return sorted(
            (record for record in ours if self._is_ours(record)),
            key=lambda record: (-record.step, record.key),
        )

    def leg(self, record: records.Record) -> Leg | None:
        """A batch as far as it is at this moment; None where a part of it is missing."""
        step = records.next_step(self.bank, record.key)
        return None if step is None else Leg(record.names, step, record.key)

    def batch(self, leg: Leg) -> MotionBatch:
        """What the cache lacks is made now, as for clips that were other ranks', and no encoder
        stays.
        """
        tasks = tuple(self.tasks[name] for name in leg.names)
        clips = [self.references.clip(task) for task in tasks]
        batch = MotionBatch(
            leg=leg,
            tasks=tasks,
            settings=self._settings(leg.names),
            size=self.references.size_of(tasks[0]),
            sha256=tuple(clip.sha256 for clip in clips),
            containers=tuple(clip.container for clip in clips),
            latents=torch.stack([clip.latents for clip in clips]),
            text=self.references.text([task.prompt for task in tasks]),
            negative=self.references.text([task.negative_prompt or "" for task in tasks]),
            seen_with=self.references.text([reference_prompt(self.signal, task) for task in tasks]),
            words=words_of(self.references.backbone, self.signal, tasks),
        )
        self.references.backbone.release_encoders()
        return batch

    def _read(self, task: MotionTask) -> MotionTask:
        """With the negative prompt in force, and without words that the signal does not read."""
        negative = (
            self.method.negative_prompt if task.negative_prompt is None else task.negative_prompt
        )
        unread = (
            {}
            if self.signal is not None and self.signal.subjects is not None
            else dict.fromkeys(WORDS, "")
        )
        return replace(task, negative_prompt=negative, **unread)

    def _texts(self, task: MotionTask) -> list[str]:
        """What is embedded for a clip. Raises ValueError for a text without the words that the
        signal reads.
        """
        words_of(self.references.backbone, self.signal, [task])
        return [task.prompt, task.negative_prompt or "", reference_prompt(self.signal, task)]

    def _has_video(self, name: str) -> bool:
        return self.video_of is None or self.video_of(name).exists()

    def _is_finished(self, name: str) -> bool:
        """Whether nothing is left to do for a clip. Raises ValueError where its name is taken in
        the bank by something else.
        """
        if self.signal is not None and name in self.bank:
            self.check_same(name)
        return self.is_done(name)

    def _is_ours(self, record: records.Record) -> bool:
        try:
            return record.settings == self._settings(record.names)
        except (ValueError, OSError):  # a clip that is gone: it is reported where it is read
            return False

    def _settings(self, names: Iterable[str]) -> str:
        tasks = [
            {**asdict(self.tasks[name]), "video": self.references.hash_of(self.tasks[name])}
            for name in names
        ]
        return hashlib.sha256(
            json.dumps(
                [self.method.settings, self.video_of is not None, tasks], sort_keys=True
            ).encode()
        ).hexdigest()


@contextmanager
def reported(what: T, fail: Callable[[T, Exception], None]) -> Iterator[None]:
    """What is wrong with clips is reported and does not stop the others; what is wrong with the
    disk, the backbone or the device stops all.
    """
    try:
        yield
    except BROKEN:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        fail(what, error)


def one_line(error: Exception) -> str:
    """What an error says, without line breaks; the name of its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
