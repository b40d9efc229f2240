"""Video diffusion transformers: one file a family, behind one base class. Read `base.py` first."""

from ditflow.models.base import Model, ModelError, ModelSpec
from ditflow.models.registry import MODELS, backbone_spec, load_backbone, sketch_backbone

__all__ = [
    "MODELS",
    "Model",
    "ModelError",
    "ModelSpec",
    "backbone_spec",
    "load_backbone",
    "sketch_backbone",
]
