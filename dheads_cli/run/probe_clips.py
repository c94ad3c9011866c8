"""The clips of a preprocessed corpus as the probe needs them: sound and mouth, without the frames."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.mouth import MIN_FRAMES, STILL, mouth_opening
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.errors import DheadsError

FITTED, CHOOSING, HELD_OUT = "train", "val", ("test", "test-speakers")  # splits

Wave = NDArray[np.float32]


@dataclass(frozen=True)
class SoundClip:
    """A clip's sound, mouth and words.

    Attributes:
        id, speaker: as in the corpus.
        waveform: float32 [T] in [-1, 1] at sample_rate, Hz.
        opening: of the mouth, float64 [F], NaN where there is no face.
        words: {"word", "start", "end"} each, s; empty where their times are not known.
    """

    id: str
    speaker: str
    waveform: Wave
    opening: NDArray[np.float64]
    fps: float
    sample_rate: int
    words: Sequence[Mapping[str, Any]] = ()


def read_clips(corpus: Corpus, limit: int | None) -> tuple[dict[str, list[SoundClip]], int]:
    """Sound and mouths of each split that is there, and how many clips were left out because no mouth moves in them.

    Raises:
        DheadsError: there is nothing to fit on, or to choose by, or to score.
    """
    held_out = [split for split in HELD_OUT if split in corpus.splits]
    if not held_out:
        raise DheadsError(
            f"{corpus.folder} has neither a split {' nor '.join(map(repr, HELD_OUT))} to score a probe on; "
            f"its splits: {', '.join(corpus.splits)}."
        )
    clips: dict[str, list[SoundClip]] = {}
    n_silent = 0
    for split in (FITTED, CHOOSING, *held_out):
        refs = corpus.clips(split)
        if limit is not None and limit < len(refs):
            refs = [refs[i * len(refs) // limit] for i in range(limit)]
        read = [_read(corpus, ref) for ref in refs]
        clips[split] = [clip for clip in read if _moves(clip.opening)]
        n_silent += len(read) - len(clips[split])
        if not clips[split]:
            raise DheadsError(f"{corpus.folder}: no mouth moves in any clip of the split {split!r}.")
    return clips, n_silent


def _read(corpus: Corpus, ref: ClipRef) -> SoundClip:
    """A clip without its frames, whose decoding takes longest."""
    members = corpus.read(ref, ("json", "flac", "landmarks.npy"))
    info, landmarks = json.loads(members["json"]), np.load(io.BytesIO(members["landmarks.npy"])).astype(np.float32)
    waveform, opening = media.decode_flac(members["flac"]), mouth_opening(landmarks)
    words = info.get("words") or ()
    return SoundClip(ref.id, ref.speaker, waveform, opening, float(info["fps"]), int(info["sample_rate"]), words)


def _moves(opening: NDArray[np.float64]) -> bool:
    known = opening[np.isfinite(opening)]
    return len(known) >= MIN_FRAMES and bool(known.std() >= STILL)
