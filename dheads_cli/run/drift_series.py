"""What a long clip is measured by, second by second, and the line that goes through several clips' seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.long_clips import LongClip
from dheads_cli.data.mouth import mouth_opening, pearson
from dheads_cli.data.over_time import student_half_width, whole_seconds
from dheads_cli.run.eval_pairs import ScoredClip

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, LandmarkDetector, Landmarks, MetricOverTime

Series = dict[str, NDArray[np.float64]]
SILENT = 2e-3  # standard deviation of a real mouth's opening, interocular distances: a speaking one's is 0.02 and more
END_S = 5  # seconds at a clip's beginning and end that are shown as its first and last

DIFFERENCE, MOUTH = "frame difference", "mouth r"


@dataclass(frozen=True)
class Trend:
    """A measure over the seconds of several clips.

    Attributes:
        first: mean of the first END_S seconds, NaN where none is known.
        last: mean of the last END_S seconds.
        slope: change a minute, the mean of the clips' least-squares lines.
        low: lower end of its interval: Student's over the clips, which know nothing of each other. None: one clip.
        high: upper end.
        clips: how many have it.
    """

    first: float
    last: float
    slope: float
    low: float | None
    high: float | None
    clips: int

    @property
    def is_steady(self) -> bool | None:
        """Whether zero lies within the interval; None where there is none."""
        return None if self.low is None or self.high is None else self.low <= 0 <= self.high

    def facts(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        values = {name: None if value != value else value for name, value in asdict(self).items()}
        return {**values, "steady": self.is_steady}


def trend_of(clips: Sequence[NDArray[np.float64]]) -> Trend:
    """The trend of one measure, [S] for each clip; seconds that are NaN are left out."""
    slopes = np.array([line_slope(values) * 60 for values in clips])
    mean = float(slopes.mean())
    half = student_half_width(slopes) if len(slopes) > 1 else None
    return Trend(
        first=known_mean(np.concatenate([values[:END_S] for values in clips])),
        last=known_mean(np.concatenate([values[-END_S:] for values in clips])),
        slope=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        clips=len(clips),
    )


def known_mean(values: NDArray[np.float64]) -> float:
    """Mean of the values that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def line_slope(values: NDArray[np.float64]) -> float:
    """Slope a step of the least-squares line through the values [S] that are known; 0 through fewer than two."""
    steps = np.flatnonzero(np.isfinite(values)).astype(np.float64)
    if len(steps) < 2:
        return 0.0
    centred = steps - steps.mean()
    return float(centred @ values[steps.astype(int)] / (centred @ centred))


def frame_difference(frames: Frames, fps: float, joins: Sequence[int] = ()) -> NDArray[np.float64]:
    """Mean absolute difference of successive frames in each whole second, 8-bit levels, [S].

    Args:
        frames: uint8 RGB [F, H, W, 3].
        fps: frames a second.
        joins: frames that do not follow on the one before; their differences are left out.
    """
    differences = np.array([np.nan, *(_mean_difference(a, b) for a, b in pairwise(frames))])
    differences[list(joins)] = np.nan
    return np.array([known_mean(differences[begin:end]) for begin, end in whole_seconds(len(frames), fps)])


def _mean_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


def mouth_correlation(landmarks: Landmarks, real: Landmarks, fps: float) -> NDArray[np.float64]:
    """Correlation of the mouth's opening with the real clip's in each whole second [S].

    0 where no mouth is seen, or it does not move; NaN where the real one does not.
    """
    opening, wanted = mouth_opening(landmarks), mouth_opening(real)
    pieces = [slice(*second) for second in whole_seconds(len(opening), fps)]
    moves = [np.isfinite(wanted[piece]).any() and np.nanstd(wanted[piece]) > SILENT for piece in pieces]
    values = [pearson(opening[piece], wanted[piece]) if m else np.nan for piece, m in zip(pieces, moves, strict=True)]
    return np.array(values)


@dataclass(frozen=True)
class Gauges:
    """What long clips are measured with.

    Attributes:
        find_landmarks: the detector for drawn frames.
        metric: gives its values second by second.
        real: the real clips, with the corpus's landmarks.
    """

    find_landmarks: LandmarkDetector
    metric: MetricOverTime
    real: list[ScoredClip]

    def of_real(self, clips: Sequence[LongClip]) -> list[Series]:
        """Every second of the real clips; a second has one join at most, which counts as no difference."""
        return [
            {**self.metric.per_second(each), DIFFERENCE: frame_difference(clip.frames, clip.fps, clip.joins)}
            for each, clip in zip(self.real, clips, strict=True)
        ]

    def of_drawn(self, clips: Sequence[LongClip], drawn: Sequence[NDArray[np.uint8]]) -> list[Series]:
        """Every second of drawn clips."""
        found = []
        for real, clip, frames in zip(self.real, clips, drawn, strict=True):
            made = ScoredClip(clip.id, clip.speaker, clip.fps, frames, clip.frames[0], self.find_landmarks)
            found.append({
                **self.metric.per_second(made),
                DIFFERENCE: frame_difference(frames, clip.fps),
                MOUTH: mouth_correlation(made.landmarks, real.landmarks, clip.fps),
            })  # fmt: skip
        return found


def stored(clip: LongClip) -> Callable[[Any], Any]:
    """A detector that knows a clip's landmarks."""
    return lambda frames: clip.landmarks


def facts_of(clips: Sequence[Series]) -> dict[str, Any]:
    """The trend of each measure that any clip has, and every clip's seconds."""
    names = list(dict.fromkeys(name for series in clips for name in series))
    return {
        "trends": {name: trend_of([series[name] for series in clips if name in series]).facts() for name in names},
        "seconds": [{name: [rounded(value) for value in values] for name, values in each.items()} for each in clips],
    }


def rounded(value: float) -> float | None:
    """To four digits after the point; None for NaN."""
    return round(float(value), 4) if math.isfinite(value) else None
