"""Library: the clips of a run against the bank. Says which are finished, begun or left.

A clip is finished when the bank has its entry, and its video where one is wanted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from datamodules.batching import Batching, MotionBatch
from datamodules.faults import one_line, reported
from datamodules.frames import FrameBatch, FrameBatching
from datamodules.manifest import WORDS, MotionTask
from datamodules.queue import inflight
from datamodules.queue.inflight import InflightBatch
from datamodules.queue.work_queue import Leg, Plan
from ditflow.bank import Failure, MotionBank
from ditflow.core.sizes import VideoSize

SLOW = 2.0  # seconds of planning after which a bar is shown


class Making(Protocol):
    """How motion is taken from clips; `ditflow.sampling.recipe.Recipe` is one way.

    `provenance` are fields of an entry's metadata that do not depend on the clip, and `settings`
    all that a result depends on besides, as JSON values. `former` are those of them that older
    entries of the same have another value for. `negative_prompt` is for clips that name none.
    """

    @property
    def provenance(self) -> Mapping[str, Any]: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def former(self) -> Mapping[str, Any]: ...

    @property
    def negative_prompt(self) -> str: ...


class Library:
    """The clips asked for, and what the bank holds of them.

    Args:
        video_of: The path of a finished clip's video; None where only entries are wanted.
        keep_reference: Whether an entry must hold the clip's latents.
    """

    def __init__(
        self,
        tasks: Sequence[MotionTask],
        bank: MotionBank,
        recipe: Making,
        batching: Batching | FrameBatching,
        *,
        video_of: Callable[[str], Path] | None,
        keep_reference: bool = False,
    ) -> None:
        self.bank, self.recipe, self.batching, self.video_of = bank, recipe, batching, video_of
        self.clips, self.keep_reference = batching.clips, keep_reference
        self.tasks = {task.name: self._completed(task) for task in tasks}

    def pick(self, names: Iterable[str]) -> list[MotionTask]:
        return [self.tasks[name] for name in names]

    def batch(self, leg: Leg) -> MotionBatch | FrameBatch:
        return self.batching.batch(leg, self.pick(leg.names), self._settings_of(leg))

    def plan(self, limit: int) -> Plan:
        """What is left to do; writes nothing. Leaves out clips that have failed `limit` times, and
        clips whose name the bank uses for something else.
        """
        failures, todo, failed = self.bank.failures(), list[str](), dict[str, Exception]()
        for name in tqdm(self.tasks, desc="Planning", unit="clip", leave=False, delay=SLOW):
            with reported(name, failed.__setitem__):
                if self._is_finished(name):
                    continue
                if name in failures and failures[name].attempts >= limit:
                    raise ValueError(
                        f"it has failed {limit} times ({failures[name].reason}); remove "
                        f"failed/{name}.json from the bank to try it again"
                    )
                todo.append(name)
        attempts = {name: failures[name].attempts for name in todo if name in failures}
        return Plan(tuple(todo), attempts, {name: one_line(why) for name, why in failed.items()})

    def sweep(self, todo: Collection[str]) -> None:
        """Drop the in-flight batches that are done. A run that was killed between its last entry
        and the end of its batch leaves them.
        """
        for batch in self.begun():
            if not set(batch.names) & set(todo):
                inflight.drop(self.bank, batch.key)

    def is_done(self, name: str) -> bool:
        """Whether the clip is in the bank, with its video if one is wanted. Where no
        entries are made, the video alone counts.
        """
        made = not self.batching.makes_entries or name in self.bank
        return made and self._has_video(name)

    def done(self) -> set[str]:
        """All clips that are done, by one listing of the bank."""
        entries = set(self.bank) if self.batching.makes_entries else self.tasks.keys()
        return {name for name in self.tasks if name in entries and self._has_video(name)}

    def check_same(self, name: str) -> None:
        """Raise ValueError where the bank's entry comes from another clip, prompt, seed or
        recipe.
        """
        metadata = asdict(self.bank.metadata(name))
        if strange := self.recipe.provenance.keys() - metadata.keys():
            raise ValueError(
                f"the bank has an entry {name!r} of another kind, without {min(strange)}: it was "
                "made by another --method. Give the clip another name, or name another bank."
            )
        other = [
            f"{key} {metadata[key]!r} instead of {value!r}"
            for key, value in self._wanted(name).items()
            if metadata[key] not in (value, self.recipe.former.get(key, value))
        ]
        if self.keep_reference and not self.bank.keeps_reference(name):
            other.append("no reference latents instead of the clip's")
        if other:
            raise ValueError(
                f"the bank has an entry {name!r} that was made with {', '.join(other)}. Give the "
                "clip another name, or name another bank; to make it again, remove "
                f"entries/{name}.safetensors from the bank first."
            )

    def failures(self) -> Mapping[str, Failure]:
        return self.bank.failures()

    def alike(self, name: str) -> Hashable:
        """What clips that are optimised together have in common: the size of their videos, and
        whether these begin with a picture.
        """
        return self._size(name), bool(self.tasks[name].image)

    def begun(self) -> list[InflightBatch]:
        """Batches that were begun with the settings of now, the furthest first."""
        ours = (
            batch
            for batch in inflight.begun(self.bank)
            if set(batch.names) <= self.tasks.keys() and batch.step < batch.steps
        )
        return sorted(
            (batch for batch in ours if self._is_ours(batch)),
            key=lambda batch: (-batch.step, batch.key),
        )

    def leg(self, batch: InflightBatch) -> Leg | None:
        """The rest of a begun batch; None where a part of its state is missing."""
        step = inflight.next_step(self.bank, batch.key)
        return None if step is None else Leg(batch.names, step, batch.key)

    def _completed(self, task: MotionTask) -> MotionTask:
        """The task with its negative prompt, and without words and images that nothing reads."""
        recommended = self.recipe.negative_prompt
        negative = recommended if task.negative_prompt is None else task.negative_prompt
        unread: dict[str, Any] = {} if self.batching.reads_words else dict.fromkeys(WORDS, "")
        unread |= {} if self.batching.reads_images else {"image": ""}
        return replace(task, negative_prompt=negative, **unread)

    def _wanted(self, name: str) -> dict[str, Any]:
        """What the metadata of a clip's entry must say."""
        task = self.tasks[name]
        wanted = self.recipe.provenance | {
            "prompt": task.prompt,
            "seed": task.seed,
            "negative_prompt": task.negative_prompt or "",
            "start": task.start,
            "stride": task.stride,
            "fps": task.fps or 0.0,
        }
        wanted |= {word: getattr(task, word) for word in WORDS}
        if (size := self._size(name)) is not None:
            wanted["size"] = (size.frames, size.height, size.width)
        if Path(task.video).exists():
            wanted["clip_sha256"] = self.clips.sha256(task)
        if not task.image or Path(task.image).exists():
            wanted["image_sha256"] = self.clips.image_sha256(task)
        return wanted

    def _size(self, name: str) -> VideoSize | None:
        """The size of a clip's video, or None where it cannot be told."""
        with suppress(ValueError, OSError):
            return self.clips.size_of(self.tasks[name])
        return None

    def _has_video(self, name: str) -> bool:
        return self.video_of is None or self.video_of(name).exists()

    def _is_finished(self, name: str) -> bool:
        """Whether nothing is left to do for a clip. Raises ValueError where the bank uses its name
        for something else.
        """
        if self.batching.makes_entries and name in self.bank:
            self.check_same(name)
        return self.is_done(name)

    def _is_ours(self, batch: InflightBatch) -> bool:
        try:
            return batch.settings in self._settings(batch.names)
        except (ValueError, OSError):  # a clip that is gone: it is reported where it is read
            return False

    def _settings_of(self, leg: Leg) -> str:
        """Those that the record of a begun batch is kept under, else those of now."""
        now, *former = self._settings(leg.names)
        kept = (one for one in former if inflight.key_of(leg.names, one) == leg.record)
        return next(kept, now)

    def _settings(self, names: Iterable[str]) -> list[str]:
        """The hash of all that a batch depends on, and the one that it had before."""
        tasks = [{**asdict(task), **self._files(task)} for task in self.pick(names)]
        settings = self.recipe.settings
        contents = [
            [how, self.video_of is not None, tasks]
            for how in (settings, {**settings, **self.recipe.former})
        ]
        return [
            hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            for content in contents
        ]

    def _files(self, task: MotionTask) -> dict[str, str]:
        """The files of a clip by what is in them."""
        return {"video": self.clips.hash_of(task), "image": self.clips.image_sha256(task)}
