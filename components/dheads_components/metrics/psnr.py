"""Peak signal-to-noise ratio of generated and real frames."""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.image import PeakSignalNoiseRatio

from dheads_cli.protocols import Clip

CHUNK = 64  # frames compared at once, so that memory does not grow with a clip's length


class PSNR:
    """10 log10(255^2 / MSE) in dB, MSE over the frames, pixels and channels of a clip; the set's is the mean of clips.

    Clips that are equal have no noise: their PSNR, and the mean with one of them in it, is infinite.
    """

    weights = ""

    def __init__(self) -> None:
        self._clips: list[float] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float]:
        """PSNR of one clip."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> float:
        """PSNR over the frames, dB."""
        psnr = PeakSignalNoiseRatio(data_range=255.0)
        for begin in range(0, len(clip.frames), CHUNK):
            psnr.update(
                torch.from_numpy(clip.frames[begin : begin + CHUNK]).double(),
                torch.from_numpy(reference.frames[begin : begin + CHUNK]).double(),
            )
        return float(psnr.compute())

    def add(self, measured: float) -> dict[str, float]:
        """Take a clip's value in."""
        self._clips.append(measured)
        return {"PSNR [dB]": measured}

    def compute(self) -> dict[str, float]:
        """Mean over clips."""
        return {"PSNR [dB]": float(np.mean(self._clips))} if self._clips else {}
