"""A made-up corpus whose mouths spell words: each is a mouth of its own size, after silence with it shut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from corpus import SIZE, write_corpus
from sync_corpus import make_sync_clip

from dheads_cli.data.stored_clip import StoredClip

SENTENCE = [["low", "high"], ["wide", "narrow"]]
HALF_HEIGHT, HALF_WIDTH = {"low": 1, "high": 5, "wide": 3, "narrow": 3}, {"low": 3, "high": 3, "wide": 6, "narrow": 1}
SPANS = ((4, 10), (12, 18))  # frames of each word
N_FRAMES = 22


def make_lip_clip(number: int, split: str, words: tuple[str, str], *, timed: bool = True) -> StoredClip:
    """A clip that says two words."""
    clip = make_sync_clip(number, split, N_FRAMES)
    frames = np.repeat(clip.frames[:1, :1, :1], N_FRAMES, axis=0).repeat(SIZE, axis=1).repeat(SIZE, axis=2)
    for word, (begin, end) in zip(words, SPANS, strict=True):
        y, x, centre = HALF_HEIGHT[word], HALF_WIDTH[word], SIZE // 2
        bottom = round(0.7 * SIZE)
        frames[begin:end, bottom - y : bottom + y, centre - x : centre + x] = 20
    said = [
        {"word": word, "start": begin / 25, "end": end / 25} for word, (begin, end) in zip(words, SPANS, strict=True)
    ]
    landmarks = np.repeat(clip.landmarks[:1], N_FRAMES, axis=0)
    landmarks[:, 48:, 1] = 0.7 * SIZE
    info = {"text": " ".join(words), "words": said if timed else None}
    return replace(clip, frames=frames, landmarks=landmarks, info=info)


def make_lip_corpus(folder: Path) -> Path:
    """Four sentences to train on, without times where the speaker is s1, and as many to validate with."""
    pairs = [(a, b) for a in SENTENCE[0] for b in SENTENCE[1]]
    which = [(split, pair) for split in ("train", "val") for pair in pairs for _ in range(2)]
    clips = [make_lip_clip(number, split, pair, timed=number % 2 == 0) for number, (split, pair) in enumerate(which)]
    return write_corpus(folder, clips)
