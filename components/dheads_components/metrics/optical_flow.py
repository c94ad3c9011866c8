"""Farneback's optical flow with the settings of the paper's OFM: `liveliness` and `smoothness` read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames

FLOW_PX = 128  # frames are resized to this height first, so that px a frame mean the same for all
FARNEBACK = (0.5, 7, 5, 15, 5, 1.2, 0)  # pyramid scale, levels, window, iterations, poly_n, poly_sigma, flags


def flow_magnitudes(frames: Frames) -> Iterator[NDArray[np.float32]]:
    """Magnitude of the optical flow from each frame to the next: float32 [FLOW_PX, W'], px a frame at that height.

    Args:
        frames: uint8 RGB [F, H, W, 3].
    """
    scale = FLOW_PX / frames.shape[1]
    size = (round(frames.shape[2] * scale), FLOW_PX)
    before: NDArray[np.uint8] | None = None
    for frame in frames:
        resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        gray = np.asarray(cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        if before is not None:
            flow = cv2.calcOpticalFlowFarneback(before, gray, np.zeros((*gray.shape, 2), np.float32), *FARNEBACK)
            yield np.linalg.norm(flow, axis=-1)
        before = gray
