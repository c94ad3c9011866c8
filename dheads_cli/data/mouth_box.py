"""The mouth's box as a mask, inside which a training step weighs errors more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOUTH = slice(48, 68)  # of 68 landmarks


def mouth_mask(landmarks: NDArray[np.float32], size: int, margin: float) -> NDArray[np.float32]:
    """The mouth box of a target frame's landmarks [68, 2] as a mask [1, size, size]; margin is a share of the width."""
    return mouth_box_mask(landmarks[MOUTH], size, size, round(margin * size))


def mouth_box_mask(mouth: NDArray[np.float32], height: int, width: int, margin_px: int) -> NDArray[np.float32]:
    """The bounding box of a mouth's points, floored and ceiled, and grown, as a mask [1, H, W] of 1 and 0.

    Args:
        mouth: points [P, 2] (x, y), px; where one is NaN there is no box.
        height: px.
        width: px.
        margin_px: growth on each side.
    """
    mask = np.zeros((1, height, width), np.float32)
    if np.isnan(mouth).any():
        return mask
    left, top = np.floor(mouth.min(axis=0)).astype(int) - margin_px
    right, bottom = np.ceil(mouth.max(axis=0)).astype(int) + margin_px
    mask[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    return mask
