"""Measures each video: metrics against its reference, and the motion that the backbone sees."""

# T frames, C = 3 colours, Y X pixel rows and columns, F latent frames, H W token rows and columns
from __future__ import annotations

import gc
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from datamodules.benchmark import BenchmarkClip, BenchmarkData
from ditflow.core.sizes import VideoSize
from ditflow.extraction import extract_motion
from ditflow.files import StorageError, atomic_file
from ditflow.metrics import Metric, Row, Sample, Tracks
from ditflow.metrics.trackers import grid_points
from ditflow.models import Model, load_backbone
from ditflow.video import read_video, write_video
from trainers.benchmark.folder import Item, RunFolder
from trainers.benchmark.methods import Method

UNKNOWN_COST = dict.fromkeys(("seconds", "peak_memory_bytes", "forward_equivalents", "machine"))
UNKNOWN_COST |= {"losses": []}
SIDE = 16
"""Rows and columns of the grid of points whose exact tracks are computed."""


@dataclass
class Measurer:
    """Writes the results of one run. Without a `backbone`, the motion that it sees is left out."""

    folder: RunFolder
    data: BenchmarkData
    size: VideoSize
    metrics: Mapping[str, Metric]
    backbone: str | None
    dtype: str | None
    seed: int

    def measure(self, method: Method, clips: Sequence[BenchmarkClip], kinds: Sequence[str]) -> None:
        """Measure all videos of a method that lack a number. A video that could not be made gets
        the reason.
        """
        for clip in clips:
            items = [Item(method.name, clip.name, kind) for kind in method.kinds(kinds)]
            made = [item for item in items if self.folder.video(item).exists()]
            if not all(self._complete(item) for item in made):
                self._measure_clip(method, clip, made)
            for item in items:
                if item not in made and (reason := self.folder.cost(item).get("error")):
                    self._leave_out(method, clip, item, reason)

    def leave_out(
        self, method: Method, clip: BenchmarkClip, kinds: Sequence[str], reason: str
    ) -> None:
        """Write the reason why a clip has no videos."""
        for kind in method.kinds(kinds):
            self._leave_out(method, clip, Item(method.name, clip.name, kind), reason)

    def _leave_out(self, method: Method, clip: BenchmarkClip, item: Item, reason: str) -> None:
        self.folder.write_result(item, self._known(method, clip, item, {}, [reason]))

    def write_reference(self, clip: BenchmarkClip, fps: float) -> None:
        """Write the reference's video and the motion that the backbone sees in it, if missing.
        Raises ValueError where the clip cannot be read.
        """
        file = self.folder.reference(clip.name)
        if not file.exists():
            write_video(file, self.data.video(clip, self.size), fps)
        if not file.with_suffix(".safetensors").exists():
            self._write_flow(file, read_video(file).frames)

    def _measure_clip(self, method: Method, clip: BenchmarkClip, items: Sequence[Item]) -> None:
        # in the order of a metric's rows
        items = sorted(items, key=lambda item: clip.prompts[item.kind])
        videos = self._all_seen(method, clip, items)
        samples = self._samples(method, clip, videos)
        fitted = self._all_seen(method, clip, self._fitted(method, clip))
        beside = self._samples(method, clip, fitted)
        rows = {name: _rows(metric, samples, beside) for name, metric in self.metrics.items()}
        for index, item in enumerate(videos):
            mine = {name: of[index] for name, of in rows.items()}
            errors = [row.error for row in mine.values() if row.error]
            self.folder.write_result(item, self._known(method, clip, item, mine, errors))

    def _all_seen(
        self, method: Method, clip: BenchmarkClip, items: Iterable[Item]
    ) -> dict[Item, Tensor]:
        seen = {item: self._seen(method, clip, item) for item in items}
        return {item: frames for item, frames in seen.items() if frames is not None}

    def _seen(self, method: Method, clip: BenchmarkClip, item: Item) -> Tensor | None:
        """Frames of a video, or None where they cannot be read. For a video of the method itself,
        also writes the motion that the backbone sees, or else the reason.
        """
        own = item.method == method.name
        try:
            frames = read_video(self.folder.video(item)).frames
            if own:
                self._write_flow(self.folder.video(item), frames)
            return frames
        except StorageError:
            raise
        except (ValueError, OSError) as error:
            if own:
                reason = f"{error} Remove the file, and the same command makes it again."
                self._leave_out(method, clip, item, reason)
            return None

    def _fitted(self, method: Method, clip: BenchmarkClip) -> list[Item]:
        """The video that a zero-shot method's entry was optimised for. With it, the entry has a
        video of every prompt, like the entries of other methods.
        """
        item = Item(method.bank, clip.name, method.zero_shot_from or "")
        return [item] if self.folder.video(item).exists() else []

    def _samples(
        self, method: Method, clip: BenchmarkClip, videos: Mapping[Item, Tensor]
    ) -> list[Sample]:
        reference = read_video(self.folder.reference(clip.name)).frames
        exact: dict[str, Any] = {}
        if (known := self.data.exact(clip, self.size)) is not None:
            size = (self.size.height, self.size.width)
            exact = {
                "flows": known.flows(),
                "tracks": Tracks(*known.tracks(grid_points(size, SIDE)), size=size),
            }
        entry = f"{method.name}/{clip.name}"
        return [
            Sample(reference, video, clip.prompts[item.kind], clip.name, entry, **exact)
            for item, video in videos.items()
        ]

    def _known(
        self,
        method: Method,
        clip: BenchmarkClip,
        item: Item,
        rows: Mapping[str, Row],
        errors: Iterable[str],
    ) -> dict[str, Any]:
        video = self.folder.video(item)
        source = method.entry(clip.name, item.kind)
        entry = self.folder.bank(method.bank) / "entries" / f"{source}.safetensors"
        flow = video.with_suffix(".safetensors")
        cost = {key: value for key, value in self.folder.cost(item).items() if key != "error"}
        before = (
            (self.folder.result(item) or {}) if rows else {}
        )  # keeps an earlier command's metrics

        def added(key: str, new: Mapping[str, Any]) -> dict[str, Any]:
            return {**before.get(key, {}), **new}

        return {
            "method": item.method,
            "clip": item.clip,
            "kind": item.kind,
            "prompt": clip.prompts[item.kind],
            "seed": self.seed,
            "video": video.name if video.exists() else None,
            "flow": flow.name if flow.exists() else None,
            **UNKNOWN_COST | cost,
            "entry_bytes": entry.stat().st_size if entry.exists() else 0,
            "zero_shot_from": method.zero_shot_from,
            "metrics": added("metrics", {name: row.value for name, row in rows.items()}),
            "instruments": added("instruments", {n: row.instrument for n, row in rows.items()}),
            "details": added("details", {name: row.details for name, row in rows.items()}),
            "error": " ".join(dict.fromkeys(errors)) or None,
        }

    def _complete(self, item: Item) -> bool:
        result = self.folder.result(item)
        return (
            result is not None
            and result["video"] is not None
            and self.metrics.keys() <= result["metrics"].keys()
        )

    @cached_property
    def _seeing(self) -> Model | None:
        return load_backbone(self.backbone, dtype=self.dtype) if self.backbone is not None else None

    def _write_flow(self, video: Path, frames: Tensor) -> None:
        """Write the displacement float16 (F-1, 2, H, W), in tokens, from each latent frame to the
        next: attention motion flow at time step 0.
        """
        if self._seeing is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a video that stands still
            motion = extract_motion(self._seeing, frames).cpu()
        grid = self._seeing.spec.compression.grid(self.size)
        flow = torch.stack(
            [motion[frame, frame + 1] for frame in range(grid.frames - 1)]
        ).mT.unflatten(-1, (grid.height, grid.width))
        with atomic_file(video.with_suffix(".safetensors")) as file:
            file.write(save({"flow": flow.half().contiguous()}))

    def release(self) -> None:
        """Free the memory of the backbone for another process."""
        self.__dict__.pop("_seeing", None)
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


def _rows(metric: Metric, samples: Sequence[Sample], fitted: Sequence[Sample]) -> list[Any]:
    """A row for each of `samples`. A metric of entries has one row for all of them and `fitted`,
    which belong to the same entry.
    """
    metric.reset()
    metric.update([*samples, *fitted] if metric.of_entries else samples)
    return metric.rows() * (len(samples) if metric.of_entries else 1)
