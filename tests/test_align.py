"""Alignment: faces of known place, size and turn come to the mean face's place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dheads_cli.data import align
from dheads_cli.errors import UnusableClip

# Mirror image of each of the 68 points.
MIRRORED = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46]
MIRRORED += [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]


def turned(scale: float, degrees: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """A similarity [2, 3]."""
    a = scale * np.exp(1j * np.deg2rad(degrees))
    return np.array([[a.real, -a.imag, shift[0]], [a.imag, a.real, shift[1]]])


def face_at(scale: float, degrees: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    return align.apply(turned(scale, degrees, shift), align.MEAN_FACE).astype(np.float64)


def test_the_mean_face_is_symmetric_and_one_wide() -> None:
    assert np.ptp(align.MEAN_FACE[:, 0]) == pytest.approx(1)
    assert align.MEAN_FACE[:, 1].min() == 0
    assert np.abs(align.MEAN_FACE[MIRRORED] * [-1, 1] + [1, 0] - align.MEAN_FACE).max() < 2e-4


def test_similarity_finds_the_one_that_was_applied() -> None:
    points = np.random.default_rng(0).normal(size=(5, 2))
    wanted = turned(1.7, 33, (4, -9))
    assert np.allclose(align.similarity(points, align.apply(wanted, points).astype(float)), wanted, atol=1e-5)


def test_any_face_comes_to_the_same_place() -> None:
    wanted = align.mean_face_in_crop(64)
    for scale, degrees, shift in ((130, 0, (90, 40)), (40, 25, (10, 200)), (900, -40, (300, 800))):
        face = face_at(scale, degrees, shift)
        assert np.allclose(align.apply(align.crop_transform(face, 64), face), wanted, atol=1e-3)


def test_an_open_mouth_does_not_move_the_crop() -> None:
    face = face_at(130, 5, (90, 40))
    before = align.crop_transform(face, 64)
    face[48:] += [0, 20]
    face[:17] += [0, 15]
    assert np.array_equal(align.crop_transform(face, 64), before)


def test_margins_are_shares_of_the_mean_face() -> None:
    width, height = np.ptp(align.MEAN_FACE, axis=0)
    face = align.mean_face_in_crop(100, (0.11, 0.335, 0.155))
    length = height * 1.49  # more than width * 1.22, so the sides grow
    assert np.ptp(face[:, 0]) == pytest.approx(100 * width / length)
    assert face[:, 1].min() == pytest.approx(100 * 0.335 * height / length)
    assert 100 - face[:, 1].max() == pytest.approx(100 * 0.155 * height / length)
    assert face[:, 0].min() == pytest.approx(100 - face[:, 0].max())
    wide = align.mean_face_in_crop(100, (0.5, 0.1, 0.1))
    assert wide[:, 0].min() == pytest.approx(25)


def test_smoothing_keeps_what_moves_evenly_and_shortens_at_the_ends() -> None:
    even = np.arange(20.0)[:, None, None] * np.ones((1, 68, 2))
    smoothed = align.smooth(even, 7)
    assert np.allclose(smoothed[3:-3], even[3:-3])
    assert np.allclose(smoothed[0], 1.5)  # mean of frames 0 ... 3
    jump = np.zeros((9, 68, 2))
    jump[4] = 7
    assert np.allclose(align.smooth(jump, 7)[4], 1)


def test_short_gaps_are_filled_in_time() -> None:
    landmarks = (np.arange(10.0)[:, None, None] * np.ones((1, 68, 2))).astype(np.float32)
    landmarks[[0, 4, 5, 9]] = np.nan
    filled, n_filled = align.fill_gaps(landmarks, 2)
    assert n_filled == 4
    assert np.allclose(filled[:, 0, 0], [1, 1, 2, 3, 4, 5, 6, 7, 8, 8])


def test_long_gaps_and_missing_faces_make_a_clip_unusable() -> None:
    landmarks = np.ones((10, 68, 2), np.float32)
    landmarks[3:6] = np.nan
    with pytest.raises(UnusableClip, match="face lost: in 3 frames, 3 to 5"):
        align.fill_gaps(landmarks, 2)
    with pytest.raises(UnusableClip) as error:
        align.fill_gaps(np.full((10, 68, 2), np.nan, np.float32), 99)
    assert error.value.reason == "no face"


def test_warping_by_the_identity_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    assert np.array_equal(align.warp(picture, turned(1, 0, (0, 0)), 32), picture)


def test_halving_a_picture_is_the_mean_of_four_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    means = picture.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(align.warp(picture, turned(0.5, 0, (0, 0)), 32) - means).max() <= 0.5


def test_shrinking_a_fine_pattern_gives_no_moire() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    picture[::2, ::2] = picture[1::2, 1::2] = 255
    crop = align.warp(picture, turned(0.31, 10, (20, -5)), 64)[8:-8, 8:-8]
    assert np.abs(crop.astype(int) - 127).max() < 40


def test_landmarks_lie_where_the_crop_shows_them() -> None:
    centre = (211.0, 123.0)  # of a white disc
    picture = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(picture, (211, 123), 12, (255, 255, 255), -1)
    for scale, size in ((0.3, 90), (1.7, 400)):
        transform = turned(scale, 12, (5, 8))
        crop = align.warp(picture, transform, size).astype(float)[..., 0]
        rows, columns = np.indices(crop.shape) + 0.5
        seen = [np.sum(columns * crop) / crop.sum(), np.sum(rows * crop) / crop.sum()]
        assert np.allclose(seen, align.apply(transform, np.array(centre) + 0.5), atol=0.1)


def test_a_moving_face_stands_still_in_the_crops() -> None:
    shifts = np.stack([np.linspace(100, 160, 24), np.linspace(60, 80, 24)], axis=1)
    landmarks = np.stack([face_at(100, 0, (x, y)) for x, y in shifts]).astype(np.float32)
    landmarks[7] = np.nan
    landmarks[:, 66] += np.arange(24)[:, None] % 3  # the mouth moves fast
    frames = np.zeros((24, 300, 400, 3), np.uint8)
    for frame, (x, y) in zip(frames, shifts, strict=True):
        cv2.circle(frame, (round(x + 50), round(y + 50)), 20, (255, 255, 255), -1)
    crops, mapped, transforms, n_filled = align.align_clip(frames, landmarks, 64)
    assert crops.shape == (24, 64, 64, 3)
    assert (mapped.shape, mapped.dtype, transforms.shape, n_filled) == ((24, 68, 2), np.float32, (24, 2, 3), 1)
    inside = slice(4, -4)
    assert np.ptp(mapped[inside, 30], axis=0).max() < 0.05
    assert crops[inside].astype(float).std(axis=0).max() < 64
    # The mouth's own movement is not smoothed away.
    scale = transforms[0, 0, 0]
    assert np.ptp(mapped[8:20, 66, 1]) == pytest.approx(2 * scale, rel=0.05)


def test_a_photo_is_aligned_like_a_frame() -> None:
    face = face_at(100, -8, (100, 80)).astype(np.float32)
    picture = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    crop, landmarks, _ = align.align_image(picture, face, 64)
    crops, mapped, _, _ = align.align_clip(picture[None], face[None], 64)
    assert np.array_equal(crop, crops[0])
    assert np.allclose(landmarks, mapped[0])
    assert np.allclose(landmarks, align.mean_face_in_crop(64), atol=1e-3)
