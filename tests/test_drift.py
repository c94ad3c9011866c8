"""Slopes and their intervals, on series and clips whose drift is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from clips import FakeClip, face
from numpy.typing import NDArray

from dheads_components.metrics.drift import Drift, colour_distance
from dheads_components.metrics.trend import slope_of


def autocorrelated(n: int, rho: float, rng: np.random.RandomState) -> NDArray[np.float64]:
    values = [rng.randn() / np.sqrt(1 - rho**2)]
    while len(values) < n:
        values.append(rho * values[-1] + rng.randn())
    return np.array(values)


def test_a_line_has_its_slope_and_no_doubt() -> None:
    slope = slope_of(3 + 0.25 * np.arange(20.0))
    assert (slope.low, slope.value, slope.high) == pytest.approx((0.25, 0.25, 0.25), abs=1e-6)
    still = slope_of(np.full(8, 0.7))
    assert (still.low, still.value, still.high) == (0, 0, 0)


def test_units_scale_slope_and_interval() -> None:
    values = autocorrelated(30, 0.5, np.random.RandomState(0))
    one, tenfold = slope_of(values), slope_of(7 + 10 * values)
    expected = (10 * one.low, 10 * one.value, 10 * one.high)
    assert (tenfold.low, tenfold.value, tenfold.high) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "rho"), [(8, 0.0), (8, 0.6), (30, 0.0), (30, 0.6), (60, 0.8)])
def test_no_trend_is_called_one_about_once_in_twenty_whatever_the_autocorrelation(n: int, rho: float) -> None:
    rng = np.random.RandomState(n)
    slopes = [slope_of(autocorrelated(n, rho, rng)) for _ in range(200)]
    covered = np.mean([slope.low <= 0 <= slope.high for slope in slopes])
    assert covered >= 0.9


def test_a_true_trend_is_seen_through_the_noise() -> None:
    slope = slope_of(0.2 * np.arange(60) + autocorrelated(60, 0.5, np.random.RandomState(3)))
    assert 0 < slope.low < 0.2 < slope.high


def textured(n_seconds: int) -> FakeClip:
    """A still picture of blurred noise with a face."""
    noise = np.random.RandomState(0).randint(60, 190, (48, 48, 3)).astype(np.uint8)
    frames = np.repeat(cv2.GaussianBlur(noise, (0, 0), 1.0)[None], n_seconds * 25, axis=0)
    return FakeClip(face(np.zeros(n_seconds * 25), size_px=24), np.ascontiguousarray(frames))


def test_a_clip_that_stays_as_it_is_does_not_drift() -> None:
    clip, metric = textured(6), Drift(csim=False)
    metric.update(clip, clip)
    values = metric.compute()
    assert values.pop("drift clips") == 1
    assert len(values) == 6
    assert set(values.values()) == {0.0}


def test_a_fading_clip_loses_sharpness_by_the_square_and_gains_colour_distance() -> None:
    clip = textured(8)
    mean = clip.frames[0].mean(axis=(0, 1))
    contrast = (1 - 0.05 * (np.arange(200) // 25))[:, None, None, None]  # less by 0.05 each second
    clip.frames = np.round(mean + (clip.frames - mean) * contrast - 4 * (1 - contrast) * 5).astype(np.uint8)
    values = Drift(csim=False).update(clip, clip)
    squares = (1 - 0.05 * np.arange(8)) ** 2
    assert values["sharpness drift [1/s]"] == pytest.approx(np.polyfit(range(8), squares, 1)[0], abs=0.004)
    assert float(values["sharpness drift high [1/s]"]) < 0
    assert float(values["colour drift low [dE/s]"]) > 0


def test_colour_distance_of_two_grays_is_that_of_their_lightness() -> None:
    black, white = (np.full((1, 16, 16, 3), level, np.uint8) for level in (0, 255))
    assert colour_distance(white, black[0]) == pytest.approx([100], abs=0.01)
    assert colour_distance(white, white[0]) == pytest.approx([0])


def test_a_short_clip_is_left_out_and_says_so() -> None:
    clip, metric = textured(3), Drift(csim=False)
    assert "less than 4 s" in str(metric.update(clip, clip)["drift note"])
    assert metric.compute() == {"drift clips": 0}


def test_several_clips_have_the_interval_of_their_mean() -> None:
    metric, slopes = Drift(csim=False), []
    for loss in (0.02, 0.03, 0.05):
        clip = textured(5)
        contrast = (1 - loss * (np.arange(125) // 25))[:, None, None, None]
        clip.frames = np.round(128 + (clip.frames - 128.0) * contrast).astype(np.uint8)
        slopes.append(float(metric.update(clip, clip)["sharpness drift [1/s]"]))
    values = metric.compute()
    half = 4.303 * np.std(slopes, ddof=1) / np.sqrt(3)  # Student's, two degrees of freedom
    assert values["sharpness drift [1/s]"] == pytest.approx(np.mean(slopes))
    assert values["sharpness drift high [1/s]"] - np.mean(slopes) == pytest.approx(half, rel=1e-3)
