"""Lags, loudness and mouth opening of made-up traces."""

from __future__ import annotations

import numpy as np
import pytest

from dheads_cli.run.data_stats.sync import correlations, lag_curve, loudness_db, without_slow

FPS = 25.0
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("lag", [-10, -1, 0, 1, 7])
def test_lips_behind_the_sound_have_a_positive_lag(lag: int) -> None:
    loudness = RANDOM.normal(size=75)
    curve = lag_curve([correlations(np.roll(loudness, lag), loudness, FPS)], FPS)
    assert curve is not None
    assert curve.lags[curve.best] == lag
    assert curve.r[curve.best] > 0.9


def test_a_mouth_that_does_not_move_has_no_correlation() -> None:
    assert np.isnan(correlations(np.ones(75), RANDOM.normal(size=75), FPS)).all()
    assert lag_curve([correlations(np.ones(75), RANDOM.normal(size=75), FPS)], FPS) is None


def test_a_short_clip_has_correlations_at_small_lags_only() -> None:
    r = correlations(RANDOM.normal(size=16), RANDOM.normal(size=16), FPS)
    assert np.flatnonzero(np.isfinite(r)).tolist() == list(range(15 - 4, 15 + 5))


def test_the_curve_is_the_mean_over_clips_with_its_standard_error() -> None:
    curve = lag_curve([np.full(31, 0.2), np.full(31, 0.6), np.full(31, np.nan)], FPS)
    assert curve is not None
    assert curve.n_clips == 2
    assert curve.r == pytest.approx(np.full(31, 0.4))
    assert curve.error == pytest.approx(np.full(31, np.sqrt(0.08) / np.sqrt(2)))


def test_slow_change_is_taken_out_and_fast_change_stays() -> None:
    ramp = np.linspace(0, 5, 100)
    assert np.abs(without_slow(ramp, FPS)[10:-10]).max() < 1e-9
    fast = np.tile([1.0, -1.0], 50)
    assert np.abs(without_slow(fast, FPS)[10:-10]).min() > 0.9


def test_loudness_is_in_decibels_of_full_scale() -> None:
    wave = np.concatenate([np.full(640, 0.1), np.zeros(640), np.full(320, 1.0)]).astype(np.float32)
    levels = loudness_db(wave, 4, FPS, 16000)
    assert levels == pytest.approx([-20, -60, -3, -60], abs=0.1)  # half a frame of full scale: -3 dB; then none
