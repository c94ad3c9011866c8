"""What happens to motion frames on their way to the network, in training and in sampling, so that videos do not drift.

In sampling the motion frames are the network's own, with its own errors; trained on clean real ones alone, it takes
those errors for the picture, and they add up. All of these make training's motion frames as imperfect as sampling's:

- noise of a known level (GameNGen: Valevski et al. 2024, section 3.2), its level drawn by one of LEVELS;
- a level of its own for each frame (Diffusion Forcing: Chen et al. 2024, arXiv 2407.01392);
- patches missing (Hallo2: Cui et al. 2024, arXiv 2410.07718, section 3.2).

The network's own frames in training are in rollout.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dheads_cli.model.diffusion import to_grayscale

LOG_NORMAL_MEDIAN, LOG_NORMAL_SPREAD = 0.25, 1.0  # share of the maximum; standard deviation of ln sigma


def uniform_levels(u: Tensor, most: float) -> Tensor:
    """Sigma uniform in 0 ... most (GameNGen)."""
    return u * most


def low_levels(u: Tensor, most: float) -> Tensor:
    """Sigma = most u^2: half of the draws are below a quarter of the maximum, and clean frames are common."""
    return u**2 * most


def log_normal_levels(u: Tensor, most: float) -> Tensor:
    """ln sigma normal about ln(most / 4) with standard deviation 1, cut off at most (after Karras et al. 2022, EDM).

    Neither clean frames nor the noisiest are common: the draws gather about the levels that sampling uses.
    """
    highest = torch.special.ndtr(torch.tensor(-math.log(LOG_NORMAL_MEDIAN) / LOG_NORMAL_SPREAD, dtype=u.dtype))
    return most * LOG_NORMAL_MEDIAN * torch.exp(LOG_NORMAL_SPREAD * torch.special.ndtri(u * highest))


# How a level follows from a uniform draw in [0, 1) and the maximum; each is the inverse of its distribution function.
LEVELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "uniform": uniform_levels,
    "low": low_levels,
    "log_normal": log_normal_levels,
}


def stack_motion(frames: Sequence[Tensor], identity: Tensor, grayscale: bool) -> Tensor:
    """Motion frames, oldest first, as channels: M x [B, 3, H, W] -> [B, M C, H, W], C = 1 where grayscale, else 3."""
    if not frames:
        return identity[:, :0]
    return torch.cat([to_grayscale(frame) for frame in frames] if grayscale else list(frames), dim=1)


def add_noise(motion: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Put noise on stacked motion frames.

    Args:
        motion: [B, M C, H, W] in [-1, 1].
        level: sigma, the same for all frames of a sample [B], or one for each, oldest first [B, M].
        noise: standard normal, as motion.
    """
    if level.dim() == 1:
        return motion + level.view(-1, 1, 1, 1) * noise
    channels = motion.shape[1] // max(level.shape[1], 1)
    return motion + level.repeat_interleave(channels, dim=1)[:, :, None, None] * noise


def drop_patches(
    motion: Tensor, n_frames: int, share: float, patch_px: int, uniform: Callable[[tuple[int, ...]], Tensor]
) -> Tensor:
    """Set random squares of stacked motion frames to zero, each frame's own, in all its channels (Hallo2).

    Args:
        motion: [B, M C, H, W].
        n_frames: M.
        share: probability of each square of a grid of patch_px to be dropped.
        patch_px: side of a square, px; those at the right and lower edge may be cut.
        uniform: draws in [0, 1) of a shape, on the CPU.
    """
    if not n_frames:
        return motion
    b, channels, h, w = motion.shape
    grid = (b, n_frames, -(-h // patch_px), -(-w // patch_px))
    kept = (uniform(grid) >= share).to(motion.device)
    mask = kept.repeat_interleave(patch_px, dim=2)[:, :, :h].repeat_interleave(patch_px, dim=3)[..., :w]
    return motion * mask.repeat_interleave(channels // n_frames, dim=1)


def sampling_levels(level: float | Sequence[float], n_frames: int, per_frame: bool, like: Tensor) -> Tensor | None:
    """The levels of noise in sampling as the network takes them; None where there is none.

    Args:
        level: sigma of all motion frames, or one for each, oldest first.
        n_frames: M.
        per_frame: whether the network is told a level for each frame.
        like: any tensor [B, ...] on the network's device.

    Returns:
        float32 [B, M] where per_frame, else [B].
    """
    levels = [float(level)] * n_frames if isinstance(level, (int, float)) else [float(each) for each in level]
    if not any(levels):
        return None
    told = levels if per_frame else levels[:1]
    if not per_frame and len(set(levels)) > 1:
        raise ValueError(f"levels {levels}: this network is told one for all motion frames")
    values = torch.tensor(told, dtype=torch.float32, device=like.device).expand(len(like), -1)
    return values if per_frame else values[:, 0]
