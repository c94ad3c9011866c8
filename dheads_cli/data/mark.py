"""The visible mark of a video that is made: one word in its lower left corner."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

TEXT = "SYNTHETIC"
HEIGHT = 1 / 24  # of capital letters, share of the frame's height
LEAST_PX = 7  # smaller letters can't be read


def marked(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of a frame, uint8 RGB [H, W, 3], with the mark: white letters with a dark rim, seen on any ground."""
    height, width = frame.shape[:2]
    letters_px = max(LEAST_PX, height * HEIGHT)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(letters_px / 9))
    scale = cv2.getFontScaleFromHeight(font, round(letters_px), thickness)
    (text_px, _), _ = cv2.getTextSize(TEXT, font, scale, thickness)
    margin = round(letters_px / 2)
    scale *= min(1.0, (width - 2 * margin) / text_px)  # a narrow frame still holds the whole word
    copy, corner = frame.copy(), (margin, height - margin)
    for colour, wide in (((0, 0, 0), thickness + 2), ((255, 255, 255), thickness)):
        cv2.putText(copy, TEXT, corner, font, scale, colour, wide, cv2.LINE_AA)
    return copy
