"""Sharpness of generated faces as a share of the real ones'."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_components.metrics.face_box import ALL, MOUTH, Box, mean_box

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Frames

FLAT = 1e-9  # variance of a Laplacian below which a real picture has no detail to compare with


class Sharpness:
    """Variance of the Laplacian of a generated clip's faces over that of the real clip's; no unit.

    The focus measure of Pech-Pacheco et al. 2000 ("Diatom autofocusing in brightfield microscopy", LAPV): the frame in
    gray, the 4-neighbour Laplacian of it, and its variance within the face, meant over the clip's frames. Both clips
    are measured in the same box, that of the real clip's mean landmarks, at the size the frames have. 1: as sharp as
    the real clip; 0: no detail at all; above 1: noise or ringing, which a Laplacian can't tell from detail. A generated
    frame has been through the video encoder, which a real crop has been through at a finer setting.
    """

    weights = ""

    def __init__(self) -> None:
        self._clips: list[dict[str, float]] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """Sharpness of one clip, on the face and on the mouth."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> dict[str, float] | str:
        """The values, or why there are none."""
        values = {}
        for name, points in (("sharpness", ALL), ("mouth sharpness", MOUTH)):
            box = mean_box(reference.landmarks, reference.frames.shape, points)
            if box is None:
                return "the real clip has no frame with a face: left out of sharpness"
            real = float(laplacian_variance(reference.frames, box).mean())
            if real < FLAT:
                return "the real clip's face is flat: left out of sharpness"
            values[name] = float(laplacian_variance(clip.frames, box).mean()) / real
        return values

    def add(self, measured: dict[str, float] | str) -> dict[str, float | str]:
        """Take a clip's values in."""
        if isinstance(measured, str):
            return {"sharpness note": measured}
        self._clips.append(measured)
        return {**measured}

    def compute(self) -> dict[str, float]:
        """Mean and lowest over clips."""
        if not self._clips:
            return {}
        faces, mouths = ([clip[name] for clip in self._clips] for name in self._clips[0])
        return {
            "sharpness": float(np.mean(faces)),
            "sharpness min": float(np.min(faces)),
            "mouth sharpness": float(np.mean(mouths)),
        }


def laplacian_variance(frames: Frames, box: Box) -> NDArray[np.float64]:
    """Variance of the Laplacian of each frame's gray values 0 ... 255 within a box: float64 [F]."""
    variances = []
    for frame in frames:
        gray = cv2.cvtColor(frame.astype(np.float32), cv2.COLOR_RGB2GRAY)
        variances.append(float(cv2.Laplacian(gray, cv2.CV_32F, ksize=1)[box].var(dtype=np.float64)))
    return np.array(variances)
