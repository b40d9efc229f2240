"""Metrics of a generated video: how it moves, what it shows, and what it took from its reference.

Read `base.py` first. Each metric is a function of tensors. A class of the same name in `METRICS`
calls the function for each sample and keeps one row a sample over all processes of a run. The
classes are loaded at their first use, because torchmetrics is slow to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ditflow.fields.flow import optical_flow
from ditflow.metrics.appearance import (
    appearance_leakage,
    diversity,
    prompt_fidelity,
    temporal_consistency,
)
from ditflow.metrics.base import MetricError, Row, Sample, Tracker, Tracks
from ditflow.metrics.clip import ClipModel, load_clip
from ditflow.metrics.motion_cosine import (
    flow_cosine,
    measured_flows,
    motion_cosine,
    motion_pairs,
)
from ditflow.metrics.motion_fidelity import motion_fidelity
from ditflow.metrics.trackers import TRACKERS, load_tracker
from ditflow.metrics.trajectories import frechet_trajectory_distance, hybrid_motion_fidelity

if TYPE_CHECKING:
    from ditflow.metrics.shell import Metric
    from ditflow.metrics.table import METRICS, make_metrics

_LATER = {
    "METRICS": "ditflow.metrics.table",
    "Metric": "ditflow.metrics.shell",
    "make_metrics": "ditflow.metrics.table",
}

__all__ = [
    "METRICS",
    "TRACKERS",
    "ClipModel",
    "Metric",
    "MetricError",
    "Row",
    "Sample",
    "Tracker",
    "Tracks",
    "appearance_leakage",
    "diversity",
    "flow_cosine",
    "frechet_trajectory_distance",
    "hybrid_motion_fidelity",
    "load_clip",
    "load_tracker",
    "make_metrics",
    "measured_flows",
    "motion_cosine",
    "motion_fidelity",
    "motion_pairs",
    "optical_flow",
    "prompt_fidelity",
    "temporal_consistency",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
