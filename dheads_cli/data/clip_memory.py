"""Decoded clips in memory: the least recently used go first, or all of a training set stay."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli.data.controls import EyesAndHead
from dheads_cli.data.head_pose import head_pose
from dheads_cli.data.hearing import Hearing
from dheads_cli.data.shards import ClipRef


@dataclass
class CachedClip:
    """A decoded clip: frames [F, H, W, 3], landmarks [F, 68, 2] px, embeddings [F, D] or the waveform [T].

    `photo` is the photo [H, W, 3] of a synthetic speaker with its landmarks [68, 2]. `augmented` holds the sound of
    those augmented versions that were asked for so far, by their number.
    """

    frames: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    sound: Tensor
    photo: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
    augmented: dict[int, Tensor] = field(default_factory=dict)

    @cached_property
    def eyes_and_head(self) -> EyesAndHead:
        """What the controls of its frames are made of."""
        if self.photo is None:
            return EyesAndHead.of(self.landmarks)
        return EyesAndHead.of(self.landmarks, shut=0.0)  # these landmarks were not found but drawn

    @cached_property
    def photo_head(self) -> NDArray[np.float32]:
        """Yaw, pitch and roll [3] of the photo, degrees."""
        assert self.photo is not None
        return np.asarray(head_pose(self.photo[1][None])[0], np.float32)

    @property
    def n_bytes(self) -> int:
        sounds = (self.sound, *self.augmented.values())
        return self.frames.nbytes + self.landmarks.nbytes + sum(sound.nbytes for sound in sounds)


class ClipMemory:
    """Clips of one corpus or of several, decoded when they are first asked for; several threads may ask.

    A corpus's clips are asked for with its `Hearing`, which knows the corpus.

    Args:
        most_bytes: memory for them; the least recently used go first.
    """

    def __init__(self, most_bytes: float) -> None:
        self.most_bytes = most_bytes
        self.held: OrderedDict[tuple[Path, str], CachedClip] = OrderedDict()
        self.n_bytes, self.lock = 0, Lock()

    def clip(self, hearing: Hearing, ref: ClipRef) -> CachedClip:
        """A clip, decoded and encoded, from memory where it is there."""
        key = (hearing.corpus.folder, ref.id)
        with self.lock:
            if key in self.held:
                self.held.move_to_end(key)
                return self.held[key]
        stored = hearing.corpus.load(ref)
        photo = None
        if stored.photo is not None:
            photo = stored.photo, np.array(stored.info["photo_landmarks"], np.float32)
        loaded = CachedClip(stored.frames, stored.landmarks, hearing(ref, 0), photo)
        with self.lock:
            if key not in self.held:  # else another thread was faster
                self.held[key] = loaded
                self.n_bytes += loaded.n_bytes
                self._make_room()
        return loaded

    def sound(self, hearing: Hearing, ref: ClipRef, version: int, clip: CachedClip | None = None) -> Tensor:
        """A version of a clip's sound, as `CachedClip.sound`; 0 is the clean one. `clip`, where it is at hand."""
        clip = clip or self.clip(hearing, ref)
        if version == 0:
            return clip.sound
        if version not in clip.augmented:
            made = hearing(ref, version)
            with self.lock:
                if version not in clip.augmented:
                    clip.augmented[version] = made
                    # Else it has gone, and what it holds with it.
                    if self.held.get((hearing.corpus.folder, ref.id)) is clip:
                        self.n_bytes += made.nbytes
                        self._make_room()
        return clip.augmented[version]

    def _make_room(self) -> None:
        while self.n_bytes > self.most_bytes and len(self.held) > 1:
            self.n_bytes -= self.held.popitem(last=False)[1].n_bytes
