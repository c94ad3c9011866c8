"""Clips longer than a corpus holds: one speaker's sentences of a split, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.media import fit_length
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import samples_of


@dataclass(frozen=True)
class LongClip:
    """Real sentences joined; the identity frame is the first.

    Attributes:
        id: speaker and number, such as "s1-0".
        speaker: whose sentences.
        clip_ids: of the corpus, in order; the last may be cut.
        frames: uint8 RGB [F, H, W, 3].
        landmarks: float32 [F, 68, 2] px.
        waveform: float32 [T], T = round(F / fps * sample_rate).
        fps: frames a second.
        sample_rate: Hz.
        joins: indices of the frames that begin another sentence than the frame before.
    """

    id: str
    speaker: str
    clip_ids: tuple[str, ...]
    frames: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    waveform: NDArray[np.float32]
    fps: float
    sample_rate: int
    joins: tuple[int, ...]


def plan_long_clips(
    corpus: Corpus, split: str, speaker: str | None, seconds: float, n_clips: int, fps: float
) -> list[list[ClipRef]]:
    """Which sentences make each long clip: no sentence twice, speakers in turn as long as they have enough left.

    Args:
        corpus: preprocessed corpus.
        split: whose clips are joined.
        speaker: only this one's; None is all that have enough.
        seconds: of a long clip.
        n_clips: at most so many.
        fps: of the corpus.

    Raises:
        DheadsError: no speaker has that much.
    """
    needed = round(seconds * fps)
    left: dict[str, list[ClipRef]] = {}
    for ref in corpus.clips(split, speaker):
        left.setdefault(ref.speaker, []).append(ref)
    most, who = max((sum(ref.n_frames for ref in refs), name) for name, refs in left.items())
    plan: list[list[ClipRef]] = []
    while len(plan) < n_clips:
        before = len(plan)
        for refs in left.values():
            if sum(ref.n_frames for ref in refs) >= needed and len(plan) < n_clips:
                plan.append(_take(refs, needed))
        if len(plan) == before:
            break
    if not plan:
        raise DheadsError(
            f"{corpus.folder}: no speaker of the split {split!r} has {seconds:g} s of speech; {who} has most, "
            f"{most / fps:g} s: lower --seconds, or choose another --split"
        )
    return plan


def _take(refs: list[ClipRef], n_frames: int) -> list[ClipRef]:
    """Remove the first clips of the list that have n_frames together."""
    taken: list[ClipRef] = []
    while sum(ref.n_frames for ref in taken) < n_frames:
        taken.append(refs.pop(0))
    return taken


def join_clips(corpus: Corpus, refs: Sequence[ClipRef], name: str, n_frames: int) -> LongClip:
    """Read clips and put them one after another, the last cut so that there are n_frames."""
    clips = [corpus.load(ref) for ref in refs]
    fps, rate = clips[0].fps, clips[0].sample_rate
    begins = np.cumsum([0, *(len(clip.frames) for clip in clips)])
    # Each sentence's sound is as long as its frames, to a sample; the whole is fitted to the frames that are left.
    waveform = np.concatenate([
        fit_length(clip.waveform, samples_of(int(end), fps, rate) - samples_of(int(begin), fps, rate))
        for clip, begin, end in zip(clips, begins[:-1], begins[1:], strict=True)
    ])  # fmt: skip
    return LongClip(
        id=name,
        speaker=clips[0].speaker,
        clip_ids=tuple(ref.id for ref in refs),
        frames=np.concatenate([clip.frames for clip in clips])[:n_frames],
        landmarks=np.concatenate([clip.landmarks for clip in clips])[:n_frames],
        waveform=fit_length(waveform, samples_of(n_frames, fps, rate)),
        fps=fps,
        sample_rate=rate,
        joins=tuple(int(begin) for begin in begins[1:-1] if begin < n_frames),
    )
