"""Other people out of few: random changes of a sample's pictures, the same in all its frames.

What a face looks like then has to be copied from the identity frame; it can't be remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# At strength 1, standard deviations but for the bounds: what keeps a face a face, found by looking.
SCALE, STRETCH, SHIFT = 0.12, 0.10, 0.05  # logarithms of factors; share of the width
TURN = 10.0  # degrees
BEND, CELLS = 0.025, 5  # shift of the knots of a CELLS x CELLS net, share of the width


@dataclass(frozen=True)
class Warp:
    """A smooth deformation of a square picture; places are shares of its width from its middle.

    Attributes:
        linear: size, proportions and turn [2, 2] (x, y).
        shift: [2] (x, y).
        bends: shift of the knots of a net over the picture, float32 [CELLS, CELLS, 2] (x, y).
    """

    linear: NDArray[np.float64]
    shift: NDArray[np.float64]
    bends: NDArray[np.float32]

    def source(self, size: int) -> NDArray[np.float32]:
        """For each pixel of the deformed picture, where it comes from [size, size, 2] (x, y), px."""
        place = (np.arange(size) + 0.5) / size - 0.5
        centred = np.stack(np.meshgrid(place, place), axis=-1)  # [size, size, 2], -0.5 ... 0.5
        bends = cv2.resize(self.bends, (size, size), interpolation=cv2.INTER_CUBIC)
        field = centred @ self.linear.T + self.shift + bends
        source: NDArray[np.float32] = ((field + 0.5) * size - 0.5).astype(np.float32)
        return source


@dataclass(frozen=True)
class Changes:
    """What is done to all pictures of a sample alike, in this order.

    Attributes:
        warp: the deformation, or None.
        colour: float32 [3, 4]: a mix of the colour channels in [-1, 1], and what is added to each; or None.
        flipped: mirrored, left to right.
    """

    warp: Warp | None
    colour: NDArray[np.float32] | None
    flipped: bool


def random_changes(
    warp: float, colour_jitter: float, flip: float, rng: np.random.Generator
) -> Changes:
    """Draw changes: strengths of warp and colour (0: none), and how often a sample is mirrored."""
    drawn = random_warp(warp, rng) if warp else None
    colour = random_colour(colour_jitter, rng)
    return Changes(drawn, colour if colour_jitter else None, bool(rng.random() < flip))


def random_colour(strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A mix and shift of the colour channels, float32 [3, 4], as `Changes.colour`."""
    mix = np.eye(3) * rng.uniform(1 - 0.4 * strength, 1 + 0.4 * strength) + rng.normal(0, 0.15 * strength, (3, 3))
    shift = rng.normal(0, 0.2 * strength, 3)
    return np.concatenate([mix, shift[:, None]], axis=1).astype(np.float32)


def random_warp(strength: float, rng: np.random.Generator) -> Warp:
    """A deformation: size, proportions, turn and place of the face, and local bends; 0 (nothing) ... 1 (strong)."""
    scale, stretch, turn = rng.normal(0, strength, 3) * (SCALE, STRETCH, np.radians(TURN))
    shift = rng.normal(0, strength * SHIFT, 2)
    bends = rng.normal(0, strength * BEND, (CELLS, CELLS, 2)).astype(np.float32)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = turned * np.exp(scale) @ np.diag(np.exp([stretch / 2, -stretch / 2]))
    return Warp(linear, shift, bends)


def changed(
    pictures: NDArray[np.uint8], mask: NDArray[np.float32], changes: Changes
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pictures [N, H, W, 3] and a mask [1, H, W] of 1 and 0, changed; pictures come back as [N, 3, H, W] in [-1, 1]."""
    if changes.warp is not None:
        source = changes.warp.source(pictures.shape[1])
        pictures, mask = np.stack([warp(picture, source) for picture in pictures]), warp_mask(mask, source)
    frames: NDArray[np.float32] = pictures.astype(np.float32) / 127.5 - 1
    if changes.colour is not None:
        frames = recolour(frames, changes.colour)
    if changes.flipped:
        frames, mask = frames[:, :, ::-1], mask[..., ::-1]
    return frames.transpose(0, 3, 1, 2), mask


def recolour(frames: NDArray[np.float32], colour: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix and shift the channels of frames [N, H, W, 3] in [-1, 1] as `Changes.colour` says."""
    mixed = np.empty_like(frames)
    for frame, out in zip(frames, mixed, strict=True):  # all at once, equal frames might be rounded apart
        cv2.transform(frame, colour, out)
    return np.clip(mixed, -1, 1, out=mixed)


def warp(picture: NDArray[np.uint8], source: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] deformed by a warp's map; beyond its edges it is mirrored."""
    warped = cv2.remap(picture, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.uint8)


def warp_mask(mask: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    """A mask [1, H, W] of 1 and 0, deformed likewise; beyond its edges it is 0."""
    return np.asarray(cv2.remap(mask[0], source, None, cv2.INTER_NEAREST), np.float32)[None]
