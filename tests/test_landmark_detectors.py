"""The built-in landmark detector, on real faces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dheads_cli import registry
from dheads_cli.data import align, media
from dheads_cli.errors import DheadsError
from dheads_components.landmark_detectors.mediapipe import MESH_POINTS, MediaPipe, squares

ROOT = Path(__file__).parent.parent
PHOTO = ROOT / "examples/astronaut.jpg"


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return media.read_video(ROOT / "tests/data/grid/s1/bbaf2n.mp4", 25).frames[:12]


@pytest.fixture(scope="module")
def landmarks(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    return MediaPipe()(frames)


def test_sixty_eight_different_mesh_points() -> None:
    assert len(MESH_POINTS) == len(set(MESH_POINTS.tolist())) == 68


def test_a_face_is_found_in_every_frame(landmarks: NDArray[np.float32]) -> None:
    assert landmarks.shape == (12, 68, 2)
    assert landmarks.dtype == np.float32
    assert np.isfinite(landmarks).all()
    assert 100 < np.ptp(landmarks[0, :, 1]) < 150


def test_points_are_in_the_order_of_the_68(landmarks: NDArray[np.float32]) -> None:
    points = landmarks[0]
    brows, eyes, nose, mouth, chin = points[17:27], points[36:48], points[30], points[48:68], points[8]
    assert brows[:, 1].max() < eyes[:, 1].min() + 5
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min() < mouth[:, 1].max() < chin[1]
    assert points[36, 0] < points[39, 0] < nose[0] < points[42, 0] < points[45, 0]
    assert points[48, 0] < points[60, 0] < points[66, 0] < points[64, 0] < points[54, 0]
    assert points[51, 1] < points[62, 1] <= points[66, 1] < points[57, 1]
    assert (np.diff(points[:17, 0]) > -3).all()


def test_lips_open_and_close_with_the_words(landmarks: NDArray[np.float32]) -> None:
    opening = landmarks[:, 66, 1] - landmarks[:, 62, 1]
    assert np.ptp(opening) > 2


def test_padded_rows_are_read_right(frames: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
    wide = np.zeros((*frames.shape[:2], 400, 3), np.uint8)
    wide[:, :, :360] = frames
    assert np.array_equal(MediaPipe()(wide[:, :, :360]), landmarks)


def test_small_aligned_crops_are_found_again(frames: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
    crops, wanted, _, _ = align.align_clip(frames, landmarks, 64)
    found = MediaPipe()(crops)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - wanted, axis=-1).mean() < 0.6


def test_a_clip_does_not_depend_on_the_one_before(frames: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
    detector = MediaPipe()
    detector(frames[::-1])
    assert np.array_equal(detector(frames), landmarks)


def test_no_face_is_nan(frames: NDArray[np.uint8]) -> None:
    blank = frames[:3].copy()
    blank[1:] = 128
    found = MediaPipe()(blank)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:]).all()
    assert MediaPipe()(frames[:0]).shape == (0, 68, 2)
    assert MediaPipe().all_faces(blank[1]) == []


def test_the_largest_of_two_faces_comes_first(frames: NDArray[np.uint8]) -> None:
    photo = media.read_image(PHOTO)
    photo = photo[: photo.shape[0] * 2 // 3]
    large = np.asarray(cv2.resize(photo, (800, round(800 * photo.shape[0] / photo.shape[1]))), np.uint8)
    both = np.zeros((len(large), 1160, 3), np.uint8)
    both[:288, :360] = frames[0]
    both[:, 360:] = large
    faces = MediaPipe().all_faces(both)
    assert [face.mean(axis=0)[0] > 360 for face in faces] == [True, False]
    # In a clip the largest of the first frame is followed.
    followed = MediaPipe()(np.stack([both] * 3))
    assert np.abs(followed[2].mean(axis=0) - faces[0].mean(axis=0)).max() < 10


def test_start_up_messages_stay_out_of_the_way(frames: NDArray[np.uint8], capfd: pytest.CaptureFixture[str]) -> None:
    MediaPipe()(frames[:1])
    assert capfd.readouterr() == ("", "")


def test_small_faces_of_a_wide_picture_are_found(frames: NDArray[np.uint8]) -> None:
    wide = np.full((288, 900, 3), 90, np.uint8)
    half = np.asarray(cv2.resize(frames[0], (180, 144)), np.uint8)
    for left in (20, 360, 700):
        wide[100:244, left : left + 180] = half
    found = MediaPipe().all_faces(wide)
    assert sorted(round((float(face[:, 0].mean()) - 90) / 340) for face in found) == [0, 1, 2]


@pytest.mark.parametrize(("height", "width", "count"), [(288, 360, 0), (720, 1080, 2), (720, 1280, 2), (1000, 200, 6)])
def test_squares_cover_an_oblong_picture(height: int, width: int, count: int) -> None:
    found = squares(height, width)
    assert len(found) == count
    if not found:
        return
    side, places = min(height, width), [max(place) for place in found]
    assert places[0] == 0
    assert places[-1] + side == max(height, width)
    assert max(np.diff(places)) <= 0.8 * side + 1


def test_nothing_is_printed_when_python_ends() -> None:
    code = "import numpy as np; from dheads_components.landmark_detectors.mediapipe import MediaPipe\n"
    code += "detector = MediaPipe(); detector.all_faces(np.zeros((96, 96, 3), np.uint8))\n"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_wrong_options_are_refused() -> None:
    with pytest.raises(DheadsError, match="min_confidence is 2"):
        registry.build("landmark_detectors", "mediapipe", {"min_confidence": 2})
    with pytest.raises(DheadsError, match="upscale_to"):
        registry.build("landmark_detectors", "mediapipe", {"upscale_too": 2})
