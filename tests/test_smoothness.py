"""OFM and F-MSE of pictures whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from clips import FakeClip
from numpy.typing import NDArray

from dheads_cli.conformance import assert_conforms
from dheads_components.metrics.smoothness import Smoothness, jet_level, squared_differences


def clip_of(frames: NDArray[np.uint8]) -> FakeClip:
    return FakeClip(frames=np.ascontiguousarray(frames))


def texture(height: int, width: int) -> NDArray[np.uint8]:
    noise = cv2.GaussianBlur(np.random.RandomState(0).randn(height, width), (0, 0), 2.0)
    gray = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def scores(frames: NDArray[np.uint8]) -> dict[str, float]:
    metric = Smoothness()
    metric.update(clip_of(frames), clip_of(frames))
    return metric.compute()


def test_smoothness_keeps_the_contract() -> None:
    assert_conforms("metrics", Smoothness())


def test_a_still_has_no_motion_and_yet_a_level_as_released() -> None:
    still = scores(np.repeat(texture(128, 128)[None], 3, axis=0))
    assert still["OFM [px]"] < 0.01
    assert still["F-MSE"] == still["F-MSE as released"] == 0
    # (128, 0, 0), the colour of no flow, and a little for what Farneback finds between equal frames, which depends on
    # the picture and on OpenCV's release: the paper's authors' still has 44.2
    assert 128 / 3 < still["OFM as released"] < 46


def test_a_flat_still_has_the_colour_of_no_flow_as_released() -> None:
    assert scores(np.full((3, 128, 128, 3), 90, np.uint8))["OFM as released"] == pytest.approx(128 / 3)
    assert jet_level(np.zeros((8, 8), np.float32)) == pytest.approx(128 / 3)


def test_ofm_is_in_px_a_frame_at_128_px_and_its_released_level_forgets_how_many() -> None:
    wide = texture(128, 140)
    slow, fast = (scores(np.stack([wide[:, k * step : k * step + 128] for k in range(4)])) for step in (1, 2))
    assert slow["OFM [px]"] == pytest.approx(1, rel=0.1)
    assert fast["OFM [px]"] == pytest.approx(2, rel=0.1)
    magnitude = np.random.RandomState(0).rand(16, 16).astype(np.float32)
    assert jet_level(magnitude) == jet_level(8 * magnitude)


def test_f_mse_is_over_pairs_pixels_and_channels() -> None:
    frames = np.zeros((3, 128, 128, 3), np.uint8)
    frames[1, :, :, 0] = 30
    assert scores(frames)["F-MSE"] == pytest.approx(30**2 / 3)


@pytest.mark.parametrize(("difference", "wrapped"), [(15, 225), (16, 0), (20, 400 - 256), (-20, 400 - 256)])
def test_f_mse_as_released_wraps_in_eight_bits(difference: int, wrapped: int) -> None:
    frames = np.full((2, 4, 4, 3), 100, np.uint8)
    frames[1] = 100 + difference
    assert list(squared_differences(frames)) == [(difference**2, wrapped)]
    with np.errstate(over="ignore"):
        in_bytes = (frames[1] - frames[0]) ** 2
    assert in_bytes.dtype == np.uint8
    assert wrapped == in_bytes.mean()


def test_a_single_frame_is_left_out_and_says_so() -> None:
    metric, one = Smoothness(), clip_of(texture(128, 128)[None])
    assert "single frame" in str(metric.update(one, one)["smoothness note"])
    assert metric.compute() == {}
