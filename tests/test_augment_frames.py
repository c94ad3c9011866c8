"""Changes of a sample's pictures: nothing at strength 0, and picture and mask go the same way."""

import numpy as np
import pytest

from dheads_cli.data.augment_frames import Changes, changed, random_changes, random_colour, random_warp, warp, warp_mask


def test_no_changes_leave_the_pictures_as_they_are():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
    mask = np.zeros((1, 8, 8), np.float32)
    frames, kept = changed(pictures, mask, random_changes(0.0, 0.0, 0.0, rng))
    assert np.array_equal(frames, pictures.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    assert kept is mask


def test_a_change_of_colour_is_a_mix_of_channels_and_the_same_in_all_pictures():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (1, 8, 8, 3), np.uint8).repeat(2, axis=0)
    colour = random_colour(1.0, rng)
    frames, _ = changed(pictures, np.zeros((1, 8, 8), np.float32), Changes(None, colour, False))
    mixed = (pictures[0] / 127.5 - 1) @ colour[:, :3].T + colour[:, 3]
    assert 0 < (np.abs(mixed) > 1).mean() < 0.8  # beyond full scale it is clipped
    np.testing.assert_allclose(frames[0], mixed.clip(-1, 1).transpose(2, 0, 1), atol=1e-6)
    assert np.array_equal(frames[0], frames[1])
    np.testing.assert_allclose(random_colour(0.0, rng), np.eye(3, 4))


def test_a_warp_of_strength_0_changes_nothing():
    rng = np.random.default_rng(0)
    source = random_warp(0.0, rng).source(32)
    np.testing.assert_allclose(source, np.moveaxis(np.mgrid[:32, :32][::-1], 0, -1), atol=1e-5)
    picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(warp(picture, source), picture)


@pytest.mark.parametrize("seed", range(4))
def test_a_warp_moves_picture_and_mask_alike(seed):
    mask = np.zeros((1, 64, 64), np.float32)
    mask[:, 36:50, 22:42] = 1
    picture = np.broadcast_to((mask[0] * 255).astype(np.uint8)[:, :, None], (64, 64, 3)).copy()
    source = random_warp(1.0, np.random.default_rng(seed)).source(64)
    moved = warp_mask(mask, source)[0]
    assert set(np.unique(moved)) == {0.0, 1.0}
    assert np.abs(moved - mask[0]).sum() > 20
    assert (moved == (warp(picture, source)[:, :, 0] > 127)).mean() > 0.99


def test_strength_scales_how_far_a_warp_moves():
    still = np.moveaxis(np.mgrid[:64, :64][::-1], 0, -1)
    far = [np.abs(random_warp(s, np.random.default_rng(5)).source(64) - still).mean() for s in (0.25, 0.5, 1.0)]
    assert far[1] / far[0] == pytest.approx(2, rel=0.1)
    assert far[2] / far[1] == pytest.approx(2, rel=0.1)
