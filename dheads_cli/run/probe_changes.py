"""Other sound in a clip's place, so that a probe of clean sound is scored under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np

from dheads_cli import registry
from dheads_cli.data.augment import AUGMENTATIONS
from dheads_cli.data.respoken import respoken
from dheads_cli.errors import DheadsError
from dheads_cli.run.probe_clips import SoundClip, Wave

Change = Callable[[SoundClip], Wave | None]  # waveform [T] in place of the clip's; None where it can't be made


def augmentations(names: Sequence[str], strength: float, seed: int) -> dict[str, Change]:
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


def voices(names: Sequence[str], clips: Sequence[SoundClip]) -> dict[str, Change]:
    """Changes to eSpeak NG's voices: each word of a clip in another voice at the time it was said (data/respoken.py).

    Args:
        names: of the voices, such as "en-us" or "de".
        clips: that will be changed.

    Raises:
        DheadsError: no clip has words whose times are known.
    """
    if names and not any(clip.words for clip in clips):
        raise DheadsError("--voices: no held-out clip of the corpus has words whose times are known (alignments).")
    return {f"voice {name}": _voice(name) for name in names}


def _change(name: str, strength: float, seed: int) -> Change:
    def change(clip: SoundClip) -> Wave:
        rng = np.random.default_rng([seed, crc32(clip.id.encode())])
        return AUGMENTATIONS[name](clip.waveform, clip.sample_rate, strength, rng)

    return change


def _voice(name: str) -> Change:
    def change(clip: SoundClip) -> Wave | None:
        return respoken(clip.words, name, clip.sample_rate, len(clip.waveform)) if clip.words else None

    return change
