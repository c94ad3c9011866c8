"""Blinks drawn into landmarks, and blinks of real people."""

from __future__ import annotations

import numpy as np
import pytest
from clips import N_FRAMES, FakeClip, face
from numpy.typing import NDArray

from dheads_components.metrics.blinks import Blinks, eye_aspect_ratio, eye_closure, find_blinks


def blinking(frames: list[int], closed: float = 0.9, half_frames: int = 3, n_frames: int = N_FRAMES) -> FakeClip:
    """Eyes that close by a share of their height around these frames, within half_frames before and after."""
    landmarks = face(np.zeros(n_frames))
    away = np.abs(np.arange(n_frames)[:, None] - np.array(frames)[None]).min(axis=1)
    height = 1 - closed * np.clip(1 - away / half_frames, 0, 1)
    for first in (36, 42):
        eye = landmarks[:, first : first + 6]
        middle = eye[:, [0, 3], 1].mean(axis=1)[:, None]
        eye[..., 1] = middle + (eye[..., 1] - middle) * height[:, None]
    return FakeClip(landmarks)


def rate(clip: FakeClip) -> float:
    return float(Blinks().update(clip, clip)["blinks [1/s]"])


def test_drawn_blinks_are_found_where_they_are() -> None:
    clip = blinking([20, 50])
    closure = eye_closure(clip.landmarks, clip.fps)
    assert closure is not None
    found = find_blinks(closure, clip.fps)
    assert [blink.frame for blink in found] == [20, 50]
    assert [blink.duration_s for blink in found] == pytest.approx(
        [3 / 25, 3 / 25], abs=0.015
    )  # lids meet a little aslant
    assert rate(clip) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "clip",
    [blinking([30], closed=0), blinking([30], closed=0.4), blinking([0]), blinking([30], half_frames=30)],
    ids=["open eyes", "lids half down", "cut by the beginning", "a long look down"],
)
def test_what_is_no_blink_is_not_counted(clip: FakeClip) -> None:
    assert rate(clip) == 0


def test_a_jittering_detector_is_no_blink() -> None:
    clip = blinking([30], closed=0)
    clip.landmarks += np.random.RandomState(0).randn(*clip.landmarks.shape).astype(np.float32) * 0.15
    assert rate(clip) == 0


def test_narrow_eyes_blink_as_wide_ones_do() -> None:
    clip = blinking([30])
    clip.landmarks[:, 36:48, 1] = clip.landmarks[:, 36:48, 1] / 2
    assert rate(clip) == pytest.approx(1 / 3)


def test_frames_without_a_face_are_bridged() -> None:
    clip = blinking([20, 50])
    clip.landmarks[30:40] = np.nan
    assert rate(clip) == pytest.approx(2 / 3)


def test_a_set_counts_all_blinks_over_all_seconds() -> None:
    metric = Blinks()
    for clip in (blinking([20, 50]), blinking([30], closed=0, n_frames=150)):
        metric.update(clip, clip)
    assert metric.compute()["blinks [1/s]"] == pytest.approx(2 / 9)
    assert metric.compute()["blink duration [s]"] == pytest.approx(3 / 25, abs=0.015)


def test_a_face_never_found_is_left_out_and_says_so() -> None:
    clip, metric = blinking([30]), Blinks()
    clip.landmarks[:] = np.nan
    assert "left out" in str(metric.update(clip, clip)["blinks note"])
    assert metric.compute() == {}


def test_the_aspect_ratio_is_height_over_width() -> None:
    points: NDArray[np.float32] = np.zeros((1, 68, 2), np.float32)
    for first in (36, 42):
        points[0, first : first + 6] = [(0, 0), (3, -1), (7, -1), (10, 0), (7, 2), (3, 2)]
    assert eye_aspect_ratio(points) == pytest.approx([0.3])
