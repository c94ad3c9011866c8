"""How a photo of a face differs from the faces that models learn from, in numbers; and which of several suits best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import align
from dheads_cli.data.eyes import eye_aspect_ratio
from dheads_cli.data.head_pose import head_pose
from dheads_cli.data.mouth import mouth_opening
from dheads_cli.data.quality import sharpness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dheads_cli.protocols import Landmarks

MEASURED_PX = 128  # crops are measured in this size
THUMBNAIL_PX = 32  # and compared in this

# Of 216 frames of nine GRID speakers, which the shipped models learned from: yaw -5 ... 8 and pitch -10 ... 9 degrees,
# sharpness from 0.20, misfit up to 4.1 %. Warnings begin clearly beyond.
SEEN_DEG, MAX_DEG = 10, 15.0
SEEN_SHARPNESS, MIN_SHARPNESS = 0.20, 0.14
SEEN_MISFIT, MAX_MISFIT = 0.041, 0.045
MIN_EYES, MAX_MOUTH, MAX_OUTSIDE = 0.12, 0.1, 0.1


@dataclass(frozen=True)
class Portrait:
    """Measures of one face in a picture.

    Attributes:
        extent_px: distance of the outermost landmarks.
        yaw_deg, pitch_deg: turn of the head, see head_pose.
        eyes: eye-aspect ratio, height over width, mean of both; 0.3 is open, below 0.1 closed.
        mouth: opening of the inner lips in distances of the eyes.
        sharpness: see quality.sharpness.
        misfit: see misfit.
        outside: share of the crop that lies outside the picture.
    """

    extent_px: float
    yaw_deg: float
    pitch_deg: float
    eyes: float
    mouth: float
    sharpness: float
    misfit: float
    outside: float

    @property
    def fitness(self) -> float:
        """How well it suits as the picture of who speaks; larger is better.

        In units of what is still good: 15 degrees of turn, a mouth open by 0.15, and eyes and sharpness twice, as
        shares of GRID's medians. Eyes count no further than wide open.
        """
        turn = float(np.hypot(self.yaw_deg, self.pitch_deg))
        return 2 * min(self.eyes, 0.35) / 0.29 + 2 * self.sharpness / 0.27 - turn / 15 - max(self.mouth, 0) / 0.15


def measure(
    picture: NDArray[np.uint8], landmarks: NDArray[np.float32], margins: tuple[float, float, float]
) -> Portrait:
    """Measure a face [68, 2] px of a picture, uint8 RGB [H, W, 3], cropped with these margins."""
    crop, _, transform = align.align_image(picture, landmarks, MEASURED_PX, margins)
    yaw, pitch, _ = head_pose(landmarks[None])[0].tolist()
    return Portrait(
        extent_px=float(np.ptp(landmarks, axis=0).max()),
        yaw_deg=yaw,
        pitch_deg=pitch,
        eyes=float(eye_aspect_ratio(landmarks[None])[0]),
        mouth=float(mouth_opening(landmarks[None])[0]),
        sharpness=sharpness(crop[None], margins),
        misfit=misfit(landmarks, margins),
        outside=_outside(picture.shape, transform),
    )


def misfit(landmarks: Landmarks, margins: tuple[float, float, float]) -> float:
    """RMS distance of a face's points [68, 2], aligned, from the mean face's, share of the crop's width."""
    face = landmarks.astype(np.float64)
    points = align.apply(align.crop_transform(face, 1, margins), face)
    apart = points - align.mean_face_in_crop(1, margins)
    return float(np.sqrt(np.mean(np.sum(apart**2, axis=1))))


def unlikeness(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much each of a film's faces [F, S, S, 3] differs from their median: 1 - r of their gray pixels, [F]."""
    gray = crops.mean(axis=3).reshape(len(crops), -1)
    usual = np.median(gray, axis=0)
    gray, usual = gray - gray.mean(axis=1, keepdims=True), usual - usual.mean()
    norms = np.linalg.norm(gray, axis=1) * np.linalg.norm(usual)
    return np.asarray(1 - gray @ usual / np.maximum(norms, 1e-9), np.float64)


def _outside(shape: tuple[int, ...], transform: NDArray[np.float64]) -> float:
    """Share of the crop that a picture [H, W, 3] does not reach."""
    height, width = shape[:2]
    corners = align.apply(transform, np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64))
    crop = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * MEASURED_PX
    return 1 - float(cv2.intersectConvexConvex(corners, crop)[0]) / MEASURED_PX**2


def doubts(portrait: Portrait) -> Iterator[str]:
    """Why a video of this face may be poor, a sentence each, with the number and what models learn from."""
    for name, degrees in (("to the side", portrait.yaw_deg), ("up or down", portrait.pitch_deg)):
        if abs(degrees) > MAX_DEG:
            yield f"the face is turned {name} by {abs(degrees):.0f} degrees (trained: up to {SEEN_DEG})"
    if portrait.mouth > MAX_MOUTH:
        yield (
            f"the mouth is open, by {portrait.mouth:.2f} of the eyes' distance: a smile may stay, or leave teeth in "
            "closed lips"
        )
    if portrait.eyes < MIN_EYES:
        yield f"the eyes are closed, {portrait.eyes:.2f} as high as wide (open: 0.3)"
    if portrait.sharpness < MIN_SHARPNESS:
        yield f"the face is blurred, sharpness {portrait.sharpness:.2f} (trained: from {SEEN_SHARPNESS:.2f})"
    if portrait.misfit > MAX_MISFIT:
        yield (
            f"its points are {portrait.misfit:.1%} of the crop off a mean face's (trained: to {SEEN_MISFIT:.1%}): "
            "covered, turned or distorted?"
        )
    if portrait.outside > MAX_OUTSIDE:
        yield f"{portrait.outside:.0%} of the crop lies outside the picture and is made of its edge"
