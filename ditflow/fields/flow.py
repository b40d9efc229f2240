"""Optical flow between two frames, by OpenCV's DIS (Kroeger et al., ECCV 2016)."""

# C channels, Y X pixel rows and columns; displacements are (dx, dy) in pixels, x right, y down

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DOUBLED = 256  # pixels of the shorter side; smaller frames are measured at twice their size


def optical_flow(first: Tensor, second: Tensor) -> Tensor:
    """Measured displacement float32 (2, Y, X) in pixels between two frames, uint8 (C, Y, X).

    It is the median over the colour channels. Frames whose shorter side is below DOUBLED are read
    at twice their size.
    """
    import cv2
    import numpy as np

    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = first.shape[-2:]
    scale = 2 if min(height, width) < DOUBLED else 1
    before, after = (
        [_enlarged(c, scale) for c in frame.cpu().contiguous().numpy()] for frame in (first, second)
    )
    flows = [dis.calc(a, b, None) for a, b in zip(before, after, strict=True)]
    flow = np.median(np.stack(flows), axis=0)
    if scale > 1:
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / scale
    return torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1))).float()


def _enlarged(channel: Any, scale: int) -> Any:
    """A channel, uint8 (Y, X) of numpy, at so many times its size."""
    import cv2

    if scale == 1:
        return channel
    return cv2.resize(channel, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
