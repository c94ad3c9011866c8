"""Does the mouth open when the real one does? The project's own measure of speaking, from landmarks alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.mouth import MIN_FRAMES, STILL, mouth_opening, pearson, shifted

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip


class Mouth:
    """Pearson correlation of the generated and the real mouth opening, clip by clip.

    Lag is how many frames the generated mouth moves after the real one. Frames without a face in either clip are left
    out. A clip in which a mouth never moves, or in which almost no face is found, scores r = 0 and says why.

    Args:
        max_lag: largest lag tried, frames, on either side.
    """

    weights = ""

    def __init__(self, max_lag: int = 5) -> None:
        if max_lag < 0:
            raise ValueError(f"max_lag must be at least 0, not {max_lag}")
        self.max_lag = max_lag
        self._clips: list[dict[str, float]] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """Values of one clip: r at lag 0, the best r and its lag, amplitude, and why r is 0 where nothing moves."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> tuple[dict[str, float], str]:
        """The values and the remark, or ""."""
        opening, real = mouth_opening(clip.landmarks), mouth_opening(reference.landmarks)
        values = {"mouth r": pearson(opening, real)}
        # Ties go to the smallest lag, so that a still mouth has none.
        lags = sorted(range(-self.max_lag, self.max_lag + 1), key=abs)
        at_lag = {lag: pearson(*shifted(opening, real, lag)) for lag in lags}
        best = max(lags, key=lambda lag: at_lag[lag])
        values["mouth best r"], values["mouth lag [frames]"] = at_lag[best], float(best)
        seen = np.isfinite(opening) & np.isfinite(real)
        values["mouth amplitude"] = amplitude(opening[seen], real[seen])
        values["face found"] = float(np.isfinite(opening).mean())
        return values, _why_zero(opening[seen], real[seen])

    def add(self, measured: tuple[dict[str, float], str]) -> dict[str, float | str]:
        """Take a clip's values in."""
        values, note = measured
        self._clips.append(values)
        return {**values, "mouth note": note} if note else {**values}

    def compute(self) -> dict[str, float]:
        """Over clips: mean, median and lowest r at lag 0, mean best r, mean lag and amplitude, share of faces found."""
        table = {name: np.array([clip[name] for clip in self._clips]) for name in self._clips[0]} if self._clips else {}
        if not table:
            return {}
        return {
            "mouth r": float(table["mouth r"].mean()),
            "mouth r median": float(np.median(table["mouth r"])),
            "mouth r min": float(table["mouth r"].min()),
            "mouth best r": float(table["mouth best r"].mean()),
            "mouth lag [frames]": float(table["mouth lag [frames]"].mean()),
            "mouth |lag| max [frames]": float(np.abs(table["mouth lag [frames]"]).max()),
            "mouth amplitude": float(table["mouth amplitude"].mean()),
            "face found": float(table["face found"].mean()),
        }


def amplitude(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Standard deviation of a over that of b; 0 where there is nothing to compare."""
    return float(a.std() / b.std()) if len(a) >= MIN_FRAMES and b.std() >= STILL else 0.0


def _why_zero(opening: NDArray[np.float64], real: NDArray[np.float64]) -> str:
    """Why these traces have no correlation, or ""."""
    if len(opening) < MIN_FRAMES:
        return f"a face in both clips in {len(opening)} frames only: r counts as 0"
    still = [name for name, trace in (("generated", opening), ("real", real)) if trace.std() < STILL]
    return f"the {' and the '.join(still)} mouth does not move: r counts as 0" if still else ""
