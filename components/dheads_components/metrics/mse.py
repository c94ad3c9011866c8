"""Mean squared error of generated and real frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip

CHUNK = 64  # frames compared at once, so that memory does not grow with a clip's length


class MSE:
    """Mean squared difference of 0 ... 255 values over a clip's frames, pixels and channels; the set's is the mean.

    By it PSNR = 10 log10(255^2 / MSE) for one clip; the means over clips are not bound so.
    """

    weights = ""

    def __init__(self) -> None:
        self._clips: list[float] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float]:
        """MSE of one clip."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> float:
        """Mean over the frames."""
        total = 0
        for begin in range(0, len(clip.frames), CHUNK):
            ours, real = (each.frames[begin : begin + CHUNK].astype(np.int64) for each in (clip, reference))
            total += int(np.square(ours - real).sum())
        return total / clip.frames.size

    def add(self, measured: float) -> dict[str, float]:
        """Take a clip's value in."""
        self._clips.append(measured)
        return {"MSE": measured}

    def compute(self) -> dict[str, float]:
        """Mean over clips."""
        return {"MSE": float(np.mean(self._clips))} if self._clips else {}
