"""Weights of a small model as the beginning of one for larger frames: learn to speak where steps are cheap.

A network whose patches are n times as wide on frames n times as wide has the same inside: only its first convolution
sees, and its last one draws, n x n pixels for each one before. (Karras et al. 2018 grow by layers; nothing is added
here.) And a network that is told one level of noise for all motion frames begins one that is told each frame's, one
without controls or with some begins one with more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dheads_cli.recipe_model import CONTROL_DIMS, Model

FIRST, LAST = "unet.input_blocks.0.0.weight", ("unet.out.2.weight", "unet.out.2.bias")
NOISE_LEVEL = "unet.motion_noise_embed.0.weight"
CONTROLS, CONTROL_INPUT = "unet.control_embed.", "unet.control_embed.0.weight"


def growth_of(before: Model, after: Model) -> int:
    """How many times as wide the frames of `after` are, where weights of `before` can grow to it; else 1."""
    factor = after.size // before.size
    fits = after.size == factor * before.size and after.patch_size == factor * before.patch_size
    return factor if fits and factor > 1 else 1


def grown(
    tensors: Mapping[str, Tensor], before: Model, after: Model, fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A checkpoint's tensors of `before` as the beginning of `after`; unchanged where that takes no growth.

    On wider frames, the network sees each block of factor x factor pixels by its mean, and draws them all alike: on
    frames that are constant in each block it gives what the small one gives on frames with one pixel for each block.
    Told a level of noise for each motion frame, it takes their mean: with equal levels it gives what it gave. Controls
    that it did not have change nothing at first: `fresh` has the untrained weights of `after`, whose controls do not.
    """
    grown = dict(tensors)
    factor = growth_of(before, after)
    if factor > 1:
        grown[FIRST] = _widened(tensors[FIRST], 1, before.patch_size, factor) / factor**2
        for name in LAST:
            grown[name] = _widened(tensors[name], 0, before.patch_size, factor)
    if after.motion_noise_per_frame and not before.motion_noise_per_frame and NOISE_LEVEL in tensors:
        n_frames = after.n_motion_frames
        grown[NOISE_LEVEL] = torch.cat([tensors[NOISE_LEVEL] / n_frames] * n_frames, dim=1)
    if after.controls and not before.controls:
        grown |= {name: tensor for name, tensor in fresh.items() if name.startswith(CONTROLS)}
    elif set(before.controls) < set(after.controls) and CONTROL_INPUT in tensors:
        known = {place: column for column, place in enumerate(_control_inputs(before))}
        weight = tensors[CONTROL_INPUT]
        columns = [weight[:, known[place]] if place in known else 0 * weight[:, 0] for place in _control_inputs(after)]
        grown[CONTROL_INPUT] = torch.stack(columns, dim=1)
    return grown


def _control_inputs(settings: Model) -> list[tuple[str, str, int]]:
    """What each input of a network's `control_embed` is: values of all controls, then whether they are given."""
    return [
        (kind, name, i) for kind in ("value", "given") for name in settings.controls for i in range(CONTROL_DIMS[name])
    ]


def _widened(weight: Tensor, dim: int, patch_size: int, factor: int) -> Tensor:
    """Repeat the entries of a dimension c p p (as pixel_unshuffle lays it out) to c (p f) (p f)."""
    before, after = weight.shape[:dim], weight.shape[dim + 1 :]
    patches = weight.reshape(*before, -1, patch_size, patch_size, *after)
    for axis in (dim + 1, dim + 2):
        patches = patches.repeat_interleave(factor, dim=axis)
    return patches.flatten(dim, dim + 2)
