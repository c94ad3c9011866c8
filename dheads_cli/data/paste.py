"""Put drawn faces back into the photo they were cropped from: the photo stands still, the face in it moves.

A drawn crop goes through the inverse of the alignment, and a soft mask over the face joins it to the photo. How the
drawn colours differ from the photo's at the seam is taken from the first frame and holds for all: a colour matched
anew in each frame would flicker.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import align

BROWS, FOREHEAD = slice(17, 27), 0.25  # the mask goes above the brows by this share of the face's height
GROW, SOFT = 0.03, 0.035  # shares of the crop's width: how far the mask goes beyond the landmarks, and its blur (sigma)
EDGE = 0.08  # share of the crop's width on which the mask ends towards the crop's border
SEAM = 0.15  # share of the crop's width over which differences of colour at the seam are averaged (sigma)
MASK_PX = 256


class PasteBack:
    """Frames of the whole photo from crops.

    `size` is their (width, height) px, both even; `enlarged` how many of their px one px of a crop becomes.

    Args:
        picture: the photo, uint8 RGB [H, W, 3].
        transform: similarity, photo px -> crop px, float64 [2, 3].
        crop_px: width and height of the crops.
        margins: of the crops, see align.mean_face_in_crop.
        longest_px: longer side of the frames at most; the photo is never enlarged.
    """

    def __init__(
        self,
        picture: NDArray[np.uint8],
        transform: NDArray[np.float64],
        crop_px: int,
        margins: tuple[float, float, float],
        longest_px: int,
    ) -> None:
        height, width = picture.shape[:2]
        scale = min(1.0, longest_px / max(height, width))
        self.size = (_even(width * scale), _even(height * scale))
        self._photo = np.asarray(cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA), np.uint8)
        # Frame px -> crop px, and back.
        to_crop = transform.copy()
        to_crop[:, :2] = transform[:, :2] @ np.diag([width / self.size[0], height / self.size[1]])
        to_frame = np.asarray(cv2.invertAffineTransform(to_crop), np.float64)
        corners = align.apply(to_frame, np.array([[0, 0], [crop_px, 0], [crop_px, crop_px], [0, crop_px]], np.float64))
        # The part of the frame that the crop covers: a square, which may stand over the frame's borders.
        corner = np.floor(corners.min(axis=0)).astype(int)
        self._side = int(np.ceil((corners - corner).max()))
        self._into = to_frame.copy()
        self._into[:, 2] -= corner
        left, top = np.maximum(corner, 0)
        right, bottom = np.minimum(corner + self._side, self.size)
        self._in_frame = slice(top, bottom), slice(left, right)
        self._in_square = slice(top - corner[1], bottom - corner[1]), slice(left - corner[0], right - corner[0])
        self.enlarged = float(np.hypot(*to_frame[:, 0]))
        self._mask = self._placed(face_mask(crop_px, margins))[..., None]  # [h, w, 1] in 0 ... 1
        self._difference: NDArray[np.float32] | None = None

    def __call__(self, crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The photo with a drawn crop, uint8 RGB [S, S, 3], in its place: uint8 [H, W, 3]."""
        drawn = self._placed(crop).astype(np.float32)
        photo = self._photo[self._in_frame].astype(np.float32)
        if self._difference is None:
            self._difference = seam_difference(photo - drawn, self._mask, SEAM * self._side)
        frame = self._photo.copy()
        joined = photo + self._mask * (drawn + self._difference - photo)
        frame[self._in_frame] = np.clip(np.round(joined), 0, 255).astype(np.uint8)
        return frame

    def _placed(self, crop: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        placed = align.warp(crop, self._into, self._side)  # type: ignore[arg-type]
        return np.asarray(placed[self._in_square])


def face_mask(size: int, margins: tuple[float, float, float]) -> NDArray[np.float32]:
    """Where a crop is drawn: float32 [S, S], 1 on the mean face, soft around it, 0 at the crop's border."""
    face = align.mean_face_in_crop(MASK_PX, margins)
    forehead = face[BROWS] - [0, FOREHEAD * np.ptp(face[:, 1])]
    hull = cv2.convexHull(np.concatenate([face, forehead]).astype(np.float32)).round().astype(np.int32)
    mask = np.zeros((MASK_PX, MASK_PX), np.float32)
    cv2.fillConvexPoly(mask, hull, 1.0)
    grow = 2 * round(GROW * MASK_PX) + 1
    mask = np.asarray(cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grow, grow))), np.float32)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), SOFT * MASK_PX), np.float32)
    place = (np.arange(MASK_PX) + 0.5) / MASK_PX
    ramp = np.clip(np.minimum(place, 1 - place) / EDGE, 0, 1)
    mask *= np.minimum(ramp[None], ramp[:, None]).astype(np.float32)
    mask = np.asarray(cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    mask[[0, -1]] = mask[:, [0, -1]] = 0  # warping repeats the border
    return mask


def seam_difference(
    difference: NDArray[np.float32], mask: NDArray[np.float32], sigma_px: float
) -> NDArray[np.float32]:
    """Differences of colour [h, w, 3] where the mask [h, w, 1] is neither 0 nor 1, spread smoothly over the rest.

    A normalised convolution: G * (w d) / (G * w) with w = 4 m (1 - m).
    """
    weight = 4 * mask * (1 - mask)
    blurred = cv2.GaussianBlur(difference * weight, (0, 0), sigma_px)
    total = cv2.GaussianBlur(weight, (0, 0), sigma_px)[..., None]
    return np.asarray(blurred / np.maximum(total, 1e-6), np.float32)


def _even(length: float) -> int:
    return max(16, round(length / 2) * 2)
