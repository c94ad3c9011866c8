"""Close the open mouth of a photo: models learn from people who rest with closed lips, and keep a smile's teeth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Inner lips from corner to corner, and what stays where it is: the point below the nose, and the chin.
UPPER, LOWER, NOSE, CHIN = [60, 61, 62, 63, 64], [60, 67, 66, 65, 64], 33, 8
UPPER_SHARE = 0.3  # of the way, which the upper lip goes; the jaw goes the rest
MARGIN = 0.009  # of the crop's width, by which teeth reach beyond the points of the lips
SOFT = 0.0025  # of the crop's width: blur of the curves, which are polygons
LINE, LINE_DEPTH = 0.008, 0.45  # of the crop's width, and how much darker: the line between closed lips


def close_mouth(crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bring the lips of an upright face together, column by column.

    What is between the inner lips is left out; the skin from there to the nose, and to the chin, is stretched to fill
    its place. The line where the lips meet is darkened as far as they were apart.

    Args:
        crop: uint8 RGB [S, S, 3].
        landmarks: of the face [68, 2] (x, y), px of the crop, none of them NaN.

    Returns:
        uint8 RGB [S, S, 3]; `crop` itself where the lips are closed, or where nose, lips and chin do not lie in this
        order: then the face is turned or wrong.
    """
    size = crop.shape[0]
    points = landmarks.astype(np.float64)
    upper, lower = points[UPPER], points[LOWER]
    x, y = np.arange(size) + 0.5, np.arange(size)[:, None] + 0.5  # of pixels' centres
    gap = np.interp(x, lower[:, 0], lower[:, 1]) - np.interp(x, upper[:, 0], upper[:, 1])
    gap[(x < upper[0, 0]) | (x > upper[-1, 0])] = 0
    if np.any(np.diff(upper[:, 0]) <= 0) or np.any(np.diff(lower[:, 0]) <= 0) or gap.max() <= 0:
        return crop
    gap = np.clip(gap, 0, None)
    margin = np.minimum(MARGIN * size, gap / 2)
    upper_lip = _soft(np.interp(x, upper[:, 0], upper[:, 1]) - margin, size)
    gap = _soft(gap + 2 * margin, size)
    lower_lip, line = upper_lip + gap, upper_lip + UPPER_SHARE * gap
    nose, chin = points[NOSE, 1], points[CHIN, 1]
    if upper_lip.min() <= nose or lower_lip.max() >= chin:
        return crop
    above = nose + (y - nose) * (upper_lip - nose) / (line - nose)
    below = chin - (chin - y) * (chin - lower_lip) / (chin - line)
    source = np.where((y < nose) | (y > chin), y, np.where(y <= line, above, below))
    maps = (np.tile(x - 0.5, (size, 1)).astype(np.float32), (source - 0.5).astype(np.float32))
    closed = cv2.remap(crop, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    depth = LINE_DEPTH * np.exp(-(((y - line) / (LINE * size)) ** 2)) * np.clip(gap / (2 * LINE * size), 0, 1)
    return np.asarray((closed * (1 - depth[..., None])).round(), np.uint8)


def _soft(curve: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """A value for each column, blurred along the row."""
    return np.asarray(cv2.GaussianBlur(curve[None], (0, 0), SOFT * size, borderType=cv2.BORDER_REPLICATE)[0])
