"""The offset of lips and sound from embeddings of both, SyncNet's procedure (Chung and Zisserman 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_SHIFT = 15  # frames, either way


@dataclass(frozen=True)
class Sync:
    """How lips and sound of a clip go together.

    Attributes:
        offset: frames by which the sound is ahead of the lips; negative where it comes after them.
        confidence: median less least distance over the shifts: how much better that offset fits than others do.
        agreement: median distance less that at offset 0: how well the two go together as they are. It is the
            confidence where the offset is 0, and falls to 0 and below where it is another.
        distance: the least distance.
        curve: mean distance [2 MAX_SHIFT + 1]; number k is that of frame i to sound i + k - MAX_SHIFT.
    """

    offset: int
    confidence: float
    agreement: float
    distance: float
    curve: Tensor


def sync_of(lips: Tensor, sound: Tensor, *, zeros_beyond: bool = False) -> Sync | None:
    """Compare the embeddings of each window of lips with that of each window of sound up to MAX_SHIFT frames away.

    Args:
        lips: [N, D], a window for each frame.
        sound: [N, D], likewise: the two with the same number begin together.
        zeros_beyond: whether there is an embedding of zeros before the first and after the last window of sound, as in
            the authors' code, whose values are published; else such pairs are left out of the mean.

    Returns:
        None where no pair at some shift is left: fewer than MAX_SHIFT + 1 windows.
    """
    n, shifts = len(lips), torch.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    if n <= MAX_SHIFT:
        return None
    partner = torch.arange(n)[:, None] + shifts  # [N, 31]
    inside = (partner >= 0) & (partner < n)
    theirs = sound[partner.clamp(0, n - 1)] * inside[..., None]
    distances = torch.linalg.vector_norm(lips[:, None] - theirs, dim=2)
    counted = torch.ones_like(inside) if zeros_beyond else inside
    curve = (distances * counted).sum(0) / counted.sum(0)
    best, median = int(curve.argmin()), curve.median()
    return Sync(
        MAX_SHIFT - best, float(median - curve[best]), float(median - curve[MAX_SHIFT]), float(curve[best]), curve
    )
