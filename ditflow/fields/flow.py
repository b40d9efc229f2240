"""Optical flow between two frames, by OpenCV's DIS (Kroeger et al., ECCV 2016)."""

# C channels, Y X pixel rows and columns; displacements are (dx, dy) in pixels, x right, y down

from __future__ import annotations

import torch
from torch import Tensor

DOUBLED = 256  # pixels of the shorter side; smaller frames are measured at twice their size


def optical_flow(first: Tensor, second: Tensor) -> Tensor:
    """Measured displacement float32 (2, Y, X) in pixels between two frames, uint8 (C, Y, X).

    It is the median over the colour channels, at twice the resolution.
    """
    import cv2
    import numpy as np

    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = first.shape[-2:]
    doubled = [
        [
            cv2.resize(c, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
            for c in frame.cpu().contiguous().numpy()
        ]
        for frame in (first, second)
    ]
    flows = [dis.calc(before, after, None) for before, after in zip(*doubled, strict=True)]
    flow = (
        cv2.resize(
            np.median(np.stack(flows), axis=0), (width, height), interpolation=cv2.INTER_AREA
        )
        / 2
    )
    return torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1))).float()
