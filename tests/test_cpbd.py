"""CPBD of edges whose width is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from clips import FakeClip
from numpy.typing import NDArray

from dheads_cli.conformance import assert_conforms
from dheads_components.metrics.cpbd import CPBD, cpbd, edge_widths, vertical_edges


def ramps(width: int, low: float = 20, high: float = 220) -> NDArray[np.float64]:
    """Gray [64, 128] with an edge every 32 px, up and down in turns, each `width` px wide."""
    row = np.concatenate([np.zeros(16), np.linspace(0, 1, width + 1), np.ones(15 - width)])
    there_and_back = np.concatenate([row, row[::-1]])
    return np.tile(low + (high - low) * there_and_back, (64, 2))


@pytest.mark.parametrize("width", [1, 2, 5])
def test_an_edge_is_as_wide_as_its_ramp(width: int) -> None:
    gray = ramps(width)
    found = edge_widths(gray)[vertical_edges(gray)]
    assert len(found) == 64 * 4
    assert set(found) == {width}


def test_edges_up_to_the_just_noticeable_width_are_sharp() -> None:
    assert [cpbd(ramps(width)) for width in (1, 3, 4, 6)] == [1, 1, 0, 0]
    assert [cpbd(ramps(width, 100, 140)) for width in (3, 5, 6)] == [1, 1, 0]  # little contrast: 5 px in place of 3


def test_half_the_edges_sharp_is_a_half() -> None:
    both = np.concatenate([ramps(2), ramps(4)])
    assert cpbd(both) == pytest.approx(0.5, abs=0.05)


def test_nothing_to_see_is_zero() -> None:
    assert cpbd(np.full((64, 64), 90.0)) == 0


def test_blur_lowers_it() -> None:
    rng = np.random.default_rng(0)
    drawing = np.kron(rng.integers(0, 256, (16, 16)), np.ones((8, 8)))
    values = [cpbd(cv2.GaussianBlur(drawing, (0, 0), sigma) if sigma else drawing) for sigma in (0, 0.5, 1, 2)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.9


def test_cpbd_keeps_the_contract_and_is_the_mean_over_frames() -> None:
    assert_conforms("metrics", CPBD())
    frames = np.repeat(np.stack([ramps(1), ramps(6)]).astype(np.uint8)[..., None], 3, axis=3)
    metric, clip = CPBD(), FakeClip(frames=frames)
    assert metric.update(clip, clip) == {"CPBD": pytest.approx(0.5)}
    assert CPBD(stride=2).update(clip, clip) == {"CPBD": 1.0}


def test_frames_smaller_than_a_block_are_left_out_and_say_so() -> None:
    metric, clip = CPBD(), FakeClip()
    assert "smaller than a block" in str(metric.update(clip, clip)["CPBD note"])
    assert metric.compute() == {}
