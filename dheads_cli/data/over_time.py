"""What follows a clip second by second: its whole seconds, and how sure a mean over several clips is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


def whole_seconds(n_frames: int, fps: float) -> list[tuple[int, int]]:
    """First frame, and the one past the last, of each whole second."""
    return [(round(second * fps), round((second + 1) * fps)) for second in range(int(n_frames / fps))]


def student_half_width(values: NDArray[np.float64]) -> float:
    """Half the width of Student's 95 % interval of a mean over values [N >= 2] that know nothing of each other."""
    from scipy.special import stdtrit

    return float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
