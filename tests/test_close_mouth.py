"""A photo's open mouth is closed: its lips meet, its teeth are gone, and all beside them stays."""

from __future__ import annotations

import numpy as np
import pytest
from commands import FACE, OTHER_FACE
from numpy.typing import NDArray

from dheads_cli.data import align, media
from dheads_cli.data.close_mouth import close_mouth
from dheads_cli.data.mouth import mouth_opening
from dheads_cli.protocols import LandmarkDetector
from dheads_cli.registry import build

SIZE = 512


@pytest.fixture(scope="module")
def detector() -> LandmarkDetector:
    made: LandmarkDetector = build("landmark_detectors", "mediapipe")
    return made


def cropped(path: object, detector: LandmarkDetector) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    picture = media.read_image(path)  # type: ignore[arg-type]
    crop, points, _ = align.align_image(picture, detector.all_faces(picture)[0], SIZE)
    return crop, points


def test_the_lips_of_a_smile_meet(detector: LandmarkDetector) -> None:
    crop, points = cropped(OTHER_FACE, detector)
    closed = close_mouth(crop, points)
    assert mouth_opening(points[None])[0] > 0.12
    assert mouth_opening(detector(closed[None]))[0] < 0.05
    inside = points[60:68]
    left, top, right, bottom = (*inside.min(axis=0).astype(int), *inside.max(axis=0).astype(int))
    mouths = [picture[top:bottom, left:right] for picture in (crop, closed)]
    before, now = (((mouth.min(axis=2) > 150) & (np.ptp(mouth, axis=2) < 40)).mean() for mouth in mouths)  # white
    assert before > 0.15
    assert now < 0.1 * before


def test_nothing_moves_above_the_nose_below_the_chin_or_beside_the_mouth(detector: LandmarkDetector) -> None:
    crop, points = cropped(OTHER_FACE, detector)
    changed = np.abs(close_mouth(crop, points).astype(int) - crop).max(axis=2) > 0
    nose, chin, left, right = int(points[33, 1]), int(points[8, 1]) + 1, int(points[60, 0]), int(points[64, 0]) + 1
    blur = SIZE // 64
    assert changed[nose:chin, left:right].mean() > 0.3
    changed[nose:chin, left - blur : right + blur] = False
    assert not changed.any()


def test_closed_lips_stay_as_they_are(detector: LandmarkDetector) -> None:
    crop, points = cropped(FACE, detector)
    points[[67, 66, 65]] = points[[61, 62, 63]]
    assert close_mouth(crop, points) is crop


@pytest.mark.parametrize("name", ["upside down", "mirrored", "no chin"])
def test_points_that_are_no_upright_face_leave_it_alone(name: str, detector: LandmarkDetector) -> None:
    crop, points = cropped(OTHER_FACE, detector)
    if name == "upside down":
        points = SIZE - points
    elif name == "mirrored":
        points[:, 0] = SIZE - points[:, 0]
    else:
        points[8, 1] = points[66, 1]
    assert close_mouth(crop, points) is crop
