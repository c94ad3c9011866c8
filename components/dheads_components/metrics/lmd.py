"""Landmark distance, of the whole face and of the mouth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.align import has_face

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Landmarks

MOUTH = slice(48, 68)


class LMD:
    """Mean L2 distance of generated from real landmarks, each set moved to its own mean first (px of the frames).

    LMD is over all 68 points, M-LMD over the mouth's 48 ... 67 around the mouth's mean. Frames without a face in either
    clip are left out; a clip without any other is left out of the mean, and says so.
    """

    weights = ""

    def __init__(self) -> None:
        self._clips: list[tuple[float, float]] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """LMD and M-LMD of one clip."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> tuple[float, float] | None:
        """LMD and M-LMD; None where no frame has a face in both clips."""
        ours, real = clip.landmarks, reference.landmarks
        seen = has_face(ours) & has_face(real)
        if not seen.any():
            return None
        return (
            landmark_distance(ours[seen], real[seen]),
            landmark_distance(ours[seen][:, MOUTH], real[seen][:, MOUTH]),
        )

    def add(self, measured: tuple[float, float] | None) -> dict[str, float | str]:
        """Take a clip's distances in."""
        if measured is None:
            return {"LMD note": "no frame has a face in both clips: left out of LMD"}
        self._clips.append(measured)
        return {"LMD [px]": measured[0], "M-LMD [px]": measured[1]}

    def compute(self) -> dict[str, float]:
        """Means over clips."""
        if not self._clips:
            return {}
        lmd, mouth_lmd = np.mean(self._clips, axis=0)
        return {"LMD [px]": float(lmd), "M-LMD [px]": float(mouth_lmd)}


def landmark_distance(a: Landmarks, b: Landmarks) -> float:
    """[F, P, 2] px each -> mean over frames and points of |(a - mean a) - (b - mean b)|, means over the frame's P."""
    return float(np.linalg.norm(_centred(a) - _centred(b), axis=-1).mean())


def _centred(points: Landmarks) -> NDArray[np.float64]:
    precise = points.astype(np.float64)
    centred: NDArray[np.float64] = precise - precise.mean(axis=1, keepdims=True)
    return centred
