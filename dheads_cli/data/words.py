"""Spoken words of a preprocessed corpus, cut out with what is heard around them: a word recogniser's samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dheads_cli.data.embedding_cache import EmbeddingCache
from dheads_cli.data.hearing import Hearing, Versions
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.data.tensor_memory import TensorMemory
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import cut, samples_of
from dheads_cli.protocols import AudioEncoder


@dataclass(frozen=True)
class Spoken:
    """One word, and where in a clip its middle is, s."""

    ref: ClipRef
    word: str
    middle_s: float


def spoken_words(corpus: Corpus, clips: Iterable[ClipRef]) -> list[Spoken]:
    """The words of clips: those whose times are known, and those that are all that is said in a clip (LRW)."""
    found = []
    for ref in clips:
        info = json.loads(corpus.read(ref, ("json",))["json"])
        found += [Spoken(ref, each["word"], (each["start"] + each["end"]) / 2) for each in info.get("words") or ()]
        if not info.get("words") and len((info.get("text") or "").split()) == 1:
            found.append(Spoken(ref, info["text"], info["n_frames"] / info["fps"] / 2))
    return found


@dataclass(frozen=True)
class WordBatch:
    """Samples with their words.

    Attributes:
        sound: float32 [B, T] in [-1, 1], or, of a frozen encoder, embeddings [B, F, D].
        labels: places in the vocabulary [B].
    """

    sound: Tensor
    labels: Tensor


@dataclass(frozen=True)
class WordViews:
    """How samples are chosen and changed; the fields are those of the recipe."""

    n_frames: int
    jitter_frames: float
    gain_db: float
    noise_max: float
    word_balance: float


class WordSet:
    """The words of one split: random ones for training, or each in turn.

    Args:
        corpus: where their clips are.
        words: all that may be drawn.
        vocabulary: the words that can be told apart, in the order of their labels; every other one is left out.
        encoder: the audio encoder; a frozen one is run here over whole clips, as for a recording that is animated.
        frozen: whether the encoder is frozen.
        views: how samples are chosen and changed.
        cache_bytes: memory for sound, or embeddings; the least recently used go first.
        seed: of every draw.
        versions: augmented versions of each clip's sound; a random sample is of one of them or the clean one.
        caches: where a frozen encoder's embeddings of version 0, 1 ... are kept.

    Raises:
        DheadsError: the encoder takes another sample rate, or no word is left.
    """

    def __init__(
        self,
        corpus: Corpus,
        words: Sequence[Spoken],
        vocabulary: Sequence[str],
        encoder: AudioEncoder,
        *,
        frozen: bool,
        views: WordViews,
        cache_bytes: float,
        seed: int,
        versions: Versions | None = None,
        caches: tuple[EmbeddingCache, ...] = (),
    ) -> None:
        labels = {word: label for label, word in enumerate(vocabulary)}
        self.words = [spoken for spoken in words if spoken.word in labels]
        self.n_unknown = len(words) - len(self.words)
        if not self.words:
            raise DheadsError(f"{corpus.folder}: none of its words here is among the {len(labels)} to be told apart")
        self.labels = [labels[spoken.word] for spoken in self.words]
        self.clips = list({spoken.ref.id: spoken.ref for spoken in self.words}.values())
        self.encoder, self.frozen, self.views, self.seed = encoder, frozen, views, seed
        self.memory = TensorMemory(cache_bytes)
        info = json.loads(corpus.read(self.words[0].ref, ("json",))["json"])
        self.fps: float = info["fps"]
        if info["sample_rate"] != encoder.sample_rate:
            raise DheadsError(
                f"{corpus.folder}: its sound has {info['sample_rate']} Hz, but model.audio_encoder takes "
                f"{encoder.sample_rate}: preprocess again with --set preprocess.sample_rate={encoder.sample_rate}"
            )
        self.hearing = Hearing(
            corpus, encoder, frozen=frozen, fps=self.fps, versions=versions or Versions(), caches=caches
        )
        counts = Counter(self.labels)
        weights = np.array([counts[label] ** -views.word_balance for label in self.labels])
        self.probabilities = weights / weights.sum()

    def batch(self, step: int, size: int, samples: range | None = None) -> WordBatch:
        """The batch of a training step, or of its samples only those with these numbers.

        Words are drawn with replacement, off the middle, louder or softer, each sample from a stream of its own.
        """
        chosen = np.random.default_rng([self.seed, step]).choice(len(self.words), size, p=self.probabilities)
        streams = {i: np.random.default_rng([self.seed, step, 1, i]) for i in samples or range(size)}
        return self._samples([int(chosen[i]) for i in streams], list(streams.values()))

    def in_order(self, size: int) -> Iterator[WordBatch]:
        """Every word once, in the middle and as it is, `size` at a time."""
        for begin in range(0, len(self.words), size):
            chosen = range(begin, min(begin + size, len(self.words)))
            yield self._samples(chosen, [None] * len(chosen))

    def _samples(self, chosen: Sequence[int], streams: Sequence[np.random.Generator | None]) -> WordBatch:
        pieces = [self._piece(self.words[index], rng) for index, rng in zip(chosen, streams, strict=True)]
        return WordBatch(torch.stack(pieces), torch.tensor([self.labels[index] for index in chosen]))

    def _piece(self, spoken: Spoken, rng: np.random.Generator | None) -> Tensor:
        views = self.views
        first = spoken.middle_s * self.fps - views.n_frames / 2  # frame in which the sample begins
        if rng is not None:
            first += rng.uniform(-views.jitter_frames, views.jitter_frames)
        n_versions = self.hearing.versions.n
        version = int(rng.integers(1 + n_versions)) if rng is not None and n_versions else 0
        sound = self._sound(spoken.ref, version)
        if self.frozen:
            frames = torch.arange(views.n_frames) + round(first)
            return sound[frames.clamp(0, len(sound) - 1)]  # before and after the clip its ends, repeated
        rate = self.encoder.sample_rate
        piece = cut(sound, first, samples_of(views.n_frames, self.fps, rate), self.fps, rate)
        return piece if rng is None else change_level(piece, views, rng)

    def _sound(self, ref: ClipRef, version: int) -> Tensor:
        """A version of a clip as `Hearing` gives it, from memory where it is there."""
        return self.memory.get((ref.id, version), lambda: self.hearing(ref, version))


def change_level(piece: Tensor, views: WordViews, rng: np.random.Generator) -> Tensor:
    """Sound [T] louder or softer, with white noise, clipped to full scale."""
    gain = 10 ** (rng.uniform(-views.gain_db, views.gain_db) / 20)
    noise = rng.standard_normal(len(piece), np.float32) * np.float32(rng.uniform(0, views.noise_max))
    return (piece * gain + torch.from_numpy(noise)).clamp(-1, 1)
