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
TEETH = 0.5  # share of the deformed mouths that show teeth
CLUTTER = 4  # most shapes about a face


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

    Half of them get painted teeth first. Done to the identity frame and not to the target, it shows mouths of every
    shape there, smiles among them, so that what the mouth does has to come from the sound.

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
    if rng.random() < TEETH:
        picture = with_teeth(picture, x, y, rng)
    fade = np.clip(1 - (x**2 + y**2) / REACH**2, 0, None) ** 2
    moved = np.stack([x * np.expm1(-widen), y * np.expm1(-open_) + 4 * lift * x**2], axis=-1)
    return warp(picture, (points + unit * fade[..., None] * moved).astype(np.float32))


def with_teeth(
    picture: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A face [H, W, 3] with painted teeth; x, y [H, W]: each pixel in widths of the mouth, from its centre."""
    half_width, half_height = rng.uniform(0.25, 0.42), rng.uniform(0.04, 0.14)
    edge = half_height * (1 - (x / half_width) ** 2)  # of the lens: a parabola above, another below
    alpha = np.clip((edge - np.abs(y)) * 12 / half_height, 0, 1) * (np.abs(x) < half_width)
    n_teeth, depth = rng.uniform(6, 10), rng.uniform(0, 0.25)
    shade = 1 - depth * np.abs(np.sin(np.pi * n_teeth * x / (2 * half_width))) ** 8 - 0.3 * (x / half_width) ** 4
    colour = rng.uniform(150, 255) * np.array([1.0, rng.uniform(0.92, 1.0), rng.uniform(0.8, 0.98)])
    painted = picture + alpha[..., None] * (np.clip(shade, 0, 1)[..., None] * colour - picture)
    return np.asarray(painted.round(), np.uint8)


def with_clutter(
    pictures: NDArray[np.uint8], faces: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Pictures with shapes of any colour about the face, the same in all: other backgrounds, collars and hats.

    Args:
        pictures: of one clip [N, H, W, 3].
        faces: landmarks [N, 68, 2] (x, y), px: nothing is painted between those of any picture; NaN where not known.
        rng: source of the draws.
    """
    height, width = pictures.shape[1:3]
    alpha, colour = np.zeros((height, width), np.float32), np.zeros((height, width, 3), np.float32)
    for _ in range(rng.integers(1, CLUTTER + 1)):
        centre, radius = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.1, 0.7)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        corners = centre + radius * rng.uniform(0.5, 1.0, len(angles))[:, None] * np.stack(
            [np.cos(angles), np.sin(angles)], axis=-1
        )
        shape = np.zeros((height, width), np.float32)
        cv2.fillPoly(shape, [np.round(corners * (width, height)).astype(np.int32)], 1.0)
        if rng.random() < 0.5:
            shape = np.asarray(cv2.GaussianBlur(shape, (0, 0), rng.uniform(0.5, 0.04 * width)), np.float32)
        extreme = rng.random() < 0.5  # black, white and pure colours are what rings
        paint = rng.integers(0, 2, rng.choice([1, 3])) * 255.0 if extreme else rng.uniform(0, 255, 3)
        grain = cv2.resize(rng.normal(0, rng.uniform(0, 40), (8, 8, 3)).astype(np.float32), (width, height))
        colour = colour + shape[..., None] * (paint + grain - colour)
        alpha = np.maximum(alpha, shape)
    hulls = [cv2.convexHull(face.astype(np.float32)) for face in faces if not np.isnan(face).any()]
    for hull in hulls:
        cv2.fillPoly(alpha, [np.round(hull).astype(np.int32)], 0.0)
    kept = np.asarray(cv2.erode(alpha, np.ones((1 + height // 40,) * 2, np.uint8)), np.float32) if hulls else alpha * 0
    painted = pictures + kept[..., None] * (np.clip(colour, 0, 255) - pictures)
    return np.asarray(painted.round(), np.uint8)


def warp(picture: NDArray[np.uint8], source: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] deformed by random_warp's map; beyond its edges it is mirrored."""
    warped = cv2.remap(picture, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.uint8)


def warp_mask(mask: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    """A mask [1, H, W] of 1 and 0, deformed likewise; beyond its edges it is 0."""
    return np.asarray(cv2.remap(mask[0], source, None, cv2.INTER_NEAREST), np.float32)[None]
