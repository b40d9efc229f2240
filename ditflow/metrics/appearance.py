"""Appearance metrics: does a video show its prompt in every frame, without copying its reference?

All are cosines in the embedding space of a CLIP, neither scaled nor cut at 0. A real CLIP gives .2
to .35 between images and texts, where differences below .002 are noise.
"""

# T frames, E embedding; the vectors of an Embedder have length 1
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.metrics.base import Embedder, MetricError, check_frames


def prompt_fidelity(clip: Embedder, frames: Tensor, prompt: str) -> float:
    """Mean cosine between a prompt and the frames of a video, uint8 (T, C, Y, X).

    The DiTFlow paper calls this "IQ". Raises MetricError if the prompt is empty.
    """
    if not prompt.strip():
        raise MetricError(
            "prompt fidelity needs the prompt that the video was made for, but it is empty. "
            "Give the sample its prompt."
        )
    return float((_images(clip, frames) @ clip.texts([prompt])[0]).mean())


def temporal_consistency(clip: Embedder, frames: Tensor) -> float:
    """Mean cosine between consecutive frames of a video, uint8 (T, C, Y, X).

    Raises MetricError if the video has a single frame.
    """
    images = _images(clip, frames)
    if len(images) < 2:
        raise MetricError(
            "temporal consistency compares each frame with the next, "
            "but the video has one frame; give at least 2."
        )
    return float((images[1:] * images[:-1]).sum(-1).mean())


def appearance(clip: Embedder, frames: Tensor) -> Tensor:
    """Embedding of how a video looks, whatever moves in it: the mean of its frames, of length 1.

    Takes frames uint8 (T, C, Y, X) and gives a tensor (E,).
    """
    return functional.normalize(_images(clip, frames).mean(0), dim=0)


def appearance_leakage(clip: Embedder, reference: Tensor, generated: Tensor) -> float:
    """Cosine between the appearances of two videos, 1 if they look alike.

    A high value is no fault where the prompt describes the reference.
    """
    return float(appearance(clip, reference) @ appearance(clip, generated))


def diversity(clip: Embedder, videos: Sequence[Tensor]) -> float:
    """Mean of 1 - cosine over all pairs of an entry's videos, 0 if all look alike.

    Raises MetricError for fewer than two videos.
    """
    return appearance_diversity(
        torch.stack([appearance(clip, video) for video in videos]) if videos else torch.empty(0, 1)
    )


def appearance_diversity(appearances: Tensor) -> float:
    """`diversity` of videos whose appearances (videos, E) are known."""
    count = len(appearances)
    if count < 2:
        raise MetricError(
            f"diversity compares the videos of one entry with each other, but there is {count}; "
            "make videos for at least 2 prompts."
        )
    pairs = torch.triu_indices(count, count, 1)
    return float((1 - (appearances[pairs[0]] * appearances[pairs[1]]).sum(-1)).mean())


def _images(clip: Embedder, frames: Tensor) -> Tensor:
    check_frames(frames)
    return clip.images(frames)
