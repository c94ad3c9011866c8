"""Landmark distance, of the whole face and of the mouth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
        ours, real = clip.landmarks, reference.landmarks
        seen = np.isfinite(ours).all(axis=(1, 2)) & np.isfinite(real).all(axis=(1, 2))
        if not seen.any():
            return {"LMD note": "no frame has a face in both clips: left out of LMD"}
        lmd = landmark_distance(ours[seen], real[seen])
        mouth_lmd = landmark_distance(ours[seen][:, MOUTH], real[seen][:, MOUTH])
        self._clips.append((lmd, mouth_lmd))
        return {"LMD [px]": lmd, "M-LMD [px]": mouth_lmd}

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
