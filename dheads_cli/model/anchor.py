"""Re-anchoring: a drawn frame's colours are brought back to the identity frame's, so that they can't wander off."""

from __future__ import annotations

from torch import Tensor

# Where the mouth is in an aligned crop: top, bottom, left, right as shares of it, with room for an open one.
MOUTH = (0.60, 0.84, 0.34, 0.66)


def anchored(frame: Tensor, identity: Tensor, share: float) -> Tensor:
    """Move the mean and the standard deviation of each colour channel outside the mouth towards the identity frame's.

    The mouth is left out of the statistics, for it opens and closes; what they say is done to the whole frame.

    Args:
        frame: [B, 3, H, W] in [-1, 1].
        identity: likewise.
        share: 0 (nothing) ... 1 (they become equal).
    """
    (mean, deviation), (own_mean, own_deviation) = _statistics(identity), _statistics(frame)
    moved = (frame - own_mean) * (deviation / own_deviation.clamp(min=1e-3)) + mean
    return (frame + share * (moved - frame)).clamp(-1, 1)


def _statistics(frame: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation outside the mouth, each [B, 3, 1, 1]."""
    height, width = frame.shape[-2:]
    top, bottom, left, right = MOUTH
    outside = frame.new_ones(height, width)
    outside[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 0
    n = outside.sum()
    mean = (frame * outside).sum((2, 3), keepdim=True) / n
    variance = ((frame - mean) ** 2 * outside).sum((2, 3), keepdim=True) / n
    return mean, variance.sqrt()
