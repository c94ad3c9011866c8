"""How clips change while they last: what the page of `dheads eval` draws its drift curves from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.over_time import student_half_width
from dheads_cli.protocols import Metric, MetricOverTime
from dheads_cli.run.eval_pairs import Pair
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH, OTHER_REAL

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames

STEP_S = 0.2  # frames are meant over so long, so that clips of all frame rates share their points
FROM_REAL = "mean difference from the real frame, 0-255"
FROM_IDENTITY = "mean difference from the identity frame, 0-255"
FROM_BEFORE = "mean difference from the frame before, 0-255"


@dataclass(frozen=True)
class Curve:
    """The mean over clips of a measure, point by point.

    Attributes:
        times: float64 [S], s; the middle of what each point is the mean of.
        means: float64 [S].
        halves: float64 [S], half the width of Student's 95 % interval over clips; NaN where one clip alone lasts.
        n_clips: how many clips the first point has.
    """

    times: NDArray[np.float64]
    means: NDArray[np.float64]
    halves: NDArray[np.float64]
    n_clips: int


Series: TypeAlias = dict[str, tuple[float, NDArray[np.float64]]]  # measure -> seconds a step, values [S]


def series_of(pair: Pair, metrics: Mapping[str, Metric]) -> Series:
    """Follow one pair.

    The three mean absolute differences of pixels need no detector and no second-long clips. What a metric follows by
    the second (`protocols.MetricOverTime`) is taken too.
    """
    frames, fps = pair.clip.frames, pair.clip.fps
    found: Series = {}
    if pair.row in (GENERATED, OTHER_REAL):
        found[FROM_REAL] = STEP_S, _in_steps(_differences(frames, pair.reference.frames), fps)
    if pair.row in (GENERATED, GROUND_TRUTH):
        found[FROM_IDENTITY] = STEP_S, _in_steps(_differences(frames, pair.clip.identity[None]), fps)
        if len(frames) > 1:
            found[FROM_BEFORE] = STEP_S, _in_steps(_differences(frames[1:], frames[:-1]), fps)
        for metric in metrics.values():
            for name, values in metric.per_second(pair.clip).items() if isinstance(metric, MetricOverTime) else ():
                found[f"{name}, by the second"] = 1.0, values
    return found


@dataclass
class Curves:
    """Measures over time of the pairs that are scored."""

    _series: dict[tuple[str, str], list[tuple[float, NDArray[np.float64]]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, row: str, series: Series) -> None:
        """Take one pair in; `row` is its row of the table."""
        for measure, step_and_values in series.items():
            self._series[measure, row].append(step_and_values)

    def measures(self) -> dict[str, dict[str, Curve]]:
        """Measure -> row of the table -> its curve."""
        found: dict[str, dict[str, Curve]] = defaultdict(dict)
        for (measure, row), series in self._series.items():
            known = [(step_s, values) for step_s, values in series if len(values)]
            if known:
                found[measure][row] = mean_curve(known[0][0], [values for _, values in known])
        return dict(found)


def mean_curve(step_s: float, series: list[NDArray[np.float64]]) -> Curve:
    """The mean of series [S] of several lengths, each point over those that last so long."""
    at = [[values[i] for values in series if i < len(values)] for i in range(max(map(len, series)))]
    halves = [student_half_width(np.array(values)) if len(values) > 1 else math.nan for values in at]
    times = (np.arange(len(at), dtype=np.float64) + 0.5) * step_s
    return Curve(times, np.array([float(np.mean(values)) for values in at]), np.array(halves), len(at[0]))


def _differences(frames: Frames, others: Frames) -> NDArray[np.float64]:
    """Mean absolute difference of each frame from another [F], frame by frame: clips are too large to do at once."""
    pairs = zip(frames, others if len(others) > 1 else [others[0]] * len(frames), strict=True)
    return np.array([np.abs(a.astype(np.int16) - b).mean() for a, b in pairs])


def _in_steps(values: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Means of values a frame [F] over each STEP_S that is whole."""
    steps = ((np.arange(len(values)) + 0.5) / fps / STEP_S).astype(int)
    n_whole = int(len(values) / fps / STEP_S + 1e-6)
    return np.array([values[steps == step].mean() for step in range(n_whole) if (steps == step).any()])
