"""Motion transfer for video diffusion transformers: take the motion of a clip, give it to new
videos.

    backbone = ditflow.load_backbone("tiny-rope")
    clip = ditflow.read_video("clip.mp4", frames=25, size=(64, 64))
    transfer = ditflow.transfer_motion(backbone, clip, "red clouds")  # .frames and .entry
    frames = ditflow.inject_motion(backbone, transfer.entry, "blue clouds", seed=1)

Importing this imports nothing else: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ditflow.adapters.stock import fit_motion, load_motion, unload_motion
    from ditflow.bank import MotionBank
    from ditflow.citations import cite
    from ditflow.compatibility import Injection
    from ditflow.extraction import extract_motion, extract_motion_field
    from ditflow.fields import MotionField
    from ditflow.injection_provenance import describe_injection
    from ditflow.models import load_backbone
    from ditflow.transfer import inject_motion, transfer_motion
    from ditflow.video import read_image, read_video, write_video
    from ditflow.video_provenance import VideoProvenance, read_provenance

__version__ = "0.1.0"

_HOMES = {
    "Injection": "ditflow.compatibility",
    "MotionBank": "ditflow.bank",
    "MotionField": "ditflow.fields",
    "VideoProvenance": "ditflow.video_provenance",
    "cite": "ditflow.citations",
    "describe_injection": "ditflow.injection_provenance",
    "extract_motion": "ditflow.extraction",
    "extract_motion_field": "ditflow.extraction",
    "fit_motion": "ditflow.adapters.stock",
    "inject_motion": "ditflow.transfer",
    "load_backbone": "ditflow.models",
    "load_motion": "ditflow.adapters.stock",
    "read_image": "ditflow.video",
    "read_provenance": "ditflow.video_provenance",
    "read_video": "ditflow.video",
    "transfer_motion": "ditflow.transfer",
    "unload_motion": "ditflow.adapters.stock",
    "write_video": "ditflow.video",
}

__all__ = [
    "Injection",
    "MotionBank",
    "MotionField",
    "VideoProvenance",
    "__version__",
    "cite",
    "describe_injection",
    "extract_motion",
    "extract_motion_field",
    "fit_motion",
    "inject_motion",
    "load_backbone",
    "load_motion",
    "read_image",
    "read_provenance",
    "read_video",
    "transfer_motion",
    "unload_motion",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
