"""Sound that is changed before it is heard, so that a probe of clean sound is scored under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from zlib import crc32

import numpy as np

from dheads_cli import registry
from dheads_cli.data.augment import AUGMENTATIONS
from dheads_cli.errors import DheadsError
from dheads_cli.run.probe_clips import Wave

Change = Callable[[Wave, int, str], Wave]  # (waveform [T], sample rate, clip's id) -> waveform [T]


def augmentations(names: Sequence[str], strength: float, seed: int) -> Mapping[str, Change]:
    """Changes by the names of waveform augmentations, each at one strength; a clip always gets the same draws.

    Args:
        names: of `data/augment.py`, or "all" alone.
        strength: 0 ... 1.
        seed: of the draws, with the clip's id.

    Raises:
        DheadsError: no such augmentation.
    """
    if list(names) == ["all"]:
        names = list(AUGMENTATIONS)
    if unknown := [name for name in names if name not in AUGMENTATIONS]:
        near = registry.nearest(unknown[0], AUGMENTATIONS)
        raise DheadsError(
            f"--augment: there is no augmentation {unknown[0]!r}{near} Names: all, {', '.join(AUGMENTATIONS)}."
        )
    return {name: _change(name, strength, seed) for name in names}


def _change(name: str, strength: float, seed: int) -> Change:
    def change(wave: Wave, sample_rate: int, clip_id: str) -> Wave:
        rng = np.random.default_rng([seed, crc32(clip_id.encode())])
        return AUGMENTATIONS[name](wave, sample_rate, strength, rng)

    return change
