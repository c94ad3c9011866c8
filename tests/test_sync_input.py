"""Mouths and spectra: where they are cut, and when."""

import cv2
import numpy as np
import pytest
import torch

from dheads_cli.data.sync_input import CROP_PX, MOUTH_PX, at_25_fps, log_mel, middles, mouth_crops, resampled


def face(size: int) -> np.ndarray:
    """Landmarks [1, 68, 2] with a mouth at (0.6, 0.7) of the width, eyes 0.4 of it apart."""
    points = np.full((1, 68, 2), 0.3)
    points[0, 36:42], points[0, 42:48], points[0, 48:] = (0.4, 0.4), (0.8, 0.4), (0.6, 0.7)
    return (points * size).astype(np.float32)


@pytest.mark.parametrize("size", [40, 64, 128, 400])
def test_the_mouth_is_in_the_crop_s_middle_at_any_size(size: int) -> None:
    frame = np.zeros((size, size, 3), np.uint8)
    cv2.circle(frame, (round(0.6 * size - 0.5), round(0.7 * size - 0.5)), max(1, size // 20), (255, 255, 255), -1)
    crop = mouth_crops(frame[None], face(size) - 0.5)[0].astype(float)
    assert crop.shape == (CROP_PX, CROP_PX)
    y, x = np.mgrid[:CROP_PX, :CROP_PX]
    centre = ((x * crop).sum() / crop.sum(), (y * crop).sum() / crop.sum())
    assert centre == pytest.approx([(CROP_PX - 1) / 2] * 2, abs=CROP_PX / size + 0.1)
    spread = np.sqrt((((x - centre[0]) ** 2 + (y - centre[1]) ** 2) * crop).sum() / crop.sum())
    scale = CROP_PX / (1.4 * 0.4 * size)
    assert spread == pytest.approx(scale * max(1, size // 20) * 0.71, rel=0.35)


def test_frames_without_a_face_do_not_move_the_crop() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    known = np.repeat(face(64), 3, axis=0)
    some = known.copy()
    some[1] = np.nan
    assert np.array_equal(mouth_crops(frames, known), mouth_crops(frames, some))
    some[:] = np.nan
    assert mouth_crops(frames, some) is None


def test_middles_are_the_same_under_another_lamp() -> None:
    crops = np.random.default_rng(0).integers(50, 100, (3, CROP_PX, CROP_PX), np.uint8)
    assert middles(crops).shape == (3, MOUTH_PX, MOUTH_PX)
    torch.testing.assert_close(middles(crops), middles((2 * crops + 20).astype(np.uint8)), atol=0.1, rtol=0)


def test_a_click_is_in_the_spectrum_of_its_own_ten_milliseconds() -> None:
    for spectrum in (0, 7, 299):
        wave = torch.zeros(48000)
        wave[160 * spectrum + 80] = 1
        assert int(log_mel(wave, 75).mean(0).argmax()) == spectrum
    assert log_mel(wave, 75).shape == (40, 300)


def test_spectra_are_the_same_louder_and_softer_and_as_long_as_the_picture() -> None:
    wave = torch.randn(48000, generator=torch.Generator().manual_seed(0)) / 10
    torch.testing.assert_close(log_mel(wave, 75), log_mel(wave / 4, 75), atol=1e-4, rtol=0)
    assert log_mel(wave, 60).shape == (40, 240)
    assert log_mel(wave[:30000], 60).shape == (40, 240)


@pytest.mark.parametrize(("fps", "first"), [(25, [0, 1, 2, 3]), (50, [1, 3, 5, 7]), (12.5, [0, 0, 1, 1])])
def test_other_frame_rates_are_brought_to_25(fps: float, first: list[int]) -> None:
    shown = at_25_fps(round(3 * fps), fps)
    assert len(shown) == pytest.approx(75, abs=1)
    assert shown[:4].tolist() == first
    assert at_25_fps(30, 29.97).tolist()[-1] <= 29


def test_sound_is_brought_to_16_khz() -> None:
    assert len(resampled(np.zeros(4410, np.float32), 44100)) == 1600
