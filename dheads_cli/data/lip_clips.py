"""Clips of a preprocessed corpus as a lip-reader learns from them: the mouth, and what each frame says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.data.sync_clips import SyncViews, changed, mouths_of
from dheads_cli.data.sync_input import FPS, middles, scaled
from dheads_cli.data.tensor_memory import TensorMemory
from dheads_cli.errors import DheadsError
from dheads_cli.model.sentence import SILENCE, labels_of

UNKNOWN = -1  # label of a frame of which it is not known what it says


@dataclass(frozen=True)
class LipBatch:
    """Whole clips; shorter ones stand still at their end, and nothing is known of that.

    Attributes:
        mouths: float32 [B, F, 48, 48].
        labels: [B, F]: SILENCE, a word's, or UNKNOWN.
        sentences: [B, places]: the labels of the words that are said.
        lengths: frames of each clip [B].
        corpus: which of several corpora each clip is from, int64 [B]; None where there is one.
    """

    mouths: Tensor
    labels: Tensor
    sentences: Tensor
    lengths: Tensor
    corpus: Tensor | None = None


@dataclass(frozen=True)
class SpokenClip:
    """A clip whose sentence has the pattern; `labels` are those of its frames, all UNKNOWN without words' times."""

    ref: ClipRef
    words: list[str]
    labels: Tensor


def spoken_clips(corpus: Corpus, clips: Sequence[ClipRef], sentence: Sequence[Sequence[str]]) -> list[SpokenClip]:
    """The clips whose text has a word for each place of the pattern.

    Raises:
        DheadsError: there are none, or they are not of 25 frames a second.
    """
    labels, found = labels_of(sentence), []
    for ref in clips:
        info = json.loads(corpus.read(ref, ("json",))["json"])
        words = (info.get("text") or "").split()
        if len(words) != len(sentence) or any(word not in place for word, place in zip(words, sentence, strict=True)):
            continue
        if info["fps"] != FPS:
            raise DheadsError(
                f"{corpus.folder}: has {info['fps']:g} frames/s, but lips are read at {FPS}: preprocess again with "
                f"--set preprocess.fps={FPS}"
            )
        found.append(SpokenClip(ref, words, frame_labels(info.get("words"), labels, ref.n_frames)))
    if not found:
        raise DheadsError(
            f"{corpus.folder}: no clip of the split {clips[0].split!r} says a sentence of the pattern model.sentence"
        )
    return found


def frame_labels(words: Sequence[Mapping[str, Any]] | None, labels: Mapping[str, int], n_frames: int) -> Tensor:
    """What is said in the middle of each frame [F], from words with their times, s; UNKNOWN without any times."""
    if not words:
        return torch.full((n_frames,), UNKNOWN)
    said = torch.full((n_frames,), SILENCE)
    middle = (torch.arange(n_frames) + 0.5) / FPS
    for each in words:
        said[(middle >= each["start"]) & (middle < each["end"])] = labels.get(each["word"], UNKNOWN)
    return said


class LipSet:
    """The clips of one split: random ones for training, or each in turn.

    Args:
        corpus: where they are.
        clips: those that may be drawn.
        labels: of each word.
        views: how clips are changed, n_frames aside.
        speaker_balance: a speaker with n clips is drawn in proportion to n^(1 - this).
        cache_bytes: memory for mouths; the least recently used go first.
        seed: of every draw.
    """

    def __init__(
        self, corpus: Corpus, clips: Sequence[SpokenClip], labels: Mapping[str, int], *, views: SyncViews,
        speaker_balance: float, cache_bytes: float, seed: int,
    ) -> None:  # fmt: skip
        self.corpus, self.clips, self.labels, self.views, self.seed = corpus, clips, labels, views, seed
        self.memory = TensorMemory(cache_bytes)
        self.n_frames = max(clip.ref.n_frames for clip in clips)
        counts = Counter(clip.ref.speaker for clip in clips)
        weights = np.array([counts[clip.ref.speaker] ** -speaker_balance for clip in clips])
        self.probabilities = weights / weights.sum()

    def batch(self, step: int, size: int, samples: Sequence[int] | None = None) -> LipBatch:
        """The batch of a training step, or of its samples only those with these numbers.

        Clips are drawn with replacement, each changed by a stream of its own. All batches have n_frames, those of the
        longest clip of the set, so that a part of a batch is as it is in the whole.
        """
        chosen = np.random.default_rng([self.seed, step]).choice(len(self.clips), size, p=self.probabilities)
        streams = {i: np.random.default_rng([self.seed, step, 1, i]) for i in samples or range(size)}
        pieces = [
            (self.clips[chosen[i]], scaled(changed(self.seen(int(chosen[i])), self.views, rng)))
            for i, rng in streams.items()
        ]
        return self._batch(pieces, self.n_frames)

    def in_order(self, size: int) -> Iterator[LipBatch]:
        """Every clip once, unchanged, `size` at a time."""
        for begin in range(0, len(self.clips), size):
            pieces = [(self.clips[i], self.whole(i)) for i in range(begin, min(begin + size, len(self.clips)))]
            yield self._batch(pieces, max(clip.ref.n_frames for clip, _ in pieces))

    def whole(self, index: int) -> Tensor:
        """A clip as the network reads it: float32 [F, 48, 48]."""
        return middles(self.seen(index).numpy())

    def seen(self, index: int) -> Tensor:
        """A clip's mouths, uint8 [F, CROP_PX, CROP_PX]; from memory where they are there."""
        ref = self.clips[index].ref
        return self.memory.get((self.corpus.folder, ref.id), lambda: mouths_of(self.corpus, ref))

    def _batch(self, pieces: Sequence[tuple[SpokenClip, Tensor]], n_frames: int) -> LipBatch:
        mouths, labels = [], []
        for clip, seen in pieces:
            still = n_frames - len(seen)
            mouths.append(torch.cat([seen, seen[-1:].expand(still, -1, -1)]))
            labels.append(torch.cat([clip.labels, torch.full((still,), UNKNOWN)]))
        sentences = [[self.labels[word] for word in clip.words] for clip, _ in pieces]
        lengths = [len(seen) for _, seen in pieces]
        return LipBatch(torch.stack(mouths), torch.stack(labels), torch.tensor(sentences), torch.tensor(lengths))
