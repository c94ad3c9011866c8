"""The paper's two measures of smoothness, OFM and F-MSE: as they are defined, and as its numbers were made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_components.metrics.optical_flow import flow_magnitudes

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Frames

MIN_FRAMES = 2


class Smoothness:
    """Motion over the whole picture of one clip by itself: read a row against the ground-truth row.

    OFM [px]: mean magnitude of Farneback's optical flow from frame to frame (`optical_flow.py`), in px a frame at
        128 px. 0: a still.
    F-MSE: mean squared difference of successive frames, 0 ... 255 values, over pixels, channels and pairs. 0: a still.
    OFM as released, F-MSE as released: what the authors' scripts make of the two, which is what the paper's table
        holds. Only for comparing with that table: see `jet_level` and `wrapped_squares` for what is odd in them.

    The camera's noise and the background are in all four; `liveliness` has the flow of the face alone.
    """

    weights = ""

    def __init__(self) -> None:
        self._clips: list[dict[str, float]] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """OFM and F-MSE of one clip."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> dict[str, float]:
        """The values; none of a single frame."""
        if len(clip.frames) < MIN_FRAMES:
            return {}
        flows = [(float(magnitude.mean()), jet_level(magnitude)) for magnitude in flow_magnitudes(clip.frames)]
        squares = list(squared_differences(clip.frames))
        true_flow, flow_as_released = np.mean(flows, axis=0)
        true_squares, squares_as_released = np.mean(squares, axis=0)
        return {
            "OFM [px]": float(true_flow),
            "OFM as released": float(flow_as_released),
            "F-MSE": float(true_squares),
            "F-MSE as released": float(squares_as_released),
        }

    def add(self, measured: dict[str, float]) -> dict[str, float | str]:
        """Take a clip's values in."""
        if not measured:
            return {"smoothness note": "a single frame: left out of smoothness"}
        self._clips.append(measured)
        return {**measured}

    def compute(self) -> dict[str, float]:
        """Means over clips."""
        if not self._clips:
            return {}
        return {name: float(np.mean([clip[name] for clip in self._clips])) for name in self._clips[0]}


def jet_level(magnitude: NDArray[np.float32]) -> float:
    """Mean colour level, 0 ... 255, of a flow's magnitude [H, W] in OpenCV's JET, after stretching it to 0 ... 255.

    Each flow is stretched by its own lowest and highest magnitude, so the level tells how flow is spread over the
    picture, not how much of it there is: the colour of no flow alone, (128, 0, 0), gives 42.7.
    """
    stretched = np.zeros_like(magnitude)
    cv2.normalize(magnitude, stretched, 0, 255, cv2.NORM_MINMAX)
    return float(cv2.applyColorMap(stretched.astype(np.uint8), cv2.COLORMAP_JET).mean())


def squared_differences(frames: Frames) -> Iterator[tuple[float, float]]:
    """(true, as released) mean squared difference of each frame to the next, over pixels and channels."""
    for before, after in pairwise(frames):
        difference = after.astype(np.int32) - before
        yield float(np.square(difference).mean()), wrapped_squares(difference)


def wrapped_squares(difference: NDArray[np.int32]) -> float:
    """Mean of squares as 8 bits hold them: d^2 mod 256, so that a difference of 16 counts as none."""
    return float((np.square(difference) % 256).mean())
