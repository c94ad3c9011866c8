"""Blinks: how many a second, and how long they last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import percentile_filter
from scipy.signal import find_peaks

from dheads_cli.data.eyes import eye_aspect_ratio

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Landmarks

OPEN_PERCENTILE, OPEN_S = 75, 3.0  # the open eye: a percentile of the aspect ratio within so many seconds around
MIN_CLOSED = 0.5  # of the open eye, at the deepest
MIN_PROMINENCE = 0.3  # of the open eye, above what lies between two blinks
MAX_S = 0.8  # at half the prominence; longer is a look down, or closed eyes
MIN_FRAMES = 3


@dataclass(frozen=True)
class Blink:
    """One blink: the frame in which the eye is most closed, and how long it is more than half as closed, s."""

    frame: int
    duration_s: float


class Blinks:
    """Blinks a second and their median duration, of a clip by itself: read a row against the ground-truth row.

    Eye-aspect ratio of both eyes' six points (Soukupova and Cech 2016, "Real-time eye blink detection using facial
    landmarks"), in frames' own landmarks, as a share of what it is when open: its 75th percentile within 3 s around. A
    blink is a dip to half of that or below, that stands out by 0.3 of it and lasts 0.8 s at most at half its height. A
    dip that the clip's beginning or end cuts in half is none. Real people blink 0.1 to 0.7 times a second; 0 is an
    unblinking face. Frames without a face are bridged by straight lines.
    """

    weights = ""

    def __init__(self) -> None:
        self._n_blinks, self._seconds = 0, 0.0
        self._durations: list[float] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """Blinks a second of one clip, and their median duration where it has any."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> tuple[list[float], int, float] | None:
        """Each blink's duration, s, how many frames the clip has, frames a second; None with too few faces."""
        closure = eye_closure(clip.landmarks, clip.fps)
        if closure is None:
            return None
        return [blink.duration_s for blink in find_blinks(closure, clip.fps)], len(closure), clip.fps

    def add(self, measured: tuple[list[float], int, float] | None) -> dict[str, float | str]:
        """Take a clip's blinks in."""
        if measured is None:
            return {"blinks note": "a face in fewer than 3 frames: left out of blinks"}
        durations, n_frames, fps = measured
        self._n_blinks += len(durations)
        self._seconds += n_frames / fps
        self._durations += durations
        rate = {"blinks [1/s]": len(durations) / n_frames * fps}
        return {**rate, **({"blink duration [s]": float(np.median(durations))} if durations else {})}

    def compute(self) -> dict[str, float]:
        """All blinks over all seconds, and the median duration of all blinks."""
        if not self._seconds:
            return {}
        rate = {"blinks [1/s]": self._n_blinks / self._seconds}
        return rate | ({"blink duration [s]": float(np.median(self._durations))} if self._durations else {})


def eye_closure(landmarks: Landmarks, fps: float) -> NDArray[np.float64] | None:
    """How far both eyes are closed: 0 open, 1 closed, float64 [F]; None with a face in fewer than three frames."""
    ratio = eye_aspect_ratio(landmarks)
    seen = np.isfinite(ratio)
    if seen.sum() < MIN_FRAMES:
        return None
    frames = np.arange(len(ratio))
    ratio = np.interp(frames, frames[seen], ratio[seen])
    opened = percentile_filter(ratio, OPEN_PERCENTILE, size=max(MIN_FRAMES, round(OPEN_S * fps)), mode="nearest")
    closure: NDArray[np.float64] = 1 - ratio / np.maximum(opened, 1e-6)
    return closure


def find_blinks(closure: NDArray[np.float64], fps: float) -> list[Blink]:
    """The blinks in a trace of eye closure [F]; see Blinks for what counts as one."""
    frames, facts = find_peaks(
        closure, height=MIN_CLOSED, prominence=MIN_PROMINENCE, width=(None, MAX_S * fps), rel_height=0.5
    )
    return [Blink(int(frame), float(width) / fps) for frame, width in zip(frames, facts["widths"], strict=True)]
