"""Sharpness and liveliness of blurred, shifted and flickering copies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from clips import FakeClip, face
from numpy.typing import NDArray

from dheads_cli.data.head_pose import MODEL, RIGID_POINTS
from dheads_components.metrics.face_box import mean_box, speaking_box
from dheads_components.metrics.liveliness import Liveliness, face_flow, flicker, head_turn
from dheads_components.metrics.sharpness import Sharpness

SIZE, N = 64, 12


def picture() -> NDArray[np.uint8]:
    """Gray noise blurred to a width of 2 px, with a standard deviation of 40."""
    noise = cv2.GaussianBlur(np.random.RandomState(0).randn(SIZE, SIZE + N), (0, 0), 2.0)
    gray = np.clip(np.round(128 + 40 * noise / noise.std()), 0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def still() -> FakeClip:
    return FakeClip(face(np.zeros(N)), np.repeat(picture()[None, :, :SIZE], N, axis=0))


def test_the_same_clip_is_as_sharp_as_itself() -> None:
    values = Sharpness().update(still(), still())
    assert values == pytest.approx({"sharpness": 1, "mouth sharpness": 1})


def test_half_the_contrast_is_a_quarter_of_the_variance_and_a_blurred_copy_less() -> None:
    pale, blurred, metric = still(), still(), Sharpness()
    pale.frames = np.round(128 + (pale.frames - 128.0) / 2).astype(np.uint8)
    assert metric.update(pale, still())["sharpness"] == pytest.approx(0.25, rel=0.1)
    blurred.frames = np.stack([np.asarray(cv2.GaussianBlur(frame, (0, 0), 2.0), np.uint8) for frame in blurred.frames])
    # A Gaussian picture of width s has a Laplacian whose variance goes as s^-6: widths of 2 and of sqrt(8).
    assert metric.update(blurred, still())["sharpness"] == pytest.approx(1 / 8, rel=0.25)
    assert metric.compute()["sharpness min"] < 0.2


def test_a_blurred_mouth_is_told_from_a_blurred_face() -> None:
    clip = still()
    box = mean_box(clip.landmarks, clip.frames.shape, slice(48, 68))
    assert box is not None
    grown = (slice(None), slice(box[0].start - 2, box[0].stop + 2), slice(box[1].start - 2, box[1].stop + 2))
    clip.frames[grown] = 128
    values = Sharpness().update(clip, still())
    assert float(values["mouth sharpness"]) < 0.3 < float(values["sharpness"])


def test_a_flat_real_clip_has_no_sharpness_to_compare_with() -> None:
    flat = FakeClip(face(np.zeros(N)), np.full((N, SIZE, SIZE, 3), 90, np.uint8))
    assert "flat" in str(Sharpness().update(still(), flat)["sharpness note"])


def test_a_still_does_not_live() -> None:
    values = Liveliness().update(still(), still())
    assert values == pytest.approx({"head turn [deg]": 0, "face flow [px]": 0, "flicker": 0}, abs=1e-3)


def test_flow_is_in_px_a_frame_at_128_px() -> None:
    moving = np.stack([picture()[:, k : k + SIZE] for k in range(N)])  # one of 64 px a frame
    box = (slice(16, 48), slice(16, 48))
    assert face_flow(moving, box) == pytest.approx(2, rel=0.05)


def test_head_turn_is_the_standard_deviation_of_the_angles() -> None:
    yaw = np.radians(10 * np.sin(np.arange(40)))
    landmarks = np.zeros((40, 68, 2))
    model = MODEL - MODEL.mean(axis=0)
    landmarks[:, RIGID_POINTS, 0] = 40 * (np.cos(yaw)[:, None] * model[:, 0] + np.sin(yaw)[:, None] * model[:, 2])
    landmarks[:, RIGID_POINTS, 1] = 40 * model[:, 1]
    assert head_turn(landmarks.astype(np.float32)) == pytest.approx(np.degrees(yaw).std(), rel=0.01)


def test_flicker_is_seen_above_the_mouth_and_speech_is_not() -> None:
    clip = still()
    box = speaking_box(clip.landmarks, clip.frames.shape)
    assert box is not None
    clip.frames[::2, box[0], box[1]] = 0
    assert Liveliness().update(clip, still())["flicker"] == 0
    flickering = np.full((N, SIZE, SIZE, 3), 100, np.uint8)
    flickering[::2] += 6
    assert flicker(flickering, box) == pytest.approx(6)


def test_a_face_never_found_leaves_out_its_turning_alone() -> None:
    clip, metric = still(), Liveliness()
    clip.landmarks = np.full_like(clip.landmarks, np.nan)
    values = metric.update(clip, still())
    assert "head turn" in str(values["liveliness note"])
    assert set(metric.compute()) == {"face flow [px]", "flicker"}
