"""Measures of a clip: each follows what it is named for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dheads_cli.data import align, media, quality
from dheads_components.landmark_detectors.mediapipe import MediaPipe

GRID = Path(__file__).parent / "data/grid"
Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def frames() -> Frames:
    return media.read_video(GRID / "s1/bbaf2n.mp4", 25).frames[:12]


@pytest.fixture(scope="module")
def landmarks(frames: Frames) -> NDArray[np.float32]:
    return MediaPipe()(frames)


@pytest.fixture(scope="module")
def wave() -> NDArray[np.float32]:
    return media.read_audio(GRID / "s1/bbaf2n.mp4", 16000, 0.0)[: 12 * 640]


def test_all_measures_are_finite_rounded_and_named_with_their_unit(
    frames: Frames, landmarks: NDArray[np.float32], wave: NDArray[np.float32]
) -> None:
    crops, points, _, _ = align.align_clip(frames, landmarks, 64)
    with_gap = landmarks.copy()
    with_gap[3] = np.nan
    for given in (wave, wave * 0):
        measures = quality.measure_clip(with_gap, crops, points, given, 16000, align.MARGINS)
        assert all(type(value) is float and math.isfinite(value) for value in measures.values())
        assert json.loads(json.dumps(measures, allow_nan=False)) == measures
    assert measures["face_height_px"] == pytest.approx(float(np.ptp(landmarks[0, :, 1])), abs=5)
    assert {"sharpness", "yaw_deg", "pitch_range_deg", "speech_dbfs", "clipped_share", "av_lag_frames"} < set(measures)


def test_sharpness_falls_with_blur_and_with_the_size_of_the_source(
    frames: Frames, landmarks: NDArray[np.float32]
) -> None:
    def of(changed: Frames) -> float:
        return quality.sharpness(align.align_clip(changed, landmarks, 64)[0], align.MARGINS)

    def resized(share: float) -> Frames:
        small = [cv2.resize(frame, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) for frame in frames]
        return np.stack([cv2.resize(frame, (360, 288), interpolation=cv2.INTER_CUBIC) for frame in small])  # type: ignore[misc]

    blurred = [np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]) for sigma in (2, 4)]
    values = [of(frames), *(of(each) for each in blurred)]
    assert values[0] > 1.3 * values[1] > 1.3**2 * values[2]
    assert of(frames) > of(resized(1 / 3)) > of(resized(1 / 6))


def test_sharpness_depends_neither_on_light_nor_on_the_crop_s_size(
    frames: Frames, landmarks: NDArray[np.float32]
) -> None:
    sizes = [quality.sharpness(align.align_clip(frames, landmarks, size)[0], align.MARGINS) for size in (64, 128, 256)]
    assert max(sizes) < 1.25 * min(sizes)
    darker = (frames * 0.4).astype(np.uint8)
    dark = quality.sharpness(align.align_clip(darker, landmarks, 64)[0], align.MARGINS)
    assert dark == pytest.approx(sizes[0], rel=0.05)


def test_a_sine_has_its_level_and_pauses_do_not_count() -> None:
    sine = (0.5 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)).astype(np.float32)
    level = 20 * math.log10(0.5 / math.sqrt(2))
    assert quality.speech_level(sine, 25) == pytest.approx(level, abs=0.05)
    with_pause = np.concatenate([sine, 0.001 * sine, 0 * sine])
    assert quality.speech_level(with_pause, 75) == pytest.approx(level, abs=0.05)
    assert quality.speech_level(np.zeros(16000, np.float32), 25) == quality.SILENCE_DBFS
