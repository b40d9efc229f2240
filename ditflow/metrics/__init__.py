"""Metrics: how closely a generated video moves like its reference."""

from ditflow.metrics.motion_cosine import flow_cosine, measured_flows, motion_cosine, motion_pairs, optical_flow

__all__ = ["flow_cosine", "measured_flows", "motion_cosine", "motion_pairs", "optical_flow"]
