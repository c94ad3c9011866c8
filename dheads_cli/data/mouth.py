"""How far a mouth is open, frame by frame, and how two such traces go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dheads_cli.protocols import Landmarks

UPPER, LOWER = [61, 62, 63], [67, 66, 65]  # inner lip, each upper point above its lower one
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
MIN_FRAMES = 5  # known in both traces: fewer give no correlation worth the name
STILL = 1e-5  # standard deviation of the opening below which a mouth does not move, in interocular distances


def mouth_opening(landmarks: Landmarks | NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean height of the inner lips' opening over the interocular distance.

    Args:
        landmarks: [F, 68, 2] px of an upright face.

    Returns:
        float64 [F]; NaN where there is no face.
    """
    points = landmarks.astype(np.float64)
    height = (points[:, LOWER, 1] - points[:, UPPER, 1]).mean(axis=1)
    eyes = points[:, RIGHT_EYE].mean(axis=1) - points[:, LEFT_EYE].mean(axis=1)
    distance = np.linalg.norm(eyes, axis=1)
    opening: NDArray[np.float64] = height / np.where(distance > 0, distance, np.nan)
    return opening


def shifted(
    opening: NDArray[np.float64], real: NDArray[np.float64], lag: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pair frame k + lag of one trace with frame k of another; only frames that both have."""
    n_frames = len(opening)
    return opening[max(lag, 0) : n_frames + min(lag, 0)], real[max(-lag, 0) : n_frames - max(lag, 0)]


def pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Correlation over the frames where both are known; 0 where there are too few, or one does not vary."""
    seen = np.isfinite(a) & np.isfinite(b)
    a, b = a[seen], b[seen]
    if len(a) < MIN_FRAMES or a.std() < STILL or b.std() < STILL:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
