"""The training set: batch number `step` is a function of the seed and the step alone, so resuming is exact."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli.data.augment_frames import jitter_colour, random_warp, warp, warp_mask, with_clutter, with_other_mouth
from dheads_cli.data.clip_choice import Limits, choose_clips
from dheads_cli.data.embedding_cache import EmbeddingCache
from dheads_cli.data.hearing import Hearing, Versions
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.model.motion_frames import LEVELS
from dheads_cli.model.speech import cut, samples_of, window_indices
from dheads_cli.protocols import AudioEncoder

MOUTH = slice(48, 68)


@dataclass(frozen=True)
class Batch:
    """What one training step needs; frames are float32 in [-1, 1].

    Attributes:
        x_0: target frames [B, 3, H, W].
        identity: identity frames [B, 3, H, W].
        motion: motion frames, oldest first, clean, M x [B, 3, H, W].
        audio: windows of embeddings [B, K, D] of a frozen encoder, or, for one that is trained with the model, the
            sound of frames k - m_y - context ... k + m_y + context [B, T].
        audio_index: places of the window among the embeddings of that sound [B, K]; None for a frozen encoder.
        mouth_mask: 1 inside the target's mouth box [B, 1, H, W].
        motion_noise: sigma of the noise to put on the motion frames [B], or on each of them [B, M].
        start: in a step whose motion frames the network draws itself (model/rollout.py), the real frames before the
            first it draws, oldest first, M x [B, 3, H, W]; else empty, as are the next two.
        start_audio: as `audio`, for each frame it draws.
        start_index: as `audio_index`, for each frame it draws; empty for a frozen encoder.
        start_exists: whether the clip has these frames, bool [B, N]; None where it draws none.
    """

    x_0: Tensor
    identity: Tensor
    motion: list[Tensor]
    audio: Tensor
    audio_index: Tensor | None
    mouth_mask: Tensor
    motion_noise: Tensor
    start: list[Tensor] = field(default_factory=list)
    start_audio: list[Tensor] = field(default_factory=list)
    start_index: list[Tensor] = field(default_factory=list)
    start_exists: Tensor | None = None


@dataclass(frozen=True)
class Views:
    """How training frames are chosen and changed; the fields are those of the recipe's `model` and `train`."""

    n_motion_frames: int
    audio_context: int
    mouth_margin: float
    motion_noise_max: float
    motion_drop: float
    flip: float
    colour_jitter: float
    warp: float
    speaker_balance: float
    mouth_warp: float = 0.0
    clutter: float = 0.0
    motion_noise_levels: str = "uniform"
    motion_noise_per_frame: bool = False
    rollout_share: float = 0.0
    rollout_frames: int = 0
    rollout_from_step: int = 0


@dataclass(frozen=True)
class Drawn:
    """One sample of a batch.

    Attributes:
        frames: target, identity, motion frames, then those before a rollout, float32 [2 + M (+ M), 3, H, W].
        windows: sound of the target, then of each frame of a rollout, and the window's places in it.
        exists: whether the clip has each frame of a rollout.
        mouth_mask: of the target [1, H, W].
    """

    frames: NDArray[np.float32]
    windows: list[tuple[Tensor, list[int]]]
    exists: list[bool]
    mouth_mask: NDArray[np.float32]


@dataclass
class CachedClip:
    """A decoded clip: frames [F, H, W, 3], landmarks [F, 68, 2] px, embeddings [F, D] or the waveform [T].

    `augmented` holds the same of those augmented versions that were asked for so far, by their number.
    """

    frames: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    sound: Tensor
    augmented: dict[int, Tensor] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        sounds = (self.sound, *self.augmented.values())
        return self.frames.nbytes + self.landmarks.nbytes + sum(sound.nbytes for sound in sounds)


class TrainingSet:
    """Random frames of random clips of one split, with everything the loss needs.

    Args:
        path: folder of shards.
        split: which clips.
        encoder: the audio encoder; a frozen one is run here, once for each clip held in memory.
        frozen: whether the encoder is frozen.
        size: width and height the model takes, px; the shards must have it.
        views: how frames are chosen.
        cache_bytes: memory for decoded clips; the least recently used go first.
        seed: of every draw.
        keep: measure -> limits of the clips that are used; see clip_choice.
        versions: augmented versions of each clip's sound; a sample hears one of them or the clean one, each as often.
        caches: where a frozen encoder's embeddings of version 0, 1 ... are kept.

    Raises:
        DheadsError: the shards lack the split, no clip of it is to be kept, or they have another size or sample rate.
    """

    def __init__(
        self,
        path: Path,
        split: str,
        encoder: AudioEncoder,
        *,
        frozen: bool,
        size: int,
        views: Views,
        cache_bytes: float,
        seed: int,
        keep: Mapping[str, Limits] | None = None,
        versions: Versions | None = None,
        caches: tuple[EmbeddingCache, ...] = (),
    ) -> None:
        self.corpus = Corpus(path)
        self.choice = choose_clips(self.corpus.clips(split), keep or {}, f"{path}, split {split!r},")
        self.clips = self.choice.clips
        self.encoder, self.frozen, self.views, self.seed = encoder, frozen, views, seed
        self.cache: OrderedDict[str, CachedClip] = OrderedDict()
        self.cache_bytes, self.cached_bytes, self.lock = cache_bytes, 0, Lock()
        first = self.corpus.load(self.clips[0])
        self.fps = first.fps
        if first.frames.shape[1] != size:
            raise DheadsError(
                f"{path}: holds {first.frames.shape[1]} px faces, but model.size is {size}: "
                f"preprocess again with --size {size}, or set model.size={first.frames.shape[1]}"
            )
        if first.sample_rate != encoder.sample_rate:
            raise DheadsError(
                f"{path}: its sound has {first.sample_rate} Hz, but model.audio_encoder takes {encoder.sample_rate}: "
                f"preprocess again with --set preprocess.sample_rate={encoder.sample_rate}"
            )
        self.hearing = Hearing(
            self.corpus, encoder, frozen=frozen, fps=self.fps, versions=versions or Versions(), caches=caches
        )
        speakers = [ref.speaker for ref in self.clips]
        counts = {speaker: speakers.count(speaker) for speaker in set(speakers)}
        weights = np.array([counts[speaker] ** -views.speaker_balance for speaker in speakers])
        self.probabilities = weights / weights.sum()

    def clip(self, ref: ClipRef) -> CachedClip:
        """A clip, decoded and encoded, from memory where it is there."""
        with self.lock:
            if ref.id in self.cache:
                self.cache.move_to_end(ref.id)
                return self.cache[ref.id]
        stored = self.corpus.load(ref)
        loaded = CachedClip(stored.frames, stored.landmarks, self.hearing(ref, 0))
        with self.lock:
            self.cache[ref.id] = loaded
            self.cached_bytes += loaded.n_bytes
            self._make_room()
        return loaded

    def sound(self, ref: ClipRef, version: int) -> Tensor:
        """A version of a clip's sound, as `CachedClip.sound`; 0 is the clean one."""
        clip = self.clip(ref)
        if version == 0:
            return clip.sound
        if version not in clip.augmented:
            made = self.hearing(ref, version)
            with self.lock:
                clip.augmented[version] = made
                if self.cache.get(ref.id) is clip:  # else it has gone, and what it holds with it
                    self.cached_bytes += made.nbytes
                    self._make_room()
        return clip.augmented[version]

    def _make_room(self) -> None:
        while self.cached_bytes > self.cache_bytes and len(self.cache) > 1:
            self.cached_bytes -= self.cache.popitem(last=False)[1].n_bytes

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step: `size` clips drawn with replacement, one random target frame of each."""
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(len(self.clips), size, p=self.probabilities)
        n_drawn = self.views.rollout_frames if self._rolls_out(step) else 0
        samples = [self._sample(self.clips[index], rng, n_drawn) for index in chosen]
        frames = torch.from_numpy(np.stack([sample.frames for sample in samples]))  # [B, 2 + M, 3, H, W]
        audio, *start_audio = (torch.stack(each) for each in zip(*map(_sounds, samples), strict=True))
        index, *start_index = (torch.tensor(each) for each in zip(*map(_places, samples), strict=True))
        shown = 2 + self.views.n_motion_frames
        return Batch(
            x_0=frames[:, 0],
            identity=frames[:, 1],
            motion=list(frames[:, 2:shown].unbind(1)),
            audio=audio,
            audio_index=None if self.frozen else index,
            mouth_mask=torch.from_numpy(np.stack([sample.mouth_mask for sample in samples])),
            motion_noise=self._motion_noise(size, rng),
            start=list(frames[:, shown:].unbind(1)),
            start_audio=start_audio,
            start_index=[] if self.frozen else start_index,
            start_exists=torch.tensor([sample.exists for sample in samples]) if n_drawn else None,
        )

    def _rolls_out(self, step: int) -> bool:
        """Whether the network draws a step's motion frames itself; a draw of its own leaves the batch's as they are."""
        views = self.views
        if not views.rollout_share or not views.n_motion_frames or step < views.rollout_from_step:
            return False
        return bool(np.random.default_rng([self.seed, step, 1]).random() < views.rollout_share)

    def _motion_noise(self, size: int, rng: np.random.Generator) -> Tensor:
        """Levels of noise on motion frames, float32 [B] or [B, M]."""
        shape = (size, self.views.n_motion_frames) if self.views.motion_noise_per_frame else (size,)
        draws = torch.from_numpy(rng.random(shape))
        return LEVELS[self.views.motion_noise_levels](draws, self.views.motion_noise_max).float()

    def _sample(self, ref: ClipRef, rng: np.random.Generator, n_drawn: int = 0) -> Drawn:
        """One target, and what the network draws the n_drawn frames before it from."""
        clip = self.clip(ref)
        views, n_frames = self.views, len(clip.frames)
        k, identity = (int(i) for i in rng.integers(n_frames, size=2))
        before = range(k - n_drawn - views.n_motion_frames, k)
        dropped = rng.random() < views.motion_drop
        shown = [None if dropped or i < 0 else i for i in before]  # None: the identity frame stands in
        shown = [*shown[len(shown) - views.n_motion_frames :], *shown[: views.n_motion_frames if n_drawn else 0]]
        places = [k, identity, *(identity if i is None else i for i in shown)]
        pictures = clip.frames[places]
        if views.mouth_warp:
            is_identity = [False, True, *(i is None for i in shown)]
            mouth = clip.landmarks[identity][MOUTH]
            pictures[is_identity] = with_other_mouth(pictures[1], mouth, views.mouth_warp, rng)
        mask = mouth_mask(clip.landmarks[k], pictures.shape[1], views.mouth_margin)
        if views.clutter and rng.random() < views.clutter:
            pictures = with_clutter(pictures, clip.landmarks[places], rng)
        if views.warp:
            source = random_warp(pictures.shape[1], views.warp, rng)
            pictures, mask = np.stack([warp(picture, source) for picture in pictures]), warp_mask(mask, source)
        frames = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1
        frames = jitter_colour(frames, views.colour_jitter, rng)
        if rng.random() < views.flip:
            frames, mask = frames[..., ::-1], mask[..., ::-1]
        n_versions = self.hearing.versions.n
        version = int(rng.integers(1 + n_versions)) if n_versions else 0
        sound, drawn = self.sound(ref, version), range(k - n_drawn, k)
        windows = [self._window(sound, max(i, 0), n_frames) for i in (k, *drawn)]
        return Drawn(np.ascontiguousarray(frames), windows, [i >= 0 for i in drawn], np.ascontiguousarray(mask))

    def _window(self, sound: Tensor, k: int, n_frames: int) -> tuple[Tensor, list[int]]:
        indices = window_indices(k, n_frames, self.views.audio_context)
        if self.frozen:
            return sound[indices], []
        context, rate = self.encoder.context_frames, self.encoder.sample_rate
        first = k - self.views.audio_context
        n_piece = 2 * (self.views.audio_context + context) + 1
        piece = cut(sound, first - context, samples_of(n_piece, self.fps, rate), self.fps, rate)
        return piece, [index - first + context for index in indices]


def _sounds(sample: Drawn) -> list[Tensor]:
    return [sound for sound, _ in sample.windows]


def _places(sample: Drawn) -> list[list[int]]:
    return [places for _, places in sample.windows]


def mouth_mask(landmarks: NDArray[np.float32], size: int, margin: float) -> NDArray[np.float32]:
    """The mouth box of a target frame's landmarks [68, 2] as a mask [1, size, size]; margin is a share of the width."""
    return mouth_box_mask(landmarks[MOUTH], size, size, round(margin * size))


def mouth_box_mask(mouth: NDArray[np.float32], height: int, width: int, margin_px: int) -> NDArray[np.float32]:
    """The bounding box of a mouth's points, floored and ceiled, and grown, as a mask [1, H, W] of 1 and 0.

    Args:
        mouth: points [P, 2] (x, y), px; where one is NaN there is no box.
        height: px.
        width: px.
        margin_px: growth on each side.
    """
    mask = np.zeros((1, height, width), np.float32)
    if np.isnan(mouth).any():
        return mask
    left, top = np.floor(mouth.min(axis=0)).astype(int) - margin_px
    right, bottom = np.ceil(mouth.max(axis=0)).astype(int) + margin_px
    mask[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    return mask
