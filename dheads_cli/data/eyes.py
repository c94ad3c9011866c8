"""How far eyes are open, from landmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dheads_cli.protocols import Landmarks

EYES = (36, 42)  # the first of each eye's six points: outer corner, two above, inner corner, two below


def eye_aspect_ratio(landmarks: Landmarks) -> NDArray[np.float64]:
    """Mean of both eyes' aspect ratios; [F, 68, 2] -> float64 [F], NaN without a face."""
    mean: NDArray[np.float64] = np.mean(eye_aspect_ratios(landmarks), axis=1)
    return mean


def eye_aspect_ratios(landmarks: Landmarks) -> NDArray[np.float64]:
    """Mean height over width of the eye on the picture's left and of that on its right; [F, 68, 2] -> float64 [F, 2].

    Soukupova and Cech 2016, "Real-time eye blink detection using facial landmarks". NaN without a face.
    """
    ratios = []
    for first in EYES:
        outer, upper_1, upper_2, inner, lower_2, lower_1 = np.moveaxis(
            landmarks[:, first : first + 6].astype(np.float64), 1, 0
        )
        heights = np.linalg.norm(upper_1 - lower_1, axis=1) + np.linalg.norm(upper_2 - lower_2, axis=1)
        width = np.linalg.norm(outer - inner, axis=1)
        ratios.append(heights / (2 * np.where(width > 0, width, np.nan)))
    return np.stack(ratios, axis=1)
