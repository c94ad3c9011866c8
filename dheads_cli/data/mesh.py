"""Motion of a face as a mesh: taken from a filmed face, and given to the face of a photo.

Meshes have the 478 points of MediaPipe's Face Mesh as float64 [478, 3] (x right, y down, z away), px of their picture.
The motion of a clip is split into how the head turns, how the face below moves, and how far the eyes are open, so that
each can be scaled and given to a face of another shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

# Lips and eyes from corner to corner: point i of an upper row lies above point i of its lower row.
INNER_UPPER = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
INNER_LOWER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
OUTER_UPPER = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
OUTER_LOWER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
EYES = (
    ([33, 246, 161, 160, 159, 158, 157, 173, 133], [33, 7, 163, 144, 145, 153, 154, 155, 133]),
    ([263, 466, 388, 387, 386, 385, 384, 398, 362], [263, 249, 390, 373, 374, 380, 381, 382, 362]),
)  # the picture's left and right
CREASES = ([33, 247, 30, 29, 27, 28, 56, 190, 133], [263, 467, 260, 259, 257, 258, 286, 414, 362])  # above the lids
OVAL = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
]  # fmt: skip
# Points that neither speech nor brows move much: bridge of the nose, corners of the eyes, upper rim of the face.
RIGID = [168, 6, 197, 195, 5, 4, 33, 133, 362, 263, 10, 151, 127, 356, 234, 454, 54, 284, 103, 332, 67, 297]
NOSE_BASE, CHIN = 2, 152
CHEEKS = [50, 101, 205, 280, 330, 425]

REST_SHARE = 0.1  # of a clip's frames: those with the narrowest mouth are its rest
SHUT = 0.3  # of the usual height of an eye: MediaPipe's lids are this far apart when eyes are shut (GRID's blinks)
WIDEST_EYE = 1.15  # of the usual height
LID_MEETS = 0.15  # where the lids meet: share of the eye's height above the lower lid
CREASE_FOLLOWS = 0.35  # share of the upper lid's way that the crease above it goes
UPPER_SHARE = 0.35  # of an open mouth's gap: what the upper lip goes when it is closed; the lower lip goes the rest
CHIN_FOLLOWS = 0.4  # share of the lower lip's way that the chin goes when an open mouth is closed
MOUTH_WIDTHS = (0.7, 1.4)  # limits of the ratio of two mouths' widths


@dataclass(frozen=True)
class Motion:
    """What a face does in a clip of F frames, seen from its own rest.

    Attributes:
        rest: the face at rest [478, 3], px of the clip.
        offsets: where each point has gone when the head's turn is undone [F, 478, 3], px of the clip.
        turns: rotation of the head from its rest, as rotation vectors [F, 3], radians.
        eyes: openness of the picture's left and right eye as a share of the usual one, 0 ... WIDEST_EYE [F, 2].
    """

    rest: Array
    offsets: Array
    turns: Array
    eyes: Array


def motion_of(meshes: Array) -> Motion:
    """The motion in a clip's meshes [F, 478, 3], smoothed in time by (1 2 1) / 4."""
    padded = np.concatenate([meshes[:1], meshes, meshes[-1:]]).astype(np.float64)
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    openings = opening(smooth)
    at_rest = np.argsort(openings, kind="stable")[: max(1, round(REST_SHARE * len(smooth)))]
    upright, turns = _unturned(smooth, smooth[at_rest[0]])
    rest = np.median(upright, axis=0)
    below = rest[:, 1] > rest[NOSE_BASE, 1]
    rest[below] = upright[at_rest][:, below].mean(axis=0)
    middle = Rotation.from_rotvec(turns).mean()
    relative = (Rotation.from_rotvec(turns) * middle.inv()).as_rotvec()
    return Motion(rest, upright - rest, relative, eye_openness(smooth))


def opening(meshes: Array) -> Array:
    """Mean gap of the inner lips over the distance of the outer corners of the eyes: [..., 478, 3] -> [...]."""
    gap = (meshes[..., INNER_LOWER, :] - meshes[..., INNER_UPPER, :])[..., 1:-1, 1].mean(axis=-1)
    return np.asarray(gap / np.linalg.norm(meshes[..., 263, :] - meshes[..., 33, :], axis=-1))


def eye_openness(meshes: Array) -> Array:
    """Openness of both eyes, 1 as they usually are in the clip: [F, 478, 3] -> [F, 2] in 0 ... WIDEST_EYE."""
    heights = []
    for upper, lower in EYES:
        width = np.linalg.norm(meshes[:, upper[0]] - meshes[:, upper[-1]], axis=-1)
        gaps = np.linalg.norm(meshes[:, upper[2:-2]] - meshes[:, lower[2:-2]], axis=-1).mean(axis=-1)
        heights.append(gaps / width)
    ratio = np.stack(heights, axis=1)
    usual = np.percentile(ratio, 75, axis=0)
    return np.asarray(np.clip((ratio / usual - SHUT) / (1 - SHUT), 0, WIDEST_EYE))


def rotation_between(source: Array, target: Array) -> tuple[Array, float]:
    """Least-squares rotation [3, 3] and scale of a mesh [478, 3] onto another, by the RIGID points (Umeyama 1991)."""
    a, b = (each[RIGID] - each[RIGID].mean(axis=0) for each in (source, target))
    u, singular, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = u * sign @ vt
    return rotation, float((singular * sign).sum() / (a**2).sum())


def _unturned(meshes: Array, onto: Array) -> tuple[Array, Array]:
    """Meshes [F, 478, 3] turned and scaled onto one of them, and the turns undone, rotation vectors [F, 3]."""
    centre = onto[RIGID].mean(axis=0)
    upright, turns = np.empty_like(meshes), np.empty((len(meshes), 3))
    for i, mesh in enumerate(meshes):
        rotation, scale = rotation_between(mesh, onto)
        upright[i] = scale * (mesh - mesh[RIGID].mean(axis=0)) @ rotation.T + centre
        turns[i] = Rotation.from_matrix(rotation.T).as_rotvec()
    return upright, turns


def with_closed_lips(mesh: Array) -> Array:
    """A mesh [478, 3] whose inner lips meet; the other lip points and the chin follow in part."""
    upper, lower = mesh[INNER_UPPER], mesh[INNER_LOWER]
    gap = np.clip(lower[:, 1] - upper[:, 1], 0, None)
    middle_x = (upper[:, 0] + lower[:, 0]) / 2
    gap_at = np.interp(mesh[:, 0], middle_x, gap, left=0, right=0)
    line = np.interp(mesh[:, 0], middle_x, upper[:, 1] + UPPER_SHARE * gap)
    nose, chin, most = mesh[NOSE_BASE, 1], mesh[CHIN, 1], gap.max()
    y, closed = mesh[:, 1], mesh.copy()
    above = (y > nose) & (y <= line)
    fade = np.clip((y - nose) / np.maximum(line - UPPER_SHARE * gap_at - nose, 1e-6), 0, 1)
    closed[above, 1] += (UPPER_SHARE * gap_at * fade)[above]
    below = y > line
    depth = np.clip((y - line - (1 - UPPER_SHARE) * gap_at) / max(chin - line.mean() - most, 1e-6), 0, 1)
    chin_way = CHIN_FOLLOWS * (1 - UPPER_SHARE) * most
    way = (1 - UPPER_SHARE) * gap_at * (1 - depth) + chin_way * depth
    closed[below, 1] -= way[below]
    for up, low, where in zip(INNER_UPPER, INNER_LOWER, upper[:, 1] + UPPER_SHARE * gap, strict=True):
        closed[[up, low], 1] = where
    return closed


def moved(mesh: Array, motion: Motion, *, mouth: float = 1.0, head: float = 1.0, turns: Array | None = None) -> Array:
    """The mesh of a photo in each frame of a motion.

    Args:
        mesh: the photo's face with closed lips [478, 3], px of the photo.
        motion: of a clip.
        mouth: factor of what the face does below the nose.
        head: factor of the head's turns.
        turns: further turns of the head, rotation vectors [F, 3], radians.

    Returns:
        [F, 478, 3], px of the photo.
    """
    rotation, scale = rotation_between(motion.rest, mesh)
    offsets = scale * motion.offsets @ rotation.T
    below = np.clip((mesh[:, 1] - mesh[NOSE_BASE, 1]) / (0.2 * (mesh[CHIN, 1] - mesh[NOSE_BASE, 1])), 0, 1)
    ratio = _mouth_width(mesh) / (scale * _mouth_width(motion.rest))
    offsets[..., 0] *= 1 + below * (np.clip(ratio, *MOUTH_WIDTHS) - 1)
    posed = mesh + offsets * (1 + below * (mouth - 1))[:, None]
    lips = posed[:, INNER_UPPER, 1], posed[:, INNER_LOWER, 1]
    crossed = np.clip(lips[0] - lips[1], 0, None) / 2  # a rest that was not quite closed: lips press, they do not cross
    posed[:, INNER_UPPER, 1] -= crossed
    posed[:, INNER_LOWER, 1] += crossed
    for index, ((upper, lower), crease) in enumerate(zip(EYES, CREASES, strict=True)):
        posed = _with_lids(posed, mesh, motion.eyes[:, index], upper, lower, crease)
    turned = Rotation.from_rotvec(head * motion.turns)
    if turns is not None:
        turned = Rotation.from_rotvec(turns) * turned
    pivot = mesh[CHIN] + (0.0, 0.25 * np.ptp(mesh[:, 1]), 0.5 * np.ptp(mesh[:, 0]))  # in the neck
    matrices = (Rotation.from_matrix(rotation) * turned * Rotation.from_matrix(rotation).inv()).as_matrix()
    return np.asarray(np.einsum("fij,fpj->fpi", matrices, posed - pivot) + pivot)


def _mouth_width(mesh: Array) -> float:
    return float(np.linalg.norm(mesh[291] - mesh[61]))


def _with_lids(
    posed: Array, mesh: Array, openness: Array, upper: list[int], lower: list[int], crease: list[int]
) -> Array:
    """Meshes [F, 478, 3] with one eye's lids as far apart as its openness [F] says, relative to `mesh`."""
    height = mesh[upper] - mesh[lower]  # [P, 3]
    meet = mesh[lower] + LID_MEETS * height
    share = openness[:, None, None]
    shift = (posed[:, [upper[0], upper[-1]]] - mesh[[upper[0], upper[-1]]]).mean(axis=1, keepdims=True)
    posed = posed.copy()
    posed[:, upper] = meet + share * (mesh[upper] - meet) + shift
    posed[:, lower] = meet + share * (mesh[lower] - meet) + shift
    posed[:, crease[1:-1]] = (mesh[crease] + CREASE_FOLLOWS * (share - 1) * (mesh[upper] - meet) + shift)[:, 1:-1]
    return posed
