"""Bring every face to the same place: smoothed landmarks -> similarity to a mean face -> square crop.

Landmarks are (x, y) in px from the picture's upper left corner: pixel i spans i ... i + 1, its centre is i + 0.5.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.errors import UnusableClip

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

MEAN_FACE_VERSION = 1
# 68 points, width 1, brows at y = 0. Mean over 27 clips of nine GRID speakers (each speaker counting the same) after
# removing place, size and turn (generalised Procrustes), made symmetric.
MEAN_FACE: NDArray[np.float64] = np.array([
    [0.0049, 0.0936], [0.0000, 0.3193], [0.0103, 0.4337], [0.0644, 0.6861],
    [0.1098, 0.7894], [0.1594, 0.8642], [0.2755, 0.9791], [0.4069, 1.0518],
    [0.5000, 1.0609], [0.5931, 1.0518], [0.7245, 0.9791], [0.8406, 0.8642],
    [0.8902, 0.7894], [0.9356, 0.6861], [0.9897, 0.4337], [1.0000, 0.3193],
    [0.9951, 0.0936], [0.0541, 0.0345], [0.1234, 0.0228], [0.1917, 0.0000],
    [0.2841, 0.0057], [0.3911, 0.0220], [0.6089, 0.0220], [0.7159, 0.0057],
    [0.8083, 0.0000], [0.8766, 0.0228], [0.9459, 0.0345], [0.5000, 0.1549],
    [0.5000, 0.2664], [0.5000, 0.3660], [0.5000, 0.4288], [0.4112, 0.5015],
    [0.4439, 0.5264], [0.5000, 0.5297], [0.5561, 0.5264], [0.5888, 0.5015],
    [0.1829, 0.1779], [0.2279, 0.1511], [0.2984, 0.1473], [0.3766, 0.1903],
    [0.3091, 0.2010], [0.2383, 0.2035], [0.6234, 0.1903], [0.7016, 0.1473],
    [0.7721, 0.1511], [0.8171, 0.1779], [0.7617, 0.2035], [0.6909, 0.2010],
    [0.3283, 0.7079], [0.4009, 0.6621], [0.4480, 0.6475], [0.5000, 0.6583],
    [0.5520, 0.6475], [0.5991, 0.6621], [0.6717, 0.7079], [0.6014, 0.7890],
    [0.5550, 0.8094], [0.5000, 0.8163], [0.4450, 0.8094], [0.3986, 0.7890],
    [0.3447, 0.7084], [0.4573, 0.6974], [0.5000, 0.6996], [0.5427, 0.6974],
    [0.6553, 0.7084], [0.5429, 0.7385], [0.5000, 0.7422], [0.4571, 0.7385],
])  # fmt: skip
# The points that move least when a person speaks: below the nose, and the corners of the eyes.
STABLE_POINTS = [33, 36, 39, 42, 45]
MARGINS = (0.11, 0.335, 0.155)  # side, above, below (METHOD section 5)


def fill_gaps(landmarks: Landmarks, max_gap_frames: int) -> tuple[NDArray[np.float64], int]:
    """Interpolate frames without a face in time; at the ends the nearest face stands still.

    Args:
        landmarks: [F, 68, 2], NaN where there is no face.
        max_gap_frames: longest run of such frames that is filled.

    Returns:
        float64 [F, 68, 2] without NaN, and the number of frames filled.

    Raises:
        UnusableClip: no face in any frame, or a longer run without one.
    """
    found = has_face(landmarks)
    if not found.any():
        raise UnusableClip("no face", f"in any of {len(found)} frames")
    for begin, end in _runs(~found):
        if end - begin > max_gap_frames:
            raise UnusableClip("face lost", f"in {end - begin} frames, {begin} to {end - 1}")
    filled = landmarks.astype(np.float64)
    if not found.all():
        frames, known = np.arange(len(found)), np.flatnonzero(found)
        flat = filled.reshape(len(found), -1)
        for column in range(flat.shape[1]):
            flat[:, column] = np.interp(frames, known, flat[known, column])
    return filled, int((~found).sum())


def has_face(landmarks: Landmarks) -> NDArray[np.bool_]:
    """In which frames a face was found: [F, 68, 2] -> bool [F]."""
    return np.asarray(np.isfinite(landmarks).all(axis=(1, 2)))


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end (exclusive) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def smooth(landmarks: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Centred moving average of [F, ...] over `width` frames; the window is cut short at the ends."""
    half = width // 2
    total = np.cumsum(np.concatenate([np.zeros_like(landmarks[:1]), landmarks]), axis=0)
    frames = np.arange(len(landmarks))
    begin, end = np.maximum(frames - half, 0), np.minimum(frames + half + 1, len(landmarks))
    counts = (end - begin).reshape(-1, *[1] * (landmarks.ndim - 1))
    mean: NDArray[np.float64] = (total[end] - total[begin]) / counts
    return mean


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares turn, scale and shift of points [N, 2] onto others [N, 2]: float64 [2, 3].

    As complex numbers: min sum |a z + b - w|^2, so a = sum conj(z') w' / sum |z'|^2 of the centred z', w'.
    """
    z, w = source @ [1, 1j], target @ [1, 1j]
    z_centred, w_centred = z - z.mean(), w - w.mean()
    a = (z_centred.conj() @ w_centred) / np.sum(np.abs(z_centred) ** 2)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def mean_face_in_crop(size: int, margins: tuple[float, float, float] = MARGINS) -> NDArray[np.float64]:
    """MEAN_FACE in px of a size x size crop, [68, 2].

    Args:
        size: width and height of the crop, px.
        margins: side, as a share of the mean face's width; above and below, of its height from brows to chin.
            Faces are never squeezed: where that box is not square, it grows equally on both of its shorter sides.
    """
    side, above, below = margins
    width, height = np.ptp(MEAN_FACE, axis=0)
    left, top = -side * width, -above * height
    box_width, box_height = width * (1 + 2 * side), height * (1 + above + below)
    length = max(box_width, box_height)
    corner = np.array([left - (length - box_width) / 2, top - (length - box_height) / 2])
    placed: NDArray[np.float64] = (MEAN_FACE - corner) * (size / length)
    return placed


def crop_transform(
    landmarks: NDArray[np.float64], size: int, margins: tuple[float, float, float] = MARGINS
) -> NDArray[np.float64]:
    """Similarity that takes a face's stable points [68, 2] onto the mean face's in the crop: float64 [2, 3]."""
    return similarity(landmarks[STABLE_POINTS].astype(np.float64), mean_face_in_crop(size, margins)[STABLE_POINTS])


def apply(transform: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Map points [..., 2] by a transform [2, 3]."""
    return (points @ transform[:, :2].T + transform[:, 2]).astype(np.float32)


def warp(frame: NDArray[np.uint8], transform: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """Draw the crop [size, size, 3]; edges are repeated, and shrinking averages over all pixels it meets."""
    scale = math.hypot(transform[0, 0], transform[1, 0])
    # When it shrinks, sample at least once a pixel of the source, then average: no aliasing.
    factor = max(1, math.ceil(1 / scale))
    fine = transform * factor
    # OpenCV counts from the centre of the first pixel, landmarks from its corner.
    fine[:, 2] += fine[:, :2] @ [0.5, 0.5] - 0.5
    interpolation = cv2.INTER_LINEAR if factor > 1 else cv2.INTER_CUBIC
    crop = cv2.warpAffine(
        frame, fine, (size * factor, size * factor), flags=interpolation, borderMode=cv2.BORDER_REPLICATE
    )
    if factor > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return crop  # type: ignore[return-value]


def align_clip(
    frames: Frames,
    landmarks: Landmarks,
    size: int,
    margins: tuple[float, float, float] = MARGINS,
    smooth_frames: int = 7,
    max_gap_frames: int = 5,
) -> tuple[Frames, Landmarks, NDArray[np.float64], int]:
    """Crop the face out of every frame of a clip.

    The transforms follow the smoothed landmarks, so the crop is steady; the landmarks given back are the unsmoothed
    ones under these transforms, so that lips open as far and as fast as in the source.

    Args:
        frames: uint8 RGB [F, H, W, 3].
        landmarks: [F, 68, 2] px, NaN where there is no face.
        size: width and height of the crops, px.
        margins: see mean_face_in_crop.
        smooth_frames: width of the smoothing window.
        max_gap_frames: longest run of frames without a face that is interpolated.

    Returns:
        crops uint8 [F, size, size, 3]; landmarks float32 [F, 68, 2] px of the crop; transforms float64 [F, 2, 3],
        source px -> crop px; number of frames whose landmarks were interpolated.

    Raises:
        UnusableClip: there is no face, or it is away for too long.
    """
    filled, n_filled = fill_gaps(landmarks, max_gap_frames)
    transforms = np.stack([crop_transform(points, size, margins) for points in smooth(filled, smooth_frames)])
    crops = np.stack([warp(frame, transform, size) for frame, transform in zip(frames, transforms, strict=True)])
    mapped = np.stack([apply(transform, points) for transform, points in zip(transforms, filled, strict=True)])
    return crops, mapped, transforms, n_filled


def align_image(
    image: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    size: int,
    margins: tuple[float, float, float] = MARGINS,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64]]:
    """Crop one face [68, 2] out of a picture [H, W, 3]: crop [size, size, 3], its landmarks, transform [2, 3]."""
    transform = crop_transform(landmarks.astype(np.float64), size, margins)
    return warp(image, transform, size), apply(transform, landmarks.astype(np.float64)), transform
