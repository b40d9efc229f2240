"""Video diffusion transformers: one file a family, behind one base class. Read `base.py` first."""

from ditflow.models.base import Model, ModelError, ModelSpec
from ditflow.models.registry import (
    MODELS,
    backbone_spec,
    load_backbone,
    plan_backbone,
    sketch_backbone,
)
from ditflow.models.weights.work import Work

__all__ = [
    "MODELS",
    "Model",
    "ModelError",
    "ModelSpec",
    "Work",
    "backbone_spec",
    "load_backbone",
    "plan_backbone",
    "sketch_backbone",
]
