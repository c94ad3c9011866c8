"""Clips of a preprocessed corpus as a network learns from them whether lips and sound are in step."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dheads_cli.data import media
from dheads_cli.data.hearing import Versions
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.data.stored_clip import decode_sample
from dheads_cli.data.sync_input import (
    CROP_PX,
    FPS,
    MOUTH_PX,
    SPECTRA_PER_FRAME,
    log_mel,
    mouth_crops,
    resampled,
    scaled,
)
from dheads_cli.data.tensor_memory import TensorMemory
from dheads_cli.errors import DheadsError

TURN_DEG, GROW, MOVE = 8.0, 0.12, 0.08  # at warp 1: of a piece, either way; MOVE is a share of the width
CONTRAST, GAMMA = 0.3, 0.4  # at light 1
LEAST_PX = 16  # side that a blurred piece may be made of, at blur 1


@dataclass(frozen=True)
class SyncBatch:
    """Pieces of clips, each with its sound and with another's.

    Attributes:
        mouths: float32 [B, F, 48, 48].
        sound: log-mel spectra of the same time, float32 [B, 40, 4 F].
        other: of another sentence, as long.
        corpus: which of several corpora each piece is from, int64 [B]; None where there is one.
    """

    mouths: Tensor
    sound: Tensor
    other: Tensor
    corpus: Tensor | None = None


@dataclass(frozen=True)
class SyncViews:
    """How pieces are chosen and changed; the fields are those of the recipe."""

    n_frames: int
    flip: float = 0.0
    warp: float = 0.0
    light: float = 0.0
    blur: float = 0.0
    speaker_balance: float = 0.0


class SyncSet:
    """The clips of one split: random pieces for training, or each clip in turn.

    Args:
        corpus: where they are.
        clips: those that may be drawn.
        views: how pieces are chosen and changed.
        cache_bytes: memory for what is decoded; the least recently used goes first.
        seed: of every draw.
        versions: augmented versions of each clip's sound; a random piece has one of them or the clean one.

    Raises:
        DheadsError: the clips are not of 25 frames a second, or all shorter than a piece.
    """

    def __init__(
        self, corpus: Corpus, clips: Sequence[ClipRef], *, views: SyncViews, cache_bytes: float, seed: int,
        versions: Versions | None = None,
    ) -> None:  # fmt: skip
        self.corpus, self.views, self.seed, self.versions = corpus, views, seed, versions or Versions()
        self.clips = [ref for ref in clips if ref.n_frames >= views.n_frames]
        self.n_short = len(clips) - len(self.clips)
        if not self.clips:
            raise DheadsError(
                f"{corpus.folder}: no clip of the split {clips[0].split!r} has the {views.n_frames} frames of "
                "train.n_frames: lower that"
            )
        fps = json.loads(corpus.read(self.clips[0], ("json",))["json"])["fps"]
        if fps != FPS:
            raise DheadsError(
                f"{corpus.folder}: has {fps:g} frames/s, but in-step networks learn at {FPS}: preprocess again with "
                f"--set preprocess.fps={FPS}"
            )
        self.memory = TensorMemory(cache_bytes)
        self.of_speaker = defaultdict(list)
        for index, ref in enumerate(self.clips):
            self.of_speaker[ref.speaker].append(index)
        weights = np.array([len(self.of_speaker[ref.speaker]) ** -views.speaker_balance for ref in self.clips])
        self.probabilities = weights / weights.sum()

    def batch(self, step: int, size: int, samples: Sequence[int] | None = None) -> SyncBatch:
        """The batch of a training step, or of its samples only those with these numbers.

        Clips are drawn with replacement, each piece from a stream of its own.
        """
        chosen = np.random.default_rng([self.seed, step]).choice(len(self.clips), size, p=self.probabilities)
        streams = {i: np.random.default_rng([self.seed, step, 1, i]) for i in samples or range(size)}
        pieces = [self._random_piece(int(chosen[i]), rng) for i, rng in streams.items()]
        return SyncBatch(*(torch.stack(parts) for parts in zip(*pieces, strict=True)))

    def in_order(self, size: int) -> Iterator[SyncBatch]:
        """The first n_frames of every clip once, unchanged, `size` at a time; the other is the speaker's next clip."""
        n = self.views.n_frames
        for begin in range(0, len(self.clips), size):
            pieces = []
            for index in range(begin, min(begin + size, len(self.clips))):
                mouths, sound = self.whole(index)
                others = self.of_speaker[self.clips[index].speaker]
                other = others[(others.index(index) + 1) % len(others)]
                spectra = slice(0, SPECTRA_PER_FRAME * n)
                pieces.append((mouths[:n], sound[:, spectra], self.heard(other, 0)[:, spectra]))
            yield SyncBatch(*(torch.stack(parts) for parts in zip(*pieces, strict=True)))

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """A clip as the network is asked about it: mouths [F, 48, 48], log-mel spectra [40, 4 F]."""
        edge = (CROP_PX - MOUTH_PX) // 2
        crops = self.seen(index)[:, edge : edge + MOUTH_PX, edge : edge + MOUTH_PX]
        return scaled(crops.float()), self.heard(index, 0)

    def seen(self, index: int) -> Tensor:
        """A clip's mouths, uint8 [F, CROP_PX, CROP_PX]."""
        ref = self.clips[index]
        return self.memory.get((self.corpus.folder, ref.id, "mouths"), lambda: mouths_of(self.corpus, ref))

    def heard(self, index: int, version: int) -> Tensor:
        """A version of a clip's log-mel spectra [40, 4 F]."""
        ref = self.clips[index]
        return self.memory.get((self.corpus.folder, ref.id, version), lambda: self._spectra(ref, version))

    def _random_piece(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        ref, views = self.clips[index], self.views
        siblings = [each for each in self.of_speaker[ref.speaker] if each != index] or [
            each for each in range(len(self.clips)) if each != index
        ]
        other = int(rng.choice(siblings)) if siblings else index
        begins = [int(rng.integers(self.clips[each].n_frames - views.n_frames + 1)) for each in (index, other)]
        version = int(rng.integers(1 + self.versions.n))
        crops = self.seen(index)[begins[0] : begins[0] + views.n_frames]
        sounds = [
            self.heard(each, version)[:, SPECTRA_PER_FRAME * begin : SPECTRA_PER_FRAME * (begin + views.n_frames)]
            for each, begin in zip((index, other), begins, strict=True)
        ]
        return scaled(changed(crops, views, rng)), sounds[0], sounds[1]

    def _spectra(self, ref: ClipRef, version: int) -> Tensor:
        members = self.corpus.read(ref, ("flac", "json"))
        wave, rate = media.decode_flac(members["flac"]), json.loads(members["json"])["sample_rate"]
        return log_mel(resampled(self.versions.apply(wave, rate, ref.id, version), rate), ref.n_frames)


def mouths_of(corpus: Corpus, ref: ClipRef) -> Tensor:
    """A clip's mouths, uint8 [F, CROP_PX, CROP_PX]."""
    clip = decode_sample(corpus.read(ref))
    crops = mouth_crops(clip.frames, clip.landmarks)
    assert crops is not None  # preprocessing keeps no clip without a face
    return torch.from_numpy(crops)


def changed(crops: Tensor, views: SyncViews, rng: np.random.Generator) -> Tensor:
    """A piece's crops, uint8 [F, CROP_PX, CROP_PX], turned, moved, lit and blurred, alike in all frames.

    Returns:
        float32 [F, MOUTH_PX, MOUTH_PX], about 0 ... 255.
    """
    angle = math.radians(TURN_DEG) * views.warp * rng.uniform(-1, 1)
    size = MOUTH_PX / CROP_PX * math.exp(GROW * views.warp * rng.uniform(-1, 1))
    x, y = 2 * MOVE * views.warp * rng.uniform(-1, 1, 2)
    mirror = -1.0 if rng.random() < views.flip else 1.0
    turn = size * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    place = torch.cat([turn * torch.tensor([mirror, 1.0]), torch.tensor([[x], [y]])], dim=1).float()
    grid = F.affine_grid(place[None], [1, 1, MOUTH_PX, MOUTH_PX], align_corners=False)
    mouths = F.grid_sample(
        crops[None].float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )  # [1, F, H, W]
    if rng.random() < views.blur:
        side = int(rng.integers(LEAST_PX, MOUTH_PX))
        small = F.interpolate(mouths, (side, side), mode="bilinear", antialias=True)
        mouths = F.interpolate(small, (MOUTH_PX, MOUTH_PX), mode="bicubic")
    gamma = math.exp(GAMMA * views.light * rng.uniform(-1, 1))
    lit = 255 * (mouths[0] / 255).clamp(0, 1) ** gamma * (1 + CONTRAST * views.light * rng.uniform(-1, 1))
    return lit.clamp(0, 255)
