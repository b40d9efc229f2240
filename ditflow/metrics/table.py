"""All metrics as torchmetrics classes, by name; `make_metrics` gives them their instruments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ditflow.metrics.appearance import (
    appearance,
    appearance_diversity,
    appearance_leakage,
    prompt_fidelity,
    temporal_consistency,
)
from ditflow.metrics.base import (
    Embedder,
    MetricError,
    Row,
    Sample,
    Tracker,
    Tracks,
    check_extent,
    check_videos,
)
from ditflow.metrics.clip import ClipModel, load_clip
from ditflow.metrics.motion_cosine import measured_flows, motion_cosine
from ditflow.metrics.motion_fidelity import motion_fidelity, published_motion_fidelity
from ditflow.metrics.shell import Measured, Metric
from ditflow.metrics.trackers import load_tracker
from ditflow.metrics.trajectories import (
    frechet_trajectory_distance,
    hybrid_motion_fidelity,
    hybrid_motion_fidelity_code,
)


class TrackMetric(Metric):
    """A metric of the tracks of two videos. `tracker` is a tracker or its name."""

    def __init__(self, tracker: str | Tracker = "lucas-kanade") -> None:
        super().__init__()
        self.tracker = load_tracker(tracker) if isinstance(tracker, str) else tracker

    @property
    def instrument(self) -> str:
        return self.tracker.name

    def measure(self, sample: Sample) -> Measured:
        check_videos(sample)
        reference, generated = self.tracker.pair(sample)
        counts = reference.counts("reference") | generated.counts("generated")
        undefined = {"undefined_steps": reference.unmoved() + generated.unmoved()}
        return self.compare(reference, generated), counts | undefined

    @abstractmethod
    def compare(self, reference: Tracks, generated: Tracks) -> float:
        """The value for the tracks of two videos."""


class MotionFidelity(TrackMetric):
    label = "Motion fidelity"

    def compare(self, reference: Tracks, generated: Tracks) -> float:
        return motion_fidelity(reference, generated)


class MotionFidelitySpeed(TrackMetric):
    label = "Motion fidelity (speed)"

    def compare(self, reference: Tracks, generated: Tracks) -> float:
        return motion_fidelity(reference, generated, speed=True)


class MotionFidelityPublished(TrackMetric):
    """The number of the published code, but defined where that gives NaN.

    Steps that stand exactly still make the published number NaN. Here they count 0, and the row's
    `undefined_steps` says how many there are.
    """

    label = "Motion fidelity (published)"

    def compare(self, reference: Tracks, generated: Tracks) -> float:
        return published_motion_fidelity(reference.positions, generated.positions, skip=True)


class FrechetTrajectoryDistance(TrackMetric):
    label, better = "Fréchet trajectory distance", "lower"

    def compare(self, reference: Tracks, generated: Tracks) -> float:
        return frechet_trajectory_distance(reference, generated)


class HybridMotionFidelity(TrackMetric):
    label = "Hybrid motion fidelity"

    def compare(self, reference: Tracks, generated: Tracks) -> float:
        return hybrid_motion_fidelity(reference, generated)


class HybridMotionFidelityCode(TrackMetric):
    """The number of the published code, but defined where that gives NaN.

    Steps that stand exactly still count 0, and the row's `undefined_steps` says how many there are.
    """

    label = "Hybrid motion fidelity (code)"

    def compare(self, reference: Tracks, generated: Tracks) -> float:
        return hybrid_motion_fidelity_code(reference, generated, skip=True)


class MotionCosine(Metric):
    """Motion cosine against the sample's exact displacements, or measured ones if it has none."""

    label, instrument = "Motion cosine", "optical flow"

    def measure(self, sample: Sample) -> Measured:
        check_videos(sample)
        check_extent(_extent(sample.reference), _extent(sample.generated))
        flows = measured_flows(sample.reference) if sample.flows is None else sample.flows
        return motion_cosine(flows, sample.generated), {"exact": float(sample.flows is not None)}


class ClipMetric(Metric):
    """A metric in the embedding space of a CLIP. `clip` is a CLIP or its name."""

    def __init__(self, clip: str | Embedder = "tiny-clip") -> None:
        super().__init__()
        self.clip = load_clip(clip) if isinstance(clip, str) else clip

    @property
    def instrument(self) -> str:
        return f"CLIP {self.clip.name}"


class PromptFidelity(ClipMetric):
    label = "Prompt fidelity"

    def measure(self, sample: Sample) -> Measured:
        return prompt_fidelity(self.clip, sample.generated, sample.prompt), {}


class TemporalConsistency(ClipMetric):
    label = "Temporal consistency"

    def measure(self, sample: Sample) -> Measured:
        return temporal_consistency(self.clip, sample.generated), {}


class AppearanceLeakage(ClipMetric):
    label, better = "Appearance leakage", "lower"

    def measure(self, sample: Sample) -> Measured:
        return appearance_leakage(self.clip, sample.reference, sample.generated), {}


class Diversity(ClipMetric):
    """Diversity of the videos of each entry, with one row an entry.

    The videos of an entry may come one by one, and to different processes. The appearance of each
    is kept.
    """

    label, of_entries = "Diversity", True

    def measure(self, sample: Sample) -> Measured:
        raise MetricError(
            "diversity is of several videos, not of one; "
            "add all videos of an entry with `update` and read `rows`."
        )

    def record(self, sample: Sample) -> dict[str, Any]:
        names = {"clip": sample.clip, "entry": sample.entry or sample.clip, "error": None}
        try:
            return names | {"appearance": appearance(self.clip, sample.generated).tolist()}
        except MetricError as error:
            return names | {"appearance": None, "error": str(error)}

    def read(self, records: list[dict[str, Any]]) -> list[Row]:
        entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for record in records:
            entries.setdefault((record["clip"], record["entry"]), []).append(record)
        return [self._entry_row(clip, entry, videos) for (clip, entry), videos in entries.items()]

    def _entry_row(self, clip: str, entry: str, videos: list[dict[str, Any]]) -> Row:
        appearances = [video["appearance"] for video in videos if video["appearance"] is not None]
        details = {
            "videos": float(len(appearances)),
            "failed": float(len(videos) - len(appearances)),
        }
        try:
            value = appearance_diversity(torch.tensor(appearances))
        except MetricError as error:
            return Row(clip, "", entry, self.instrument, None, f"entry {entry!r}: {error}", details)
        return Row(clip, "", entry, self.instrument, value, None, details)


METRICS: dict[str, type[Metric]] = {
    "motion_fidelity": MotionFidelity,
    "motion_fidelity_speed": MotionFidelitySpeed,
    "motion_fidelity_published": MotionFidelityPublished,
    "frechet_trajectory_distance": FrechetTrajectoryDistance,
    "hybrid_motion_fidelity": HybridMotionFidelity,
    "hybrid_motion_fidelity_code": HybridMotionFidelityCode,
    "motion_cosine": MotionCosine,
    "prompt_fidelity": PromptFidelity,
    "temporal_consistency": TemporalConsistency,
    "appearance_leakage": AppearanceLeakage,
    "diversity": Diversity,
}


def make_metrics(
    names: Sequence[str] = tuple(METRICS),
    *,
    tracker: str | Tracker = "lucas-kanade",
    clip: str | ClipModel = "tiny-clip",
) -> dict[str, Metric]:
    """Metrics by name, which share one tracker and one CLIP.

    A tracker or CLIP that no metric needs is not loaded. Raises MetricError for an unknown name,
    and for a tracker or CLIP that cannot be loaded.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise MetricError(f"unknown metric {unknown[0]!r}; there are {', '.join(METRICS)}.")
    kinds = {name: METRICS[name] for name in names}
    if any(issubclass(kind, TrackMetric) for kind in kinds.values()):
        tracker = load_tracker(tracker) if isinstance(tracker, str) else tracker
    if any(issubclass(kind, ClipMetric) for kind in kinds.values()):
        clip = load_clip(clip) if isinstance(clip, str) else clip
    return {name: _made(kind, tracker, clip) for name, kind in kinds.items()}


def _made(kind: type[Metric], tracker: str | Tracker, clip: str | ClipModel) -> Metric:
    if issubclass(kind, TrackMetric):
        return kind(tracker)
    return kind(clip) if issubclass(kind, ClipMetric) else kind()


def _extent(frames: Tensor) -> tuple[int, ...]:
    return frames.shape[0], *frames.shape[2:]
