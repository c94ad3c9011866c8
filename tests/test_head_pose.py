"""Head pose: the model turned by known angles, and a real face mirrored and rolled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.head_pose import MODEL, RIGID_POINTS, head_pose
from dheads_components.landmark_detectors.mediapipe import MediaPipe

GRID = Path(__file__).parent / "data/grid"


def turned(yaw: float, pitch: float, roll: float) -> NDArray[np.float32]:
    """Landmarks [1, 68, 2] of the model seen from afar: pitched up, then turned to the right, then rolled clockwise."""
    y, p, r = np.radians([-yaw, -pitch, roll])
    x_axis = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    y_axis = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    z_axis = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    points = np.zeros((1, 68, 2), np.float32)
    points[0, RIGID_POINTS] = (MODEL @ (z_axis @ y_axis @ x_axis).T)[:, :2] * 150 + 200
    return points


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 0, 0), (0, 15, 0), (0, 0, -30), (-20, 10, 12)])
def test_known_turns_come_back(angles: tuple[float, float, float]) -> None:
    assert head_pose(turned(*angles))[0] == pytest.approx(angles, abs=0.01)


def test_signs_are_the_picture_s() -> None:
    """Turned to the picture's right, the nose is nearer to the right eye; looking up, it is nearer to the eyes."""
    straight, right, up = (turned(*angles)[0] for angles in ((0, 0, 0), (20, 0, 0), (0, 20, 0)))
    assert right[30, 0] - right[[36, 45], 0].mean() > straight[30, 0] - straight[[36, 45], 0].mean() + 5
    assert up[30, 1] - up[[36, 45], 1].mean() < straight[30, 1] - straight[[36, 45], 1].mean() - 5
    assert turned(0, 0, 20)[0, 45, 1] > turned(0, 0, 20)[0, 36, 1]  # clockwise: the right eye is lower


def test_a_mirrored_face_looks_the_other_way_and_a_rolled_one_leans() -> None:
    frames = media.read_video(GRID / "s2/bbaf1n.mp4", 25).frames[:3, :, 36:324]  # square
    detector = MediaPipe()
    plain, mirrored, rolled = (
        head_pose(detector(np.ascontiguousarray(each))).mean(axis=0)
        for each in (frames, frames[:, :, ::-1], np.rot90(frames, -1, axes=(1, 2))[:, :, :])
    )
    assert mirrored == pytest.approx(plain * [-1, 1, -1], abs=2)
    assert rolled[2] - plain[2] == pytest.approx(90, abs=4)
