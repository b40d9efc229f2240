"""Motion signals by name."""

from __future__ import annotations

from ditflow.motion.amf import AttentionMotionFlow
from ditflow.motion.base import MotionSignal

SIGNALS: dict[str, type[MotionSignal]] = {AttentionMotionFlow.name: AttentionMotionFlow}

__all__ = ["SIGNALS", "AttentionMotionFlow", "MotionSignal"]
