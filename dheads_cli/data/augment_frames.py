"""Other people out of few: random changes of a sample's pictures, the same in all its frames.

What a face looks like then has to be copied from the identity frame; it can't be remembered.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# At strength 1, standard deviations but for the bounds: what keeps a face a face, found by looking.
SCALE, STRETCH, SHIFT = 0.12, 0.10, 0.05  # logarithms of factors; share of the width
TURN = 10.0  # degrees
BEND, CELLS = 0.025, 5  # shift of the knots of a CELLS x CELLS net, share of the width


def jitter_colour(frames: NDArray[np.float32], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Mix and shift the colour channels of frames [N, 3, H, W] in [-1, 1], all alike; strength 0 changes nothing."""
    mix = np.eye(3) * rng.uniform(1 - 0.4 * strength, 1 + 0.4 * strength) + rng.normal(0, 0.15 * strength, (3, 3))
    shift = rng.normal(0, 0.2 * strength, 3)
    if strength == 0:
        return frames
    mixed = np.einsum("ij,njhw->nihw", mix, frames) + shift[:, None, None]
    clipped: NDArray[np.float32] = np.clip(mixed, -1, 1).astype(np.float32)
    return clipped


def random_warp(size: int, strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth deformation of a square picture: size, proportions, turn and place of the face, and local bends.

    Args:
        size: width and height, px.
        strength: 0 (nothing) ... 1 (strong).
        rng: source of the draws.

    Returns:
        For each pixel of the deformed picture, where it comes from [size, size, 2] (x, y), px.
    """
    scale, stretch, turn = rng.normal(0, strength, 3) * (SCALE, STRETCH, np.radians(TURN))
    shift = rng.normal(0, strength * SHIFT, 2)
    bends = rng.normal(0, strength * BEND, (CELLS, CELLS, 2)).astype(np.float32)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = turned * np.exp(scale) @ np.diag(np.exp([stretch / 2, -stretch / 2]))
    place = (np.arange(size) + 0.5) / size - 0.5
    centred = np.stack(np.meshgrid(place, place), axis=-1)  # [size, size, 2], -0.5 ... 0.5
    field = centred @ linear.T + shift + cv2.resize(bends, (size, size), interpolation=cv2.INTER_CUBIC)
    source: NDArray[np.float32] = ((field + 0.5) * size - 0.5).astype(np.float32)
    return source


def warp(picture: NDArray[np.uint8], source: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] deformed by random_warp's map; beyond its edges it is mirrored."""
    warped = cv2.remap(picture, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.uint8)


def warp_mask(mask: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    """A mask [1, H, W] of 1 and 0, deformed likewise; beyond its edges it is 0."""
    return np.asarray(cv2.remap(mask[0], source, None, cv2.INTER_NEAREST), np.float32)[None]
