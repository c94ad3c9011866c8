"""Drift: does a picture lose itself while it goes on? Slopes over the seconds of a long clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.over_time import student_half_width, whole_seconds
from dheads_components.metrics.csim import CSIM, is_installed
from dheads_components.metrics.face_box import mean_box, mean_place
from dheads_components.metrics.sharpness import FLAT, laplacian_variance
from dheads_components.metrics.trend import MIN_POINTS, Slope, slope_of

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Frames

CELLS = 8  # colours are those of the picture's means in so many cells each way
UNITS = {"sharpness": "1/s", "colour": "dE/s", "CSIM": "1/s"}


class Drift:
    """Slope a second of sharpness, colour and likeness over a clip, each with its 95 % interval.

    A clip is cut into whole seconds; each has a mean, and a line goes through these (`trend.slope_of`, whose interval
    honours that neighbouring seconds are alike). Not distinguishable from zero: low <= 0 <= high.

    sharpness: variance of the Laplacian within the face's box (metric `sharpness`) over that of the identity frame.
    colour: distance to the identity frame, mean over 8 x 8 cells of CIE 1976 delta E between the cells' mean colours.
    CSIM: cosine to the identity frame (metric `csim`), of every `stride`-th frame.

    0 is a clip that ends as it began. Clips of less than 4 s are left out, and say so; the table counts the others.
    Over several clips the slope is the mean, its interval Student's over the clips, which know nothing of each other.

    Args:
        csim: follow likeness too; None does where the extra dheads[csim] is installed, and `weights` says which.
        stride: every how many frames CSIM is computed.
    """

    def __init__(self, csim: bool | None = None, stride: int = 5) -> None:
        self.stride = stride
        self._csim = CSIM(stride=stride) if (is_installed() if csim is None else csim) else None
        self._n_seen = 0
        self._clips: list[dict[str, Slope]] = []  # of those that are long enough
        self._followed: tuple[Clip, dict[str, NDArray[np.float64]]] | None = None  # the last one's seconds

    @property
    def weights(self) -> str:
        """The network of CSIM, or that there is none."""
        return self._csim.weights if self._csim else "without CSIM (`pip install 'dheads[csim]'` adds it)"

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """Slopes of one clip, with the ends of their intervals."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> dict[str, Slope]:
        """Slopes of one clip by name; none of one that is too short or has no face."""
        return {name: slope_of(values) for name, values in self.per_second(clip).items()}

    def add(self, measured: dict[str, Slope]) -> dict[str, float | str]:
        """Take a clip's slopes in."""
        self._n_seen += 1
        if not measured:
            return {"drift note": f"less than {MIN_POINTS} s, or no face: left out of drift"}
        self._clips.append(measured)
        return {**_named(measured)}

    def compute(self) -> dict[str, float]:
        """How many clips were long enough, and the mean slopes over them."""
        if not self._n_seen:
            return {}
        slopes = {
            name: _over_clips([clip[name] for clip in self._clips if name in clip])
            for name in UNITS
            if any(name in clip for clip in self._clips)
        }
        return {"drift clips": float(len(self._clips))} | _named(slopes)

    def per_second(self, clip: Clip) -> dict[str, NDArray[np.float64]]:
        """Means over each whole second by name, float64 [S] each; empty for a clip that is too short or has no face."""
        if self._followed is None or self._followed[0] is not clip:
            self._followed = (clip, self._follow(clip))
        return self._followed[1]

    def _follow(self, clip: Clip) -> dict[str, NDArray[np.float64]]:
        seconds = whole_seconds(len(clip.frames), clip.fps)
        place, box = mean_place(clip.landmarks), mean_box(clip.landmarks, clip.frames.shape)
        if len(seconds) < MIN_POINTS or place is None or box is None:
            return {}
        values: dict[str, list[float]] = {}
        if self._csim:
            identity = self._csim.embed(clip.identity[None], place)[0]
        level = float(laplacian_variance(clip.identity[None], box)[0])
        for begin, end in seconds:
            frames = clip.frames[begin:end]
            if level > FLAT:
                values.setdefault("sharpness", []).append(float(laplacian_variance(frames, box).mean()) / level)
            values.setdefault("colour", []).append(float(colour_distance(frames, clip.identity).mean()))
            if self._csim:
                embeddings = self._csim.embed(frames[:: self.stride], place)
                values.setdefault("CSIM", []).append(float((embeddings @ identity).mean()))
        return {name: np.array(each) for name, each in values.items()}


def colour_distance(frames: Frames, identity: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIE 1976 delta E of each frame to another, mean over CELLS x CELLS cells' mean colours: float64 [F]."""
    target = _cells(identity)
    return np.array([float(np.linalg.norm(_cells(frame) - target, axis=-1).mean()) for frame in frames])


def _cells(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE L*a*b* [CELLS, CELLS, 3] of a frame's mean colours."""
    means = cv2.resize(frame.astype(np.float32) / 255, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(means, cv2.COLOR_RGB2LAB), dtype=np.float32)


def _over_clips(slopes: list[Slope]) -> Slope:
    if len(slopes) == 1:
        return slopes[0]
    values = np.array([slope.value for slope in slopes])
    mean, half = float(values.mean()), student_half_width(values)
    return Slope(mean, mean - half, mean + half)


def _named(slopes: dict[str, Slope]) -> dict[str, float]:
    named: dict[str, float] = {}
    for name, slope in slopes.items():
        unit = f"[{UNITS[name]}]"
        named |= {
            f"{name} drift {unit}": slope.value,
            f"{name} drift low {unit}": slope.low,
            f"{name} drift high {unit}": slope.high,
        }
    return named
