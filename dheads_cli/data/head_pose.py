"""How a head is turned, from its landmarks: yaw, pitch and roll in degrees.

A face far from the camera is seen by a scaled orthographic projection, [x, y] = s R[:2] X + t. s R[:2] is the least
squares map of the model's points onto the picture's (DeMenthon and Davis 1995, "Model-based object pose in 25 lines of
code", the first step of POS), R its nearest rotation. No camera has to be known for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.align import MEAN_FACE

if TYPE_CHECKING:
    from dheads_cli.protocols import Landmarks

# Points that the mouth does not move: the nose, the corners of the eyes.
RIGID_POINTS = [*range(27, 36), 36, 39, 42, 45]
# Their distance from the camera in widths of the mean face, the smaller the nearer: mean of MediaPipe's over 27 clips
# of the nine GRID speakers (each counting the same), turned upright as MEAN_FACE is and made symmetric. So 0 degrees is
# how these look at their camera on average.
DEPTH = [
    -0.1451, -0.2083, -0.2845, -0.2993, -0.1400, -0.1529, -0.1650, -0.1529, -0.1400, 0.0172, -0.0203, -0.0203, 0.0172,
]  # fmt: skip
MODEL: NDArray[np.float64] = np.column_stack([MEAN_FACE[RIGID_POINTS], DEPTH])  # x right, y down, z away


def head_pose(landmarks: Landmarks) -> NDArray[np.float64]:
    """Yaw, pitch and roll [F, 3] of faces [F, 68, 2] px, degrees.

    Yaw is positive where the face looks to the picture's right, pitch where it looks up, roll where it leans to the
    picture's right (clockwise).
    """
    points = landmarks[:, RIGID_POINTS].astype(np.float64)  # [F, P, 2]
    centred = points - points.mean(axis=1, keepdims=True)
    model = MODEL - MODEL.mean(axis=0)
    affine = np.swapaxes(np.linalg.pinv(model) @ centred, 1, 2)  # [F, 2, 3], s R[:2] and what does not fit
    u, _, v = np.linalg.svd(affine, full_matrices=False)
    right, down = np.moveaxis(u @ v, 1, 0)  # [F, 3] each: first two rows of R
    away = np.cross(right, down)  # the third
    # R = Rz(roll) Ry(-yaw) Rx(-pitch), so a turn of the picture changes roll alone.
    yaw = np.arcsin(np.clip(away[:, 0], -1, 1))
    pitch = -np.arctan2(away[:, 1], away[:, 2])
    roll = np.arctan2(down[:, 0], right[:, 0])
    angles: NDArray[np.float64] = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return angles
