"""Extract the motion of a clip: as a model sees it, or as a field, by a source with a name."""

# T pixel frames, C channels, Y X pixel rows and columns, F latent frames, S tokens a frame

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

from torch import Tensor

from ditflow.core.given import check_kind
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.raft import raft_flow
from ditflow.fields.sources import DIS, ByAttention, ByFlow, ByTracks, Source, field_of
from ditflow.metrics.base import MetricError
from ditflow.metrics.trackers import CoTracker3, FrameTracker, LucasKanade
from ditflow.models import Model
from ditflow.models.presets import recommended
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.recipe import given_or
from ditflow.sampling.reference import reference_motion
from ditflow.sampling.state import clip_generator, initial_noise
from ditflow.video import Clip

SourceName = Literal["dis", "raft", "lucas-kanade", "cotracker3", "amf"]


def extract_motion(
    backbone: Model, frames: Tensor, signal: AttentionMotionFlow | None = None
) -> Tensor:
    """The motion of a video, uint8 (T, C, Y, X): its attention motion flow.

    Gives displacement (F, F, S, 2) of (dx, dy) in tokens, from frame i to frame j, x right and y
    down. `signal` None reads it at the recommended block. Raises ValueError where the video's size
    does not fit the backbone, and for a signal that looks at its reference anew at each step.
    """
    words = "a video's frames, uint8 (T, C, Y, X): of a Clip, its .frames"
    check_kind("extract_motion", frames, Tensor, words)
    backbone.spec.compression.check_motion(VideoSize(len(frames), *frames.shape[-2:]))
    if signal is not None and signal.looks.anew:
        raise ValueError(
            "extract_motion looks at a video once, and reference_timestep="
            f"{signal.looks.timestep!r} is the timestep of each guided step: give a timestep."
        )
    signal = given_or(signal, AttentionMotionFlow()).placed(recommended(backbone.spec).block)
    latents = backbone.encode(frames[None])
    noise = initial_noise(latents.shape[1:], [clip_generator("video", 0)], backbone.device)
    text, own = backbone.embed([""]), backbone.look(frames[:1], len(frames))
    seen = reference_motion(backbone, signal, latents, text, ["video"], noise=noise, picture=own)
    displacement: Tensor = seen.motion[0]
    return displacement


def extract_motion_field(
    clip: Clip, source: SourceName = "dis", backbone: Model | None = None
) -> MotionField:
    """The motion of a clip as a value that any backbone can use: see `MotionField`.

    It is measured by a `source`, as `source_of` says; amf alone needs a `backbone`. Raises
    FieldError for a source whose needs are missing. Warns and refuses clips as `field_of` says.
    """
    check_kind("extract_motion_field", clip, Clip, "a Clip, as read_video gives one")
    return field_of(clip.frames, source_of(source, backbone), clip.path.stem)


def source_of(name: str, backbone: Model | None = None) -> Source:
    """The source of motion fields of that name.

    "dis" and "raft" are optical flow, by OpenCV and by torchvision. "lucas-kanade" and "cotracker3"
    track points. "amf" is the motion that a backbone sees in a clip of a size that it takes. Raises
    FieldError where what it needs is not installed or not given.
    """
    match name:
        case "dis":
            return DIS
        case "raft":
            return ByFlow(name, raft_flow())
        case "lucas-kanade":
            return _by_tracks(LucasKanade())
        case "cotracker3":
            try:
                return _by_tracks(CoTracker3())
            except MetricError as error:
                raise FieldError(str(error)) from error
        case "amf":
            if backbone is None:
                raise FieldError(
                    "source 'amf' is the motion that a backbone sees, and none is given: give one "
                    "(`ditflow motion` takes `--backbone NAME`), or use source 'dis'."
                )
            look, compression = partial(extract_motion, backbone), backbone.spec.compression
            return ByAttention(f"amf of {backbone.spec.name}", look, compression)
    known = ", ".join(get_args(SourceName))
    raise FieldError(f"unknown source {name!r} of a motion field; there are {known}.")


def _by_tracks(tracker: FrameTracker) -> Source:
    def track(frames: Tensor) -> tuple[Tensor, Tensor]:
        tracks = tracker(frames)
        return tracks.positions, tracks.seen

    return ByTracks(tracker.name, track)
