"""Motion signals by name."""

from __future__ import annotations

from typing import Any

from ditflow.motion.amf import AttentionMotionFlow
from ditflow.motion.base import MotionSignal, Subject, View, Words
from ditflow.motion.moft import MotionFeature
from ditflow.motion.motionclone import MotionClone
from ditflow.motion.motionflow import MotionFlow
from ditflow.motion.smm import SpatialMarginalMean

SIGNALS: dict[str, type[MotionSignal[Any]]] = {
    signal.name: signal
    for signal in (AttentionMotionFlow, SpatialMarginalMean, MotionFeature, MotionClone, MotionFlow)
}

__all__ = [
    "SIGNALS",
    "AttentionMotionFlow",
    "MotionClone",
    "MotionFeature",
    "MotionFlow",
    "MotionSignal",
    "SpatialMarginalMean",
    "Subject",
    "View",
    "Words",
]
