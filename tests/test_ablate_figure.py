"""Optical flow of pictures that move by a known amount, and the figure drawn from it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dheads_cli.run.ablate_figure import DPI, REAL, WIDTH_IN, Strip, draw_figure, flow_magnitude, liveliest


def moving(px_per_frame: int, n_frames: int = 4, size: int = 128) -> NDArray[np.uint8]:
    """A smooth texture that moves sideways, round the edges."""
    y, x = np.mgrid[0:size, 0:size] * (2 * np.pi / size)
    texture = 128 + 50 * np.sin(5 * x + 2 * np.sin(3 * y)) + 50 * np.sin(7 * y + 3 * np.cos(2 * x))
    frames = [np.roll(texture, k * px_per_frame, axis=1) for k in range(n_frames)]
    return np.repeat(np.stack(frames)[..., None], 3, axis=-1).astype(np.uint8)


def test_a_picture_that_moves_two_pixels_has_flow_two() -> None:
    assert flow_magnitude(moving(2)) == pytest.approx([2, 2, 2], rel=0.05)


def test_a_still_clip_has_next_to_none() -> None:
    assert flow_magnitude(moving(0)) == pytest.approx([0, 0, 0], abs=0.02)


def test_flow_is_in_pixels_of_128_whatever_the_size() -> None:
    assert flow_magnitude(moving(1, size=64)) == pytest.approx([2, 2, 2], rel=0.05)


def test_the_frames_shown_are_those_that_move_most() -> None:
    flow = np.array([0, 1, 0, 3, 2, 1, 0, 0], np.float64)
    assert liveliest(flow, 3) == 3  # frames 3, 4, 5: between them 3 and 2
    assert liveliest(flow, 9) == 0
    assert liveliest(flow, 100) == 0


def test_the_figure_has_a_row_of_frames_for_each_clip(tmp_path: Path) -> None:
    colours = {REAL: (250, 0, 0), "m_x 0, m_y 2": (0, 250, 0), "m_x 2, m_y 2, gray": (0, 0, 250)}
    strips = []
    for number, (label, colour) in enumerate(colours.items()):
        frames = np.empty((12 + number, 16, 16, 3), np.uint8)
        frames[:] = colour
        strips.append(Strip(label, "s1/a", frames, 25.0, np.linspace(0, 1 + number, 11 + number)))
    draw_figure(strips, tmp_path / "out" / "figure.png")
    pixels = np.asarray(Image.open(tmp_path / "out" / "figure.png").convert("RGB"))
    assert pixels.shape[1] == round(WIDTH_IN * DPI)
    column = pixels[:, round(0.5 * pixels.shape[1])]
    tops = [int((np.abs(column.astype(int) - colour).max(axis=1) < 5).argmax()) for colour in colours.values()]
    assert tops == sorted(tops)
    heights = [(np.abs(column.astype(int) - colour).max(axis=1) < 5).sum() for colour in colours.values()]
    assert np.ptp(heights) <= 2
    assert min(heights) > 100
