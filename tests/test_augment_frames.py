"""Changes of a sample's pictures: nothing at strength 0, and picture and mask go the same way."""

import numpy as np
import pytest

from dheads_cli.data.augment_frames import jitter_colour, random_warp, warp, warp_mask, with_clutter, with_other_mouth


def test_no_jitter_changes_nothing_and_jitter_is_the_same_in_all_frames():
    rng = np.random.default_rng(0)
    frames = rng.uniform(-0.5, 0.5, (1, 3, 4, 4)).astype(np.float32).repeat(3, axis=0)
    assert jitter_colour(frames, 0.0, rng) is frames
    changed = jitter_colour(frames, 0.5, rng)
    assert not np.allclose(changed, frames)
    assert np.array_equal(changed[0], changed[2])


def test_a_warp_of_strength_0_changes_nothing():
    rng = np.random.default_rng(0)
    source = random_warp(32, 0.0, rng)
    np.testing.assert_allclose(source, np.moveaxis(np.mgrid[:32, :32][::-1], 0, -1), atol=1e-5)
    picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(warp(picture, source), picture)


@pytest.mark.parametrize("seed", range(4))
def test_a_warp_moves_picture_and_mask_alike(seed):
    mask = np.zeros((1, 64, 64), np.float32)
    mask[:, 36:50, 22:42] = 1
    picture = np.broadcast_to((mask[0] * 255).astype(np.uint8)[:, :, None], (64, 64, 3)).copy()
    source = random_warp(64, 1.0, np.random.default_rng(seed))
    moved = warp_mask(mask, source)[0]
    assert set(np.unique(moved)) == {0.0, 1.0}
    assert np.abs(moved - mask[0]).sum() > 20
    assert (moved == (warp(picture, source)[:, :, 0] > 127)).mean() > 0.99


def test_strength_scales_how_far_a_warp_moves():
    still = np.moveaxis(np.mgrid[:64, :64][::-1], 0, -1)
    far = [np.abs(random_warp(64, s, np.random.default_rng(5)) - still).mean() for s in (0.25, 0.5, 1.0)]
    assert far[1] / far[0] == pytest.approx(2, rel=0.1)
    assert far[2] / far[1] == pytest.approx(2, rel=0.1)


MOUTH = np.array([[24, 40], [40, 40], [32, 44], [32, 37]], np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_another_mouth_leaves_the_rest_of_the_face(seed):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    other = with_other_mouth(picture, MOUTH, 1.0, np.random.default_rng(seed))
    y, x = np.nonzero((other != picture).any(axis=-1))
    assert len(y) > 150
    assert np.hypot(x - 32, y - 40.5).max() <= 16  # the mouth is 16 px wide


def test_half_of_the_other_mouths_show_teeth():
    dark = np.full((64, 64, 3), 20, np.uint8)  # deforming it changes nothing
    changed = [(with_other_mouth(dark, MOUTH, 1.0, np.random.default_rng(seed)) > 20).any() for seed in range(40)]
    assert 10 < sum(changed) < 30


def test_clutter_is_the_same_in_all_pictures_and_spares_their_faces():
    pictures = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8).repeat(2, axis=0)
    faces = np.array([[[20, 20], [40, 20], [30, 50]], [[24, 20], [44, 20], [34, 50]]], np.float32)
    areas = []
    for seed in range(8):
        a, b = changed = with_clutter(pictures, faces, np.random.default_rng(seed))
        assert np.array_equal(a, b)
        differs = (changed != pictures).any(axis=(0, -1))
        areas.append(differs.mean())
        assert not differs[20, 20:45].any()
        assert not differs[50, [30, 34]].any()
    assert max(areas) > 0.1


def test_without_a_known_face_there_is_no_clutter():
    pictures = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    assert np.array_equal(with_clutter(pictures, np.full((1, 68, 2), np.nan), np.random.default_rng(0)), pictures)


def test_a_mouth_that_is_not_known_stays():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    rng = np.random.default_rng(1)
    assert with_other_mouth(picture, np.full((4, 2), np.nan, np.float32), 1.0, rng) is picture
