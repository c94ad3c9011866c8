"""Where the face and the mouth are in the frames of an aligned clip: one box for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.align import has_face

if TYPE_CHECKING:
    from dheads_cli.protocols import Landmarks

ALL, MOUTH = slice(0, 68), slice(48, 68)
UNDER_NOSE, LOWER_JAW = 33, slice(4, 13)  # the nose's lowest point; the jaw below the cheeks

Box = tuple[slice, slice]  # rows and columns


def mean_place(landmarks: Landmarks) -> NDArray[np.float64] | None:
    """Mean landmarks over the frames with a face, float64 [68, 2] px; None where no frame has one."""
    seen = has_face(landmarks)
    return landmarks[seen].astype(np.float64).mean(axis=0) if seen.any() else None


def mean_box(landmarks: Landmarks, shape: tuple[int, ...], points: slice = ALL) -> Box | None:
    """Bounding box of some points' mean places over the frames with a face, within the frame.

    Args:
        landmarks: [F, 68, 2] px, NaN where there is no face.
        shape: of the frames, [F, H, W, 3].
        points: of the 68.

    Returns:
        Rows and columns; None where no frame has a face, or nothing of it lies in the frame.
    """
    mean = mean_place(landmarks)
    return None if mean is None else _box(mean[points], shape)


def speaking_box(landmarks: Landmarks, shape: tuple[int, ...]) -> Box | None:
    """What speech moves: from under the nose to the frame's bottom, as wide as the jaw; None with nothing above."""
    mean = mean_place(landmarks)
    box = None if mean is None else _box(np.vstack([mean[UNDER_NOSE], mean[LOWER_JAW], mean[MOUTH]]), shape)
    return None if box is None or not box[0].start else (slice(box[0].start, shape[1]), box[1])


def _box(points: NDArray[np.float64], shape: tuple[int, ...]) -> Box | None:
    size = np.array([shape[2], shape[1]])
    (left, top), (right, bottom) = np.clip([np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))], 0, size)
    empty = left >= right or top >= bottom
    return None if empty else (slice(int(top), int(bottom)), slice(int(left), int(right)))
