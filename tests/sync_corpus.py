"""A made-up corpus whose mouths open with the sound, for networks that learn whether the two are in step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from corpus import SIZE, make_clip, write_corpus

from dheads_cli.data.stored_clip import StoredClip

N_FRAMES = 32


def make_sync_clip(number: int, split: str, n_frames: int = N_FRAMES) -> StoredClip:
    """As `make_clip`, with eyes so far apart that the crop holds the mouth."""
    clip = make_clip(number, split, n_frames)
    landmarks = clip.landmarks.copy()
    landmarks[:, 36:42, 0], landmarks[:, 42:48, 0] = 0.35 * SIZE, 0.65 * SIZE
    return replace(clip, landmarks=landmarks.astype(np.float32))


def make_sync_corpus(folder: Path, n_frames: int = N_FRAMES) -> Path:
    """Four clips to train on, four to validate with, of two speakers."""
    splits = ["train"] * 4 + ["val"] * 4
    return write_corpus(folder, [make_sync_clip(number, split, n_frames) for number, split in enumerate(splits)])
