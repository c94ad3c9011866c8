"""Structural similarity of generated and real frames."""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from dheads_cli.protocols import Clip

CHUNK = 32  # frames compared at once, so that memory does not grow with a clip's length


class SSIM:
    """SSIM (Wang et al. 2004) of RGB frames: Gaussian window of 11 px and sigma 1.5, data range 0 ... 255.

    A clip's value is the mean over its frames, the set's the mean over clips.

    Args:
        device: where it is computed.
    """

    weights = ""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._clips: list[float] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float]:
        """SSIM of one clip."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> float:
        """Mean SSIM of the frames."""
        values = []
        for begin in range(0, len(clip.frames), CHUNK):
            ours, real = (
                torch.from_numpy(frames[begin : begin + CHUNK]).to(self.device).permute(0, 3, 1, 2).float()
                for frames in (clip.frames, reference.frames)
            )
            ssim = structural_similarity_index_measure(ours, real, data_range=255.0, reduction="none")
            assert isinstance(ssim, torch.Tensor)
            values.append(ssim.reshape(-1).double().cpu().numpy())
        return float(np.concatenate(values).mean())

    def add(self, measured: float) -> dict[str, float]:
        """Take a clip's value in."""
        self._clips.append(measured)
        return {"SSIM": measured}

    def compute(self) -> dict[str, float]:
        """Mean over clips."""
        return {"SSIM": float(np.mean(self._clips))} if self._clips else {}
