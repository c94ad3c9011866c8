"""Lips beside sound: known lags come out, and a mouth that does not move says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_tracking import RATE, F, rhythm, speech, talking

from dheads_cli.data import lip_sound, media
from dheads_cli.data.mouth import mouth_opening
from dheads_components.landmark_detectors.mediapipe import MediaPipe

SHARED_GRID = Path(__file__).parents[2] / "shared/data/grid"


def test_opening_is_a_share_of_the_distance_of_the_eyes() -> None:
    small, large = (np.stack(talking(100, np.linspace(0, 1, 5), width)) for width in (50, 200))
    assert mouth_opening(small) == pytest.approx(mouth_opening(large), abs=1e-5)
    eyes = 0.4556  # of the mean face's width, of which the lips open by 0.05 more in each frame
    assert np.diff(mouth_opening(large))[1:] == pytest.approx(0.05 / eyes, rel=0.05)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_loudness_peaks_in_the_frame_of_a_click(rate: int) -> None:
    wave = np.zeros(rate, np.float32)
    wave[round(10.5 / 25 * rate)] = 1
    assert int(lip_sound.loudness(wave, 25, rate).argmax()) == 10


def test_loudness_of_silence_is_flat_and_finite() -> None:
    loud = lip_sound.loudness(np.zeros(16000, np.float32), 25, RATE)
    assert np.ptp(loud) == 0
    assert np.isfinite(loud).all()


def test_what_is_slow_is_taken_away() -> None:
    assert np.abs(lip_sound.quickened(np.linspace(0, 5, 60))[4:-4]).max() < 1e-9


@pytest.mark.parametrize("late", [-10, -3, 0, 7, 12])
def test_lips_before_or_behind_the_sound_are_found(late: int) -> None:
    moves = rhythm(4)
    opening = mouth_opening(np.stack(talking(100, np.roll(moves, late))))
    loud = lip_sound.loudness(speech(moves), F, RATE)
    lag, confidence = lip_sound.estimate_lag(opening, loud)
    assert lag == late
    assert confidence > 0.15


def test_a_still_mouth_has_no_lag_to_trust() -> None:
    still = np.full(F, 0.3)
    assert lip_sound.estimate_lag(still, lip_sound.loudness(speech(rhythm(4)), F, RATE))[1] == 0
    assert lip_sound.estimate_lag(still[:4], still[:4])[1] == 0


@pytest.mark.skipif(not SHARED_GRID.is_dir(), reason=f"{SHARED_GRID} is not there")
def test_real_speakers_are_in_step_and_shifts_of_their_sound_are_found() -> None:
    detector, errors = MediaPipe(), []
    for name, late in (("s2", 8), ("s5", -6)):
        path = sorted((SHARED_GRID / name).iterdir())[0]
        frames = media.read_video(path, 25).frames
        wave: NDArray[np.float32] = media.fit_length(media.read_audio(path, RATE, 0.0), len(frames) * 640)
        opening = mouth_opening(detector(frames))
        for shift in (0, late):
            moved = np.roll(wave, shift * 640)
            lag, _ = lip_sound.estimate_lag(opening, lip_sound.loudness(moved, len(frames), RATE))
            errors.append(lag + shift - 1)  # lips and detector are a frame late themselves
    assert np.abs(errors).max() <= 1
