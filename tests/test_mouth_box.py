"""The mouth's box: it bounds the lips, grows, and is not there without landmarks."""

import numpy as np

from dheads_cli.data.mouth_box import mouth_mask


def test_the_mouth_box_bounds_the_lips_and_grows():
    landmarks = np.zeros((68, 2), np.float32)
    landmarks[48:] = [[10.4, 20.6]] * 10 + [[15.5, 25.2]] * 10
    box = np.argwhere(mouth_mask(landmarks, 32, 0.0)[0])
    assert box.min(axis=0).tolist() == [20, 10]
    assert box.max(axis=0).tolist() == [25, 15]
    grown = np.argwhere(mouth_mask(landmarks, 32, 2 / 32)[0])
    assert grown.min(axis=0).tolist() == [18, 8]
    assert mouth_mask(np.full((68, 2), np.nan, np.float32), 32, 0.1).sum() == 0
