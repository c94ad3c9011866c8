"""Are lips and sound in step? The correlation of mouth opening and loudness, and the lag at which it is greatest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.lip_sound import quickened
from dheads_cli.data.mouth import shifted

MAX_LAG_S = 0.6
SLOW_S = 0.44  # what changes slower than this is taken out: it tells speech from silence, but hardly a lag
MIN_OVERLAP = 12  # frames: fewer give no correlation worth the name
QUIET = 1e-3  # amplitude added before the logarithm: noise below -60 dB is as good as silence


@dataclass(frozen=True)
class LagCurve:
    """Correlation at each lag, over clips.

    Attributes:
        lags: frames by which the lips are behind the sound [L].
        r: mean over clips of Pearson's r [L].
        error: its standard error [L]; NaN for one clip.
        fps: frames a second.
        n_clips: clips that have a correlation.
    """

    lags: NDArray[np.int64]
    r: NDArray[np.float64]
    error: NDArray[np.float64]
    fps: float
    n_clips: int

    @property
    def best(self) -> int:
        """Index of the greatest correlation."""
        return int(np.nanargmax(self.r))


def loudness_db(waveform: NDArray[np.float32], n_frames: int, fps: float, sample_rate: int) -> NDArray[np.float64]:
    """Root mean square of the sound during each frame, dB of full scale [F]; -60 where it is silent."""
    edges = np.round(np.arange(n_frames + 1) * sample_rate / fps).astype(int)
    padded = np.zeros(edges[-1])
    padded[: len(waveform)] = waveform[: edges[-1]]
    power = np.add.reduceat(padded**2, edges[:-1]) / np.diff(edges)
    decibels: NDArray[np.float64] = 20 * np.log10(np.sqrt(power) + QUIET)
    return decibels


def correlations(opening: NDArray[np.float64], loudness: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Pearson's r of opening[k + lag] and loudness[k] at every lag up to MAX_LAG_S on either side.

    NaN where too few frames overlap, or one of the two does not vary.
    """
    most = round(MAX_LAG_S * fps)
    opening, loudness = without_slow(opening, fps), without_slow(loudness, fps)
    n_frames = len(opening)
    r = np.full(2 * most + 1, np.nan)
    for place, lag in enumerate(range(-most, most + 1)):
        if n_frames - abs(lag) < MIN_OVERLAP:
            continue
        a, b = shifted(opening, loudness, lag)
        if a.std() > 1e-6 and b.std() > 1e-6:
            r[place] = np.corrcoef(a, b)[0, 1]
    return r


def without_slow(trace: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """A trace [F] less its centred moving average over SLOW_S."""
    return quickened(trace, 2 * max(1, round(SLOW_S * fps / 2 - 0.5)) + 1)


def lag_curve(of_clips: Sequence[NDArray[np.float64]], fps: float) -> LagCurve | None:
    """The mean over clips of what `correlations` gives; None where no clip has any."""
    known = [r for r in of_clips if np.isfinite(r).any()]
    if not known:
        return None
    table = np.stack(known)
    counts = np.isfinite(table).sum(axis=0)
    total = np.nansum(table, axis=0)
    r = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    squares = np.nansum((table - r) ** 2, axis=0)
    error = np.where(counts > 1, np.sqrt(squares / np.maximum(counts - 1, 1) / np.maximum(counts, 1)), np.nan)
    most = (table.shape[1] - 1) // 2
    return LagCurve(np.arange(-most, most + 1), r, error, fps, len(known))
