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
WIDEN, OPEN, LIFT = 0.25, 0.45, 0.2  # of a mouth: logarithms of factors; its corners' lift, share of its width
REACH = 0.95  # radius in which a mouth's deformation fades, in widths of it


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


def with_other_mouth(
    picture: NDArray[np.uint8], mouth: NDArray[np.float32], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A face whose mouth alone is deformed: narrower or wider, more or less open, its corners lifted or dropped.

    Done to the identity frame and not to the target, it shows mouths of every shape there, smiles among them, so that
    what the mouth does has to come from the sound.

    Args:
        picture: the face [H, W, 3].
        mouth: its mouth's landmarks [P, 2] (x, y), px; where one is NaN nothing is done.
        strength: 0 (nothing) ... 1 (strong).
        rng: source of the draws.
    """
    widen, open_, lift = rng.normal(0, strength, 3) * (WIDEN, OPEN, LIFT)
    if np.isnan(mouth).any():
        return picture
    height, width = picture.shape[:2]
    points = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    low, high = mouth.min(axis=0), mouth.max(axis=0)
    unit = max(float(high[0] - low[0]), 1.0)
    x, y = np.moveaxis((points - (low + high) / 2) / unit, -1, 0)  # in widths of the mouth, from its centre
    fade = np.clip(1 - (x**2 + y**2) / REACH**2, 0, None) ** 2
    moved = np.stack([x * np.expm1(-widen), y * np.expm1(-open_) + 4 * lift * x**2], axis=-1)
    return warp(picture, (points + unit * fade[..., None] * moved).astype(np.float32))


def warp(picture: NDArray[np.uint8], source: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] deformed by random_warp's map; beyond its edges it is mirrored."""
    warped = cv2.remap(picture, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.uint8)


def warp_mask(mask: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    """A mask [1, H, W] of 1 and 0, deformed likewise; beyond its edges it is 0."""
    return np.asarray(cv2.remap(mask[0], source, None, cv2.INTER_NEAREST), np.float32)[None]
