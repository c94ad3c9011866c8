"""The training set: batch number `step` is a function of the seed and the step alone, so resuming is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli.data.augment_frames import Changes, changed, random_changes, with_clutter, with_other_mouth
from dheads_cli.data.batch import Batch
from dheads_cli.data.clip_choice import Limits, choose_clips
from dheads_cli.data.clip_memory import CachedClip, ClipMemory
from dheads_cli.data.controls import controls_of
from dheads_cli.data.embedding_cache import EmbeddingCache
from dheads_cli.data.hearing import Hearing, Versions
from dheads_cli.data.mouth_box import MOUTH, mouth_mask
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.model.motion_frames import LEVELS
from dheads_cli.model.speech import cut, samples_of, window_indices
from dheads_cli.protocols import AudioEncoder

PHOTO_SHARE = 0.7  # of a synthetic speaker's samples: their identity frame is the photo, as it is in `dheads animate`
SAMPLES = 2  # after the seed and the step: the streams of a batch's samples; 1 is that of whether it rolls out


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
    controls: tuple[str, ...] = ()
    control_drop: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """One sample of a batch.

    Attributes:
        pictures: target, identity frame, motion frames, then those before a rollout, uint8 [2 + M (+ M), H, W, 3].
        mouth_mask: of the target [1, H, W].
        changes: what is still to be done to all its pictures and the mask.
        windows: sound of the target, then of each frame of a rollout, and the window's places in it.
        exists: whether the clip has each frame of a rollout.
        controls: of the target, then of each frame of a rollout, [n_controls] each.
    """

    pictures: NDArray[np.uint8]
    mouth_mask: NDArray[np.float32]
    changes: Changes
    windows: list[tuple[Tensor, list[int]]]
    exists: list[bool]
    controls: list[NDArray[np.float32]]


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
        targets_per_clip: targets drawn from each clip that is chosen; the size of a batch must be a multiple of it.
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
        targets_per_clip: int = 1,
        versions: Versions | None = None,
        caches: tuple[EmbeddingCache, ...] = (),
    ) -> None:
        self.corpus = Corpus(path)
        self.choice = choose_clips(self.corpus.clips(split), keep or {}, f"{path}, split {split!r},")
        self.clips = self.choice.clips
        self.encoder, self.frozen, self.views, self.seed = encoder, frozen, views, seed
        self.size, self.targets_per_clip = size, targets_per_clip
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
        self.memory = ClipMemory(cache_bytes)
        speakers = [ref.speaker for ref in self.clips]
        counts = {speaker: speakers.count(speaker) for speaker in set(speakers)}
        weights = np.array([counts[speaker] ** -views.speaker_balance for speaker in speakers])
        self.probabilities = weights / weights.sum()

    def few(self, n_clips: int) -> TrainingSet:
        """The same set of its first clips alone, each drawn as often, with a memory of its own."""
        made = copy(self)
        made.clips = self.clips[:n_clips]
        made.probabilities = np.full(len(made.clips), 1 / len(made.clips))
        made.memory = ClipMemory(self.memory.most_bytes)
        return made

    def clip(self, ref: ClipRef) -> CachedClip:
        """A clip, decoded and encoded, from memory where it is there."""
        return self.memory.clip(self.hearing, ref)

    def sound(self, ref: ClipRef, version: int, clip: CachedClip | None = None) -> Tensor:
        """A version of a clip's sound, as `CachedClip.sound`; 0 is the clean one. `clip`, where it is at hand."""
        return self.memory.sound(self.hearing, ref, version, clip)

    def bytes_of_all(self) -> int:
        """What all clips of the set take in memory, with every version of their sound."""
        one = self.clip(self.clips[0])
        n_sounds = 1 + self.hearing.versions.n
        per_frame = (one.frames.nbytes + one.landmarks.nbytes + n_sounds * one.sound.nbytes) / len(one.frames)
        return round(per_frame * sum(ref.n_frames for ref in self.clips))

    def batch(self, step: int, size: int, samples: Sequence[int] | None = None) -> Batch:
        """The batch of a step, `size` samples, or of these only those with the numbers `samples`.

        Clips are drawn with replacement; of each, targets_per_clip targets. Every sample has a random stream of its
        own, so it is the same whichever others are made with it.
        """
        rng = np.random.default_rng([self.seed, step])
        clips = rng.choice(len(self.clips), size // self.targets_per_clip, p=self.probabilities)
        motion_noise = self._motion_noise(size, rng)
        n_drawn = self.views.rollout_frames if self._rolls_out(step) else 0
        drawn: list[Drawn] = []
        for index, numbers in groupby(samples or range(size), lambda i: clips[i // self.targets_per_clip]):
            ref = self.clips[index]
            clip = self.clip(ref)  # held here: other threads may push it out of memory meanwhile
            streams = (np.random.default_rng([self.seed, step, SAMPLES, i]) for i in numbers)
            drawn += [self._sample(ref, clip, stream, n_drawn) for stream in streams]
        frames, mouth_mask = self._pictures(drawn)
        audio, *start_audio = (torch.stack(each) for each in zip(*map(_sounds, drawn), strict=True))
        index, *start_index = (torch.tensor(each) for each in zip(*map(_places, drawn), strict=True))
        controls = [torch.from_numpy(np.stack(each)) for each in zip(*(each.controls for each in drawn), strict=True)]
        shown = 2 + self.views.n_motion_frames
        return Batch(
            x_0=frames[0],
            identity=frames[1],
            motion=list(frames[2:shown]),
            audio=audio,
            audio_index=None if self.frozen else index,
            mouth_mask=mouth_mask,
            motion_noise=motion_noise if samples is None else motion_noise[list(samples)],
            start=list(frames[shown:]),
            start_audio=start_audio,
            start_index=[] if self.frozen else start_index,
            start_exists=torch.tensor([sample.exists for sample in drawn]) if n_drawn else None,
            controls=controls[0] if controls else None,
            start_controls=controls[1:],
        )

    def _pictures(self, drawn: Sequence[Drawn]) -> tuple[Tensor, Tensor]:
        """Frames [2 + M (+ M), B, 3, H, W] in [-1, 1] and mouth masks [B, 1, H, W] of samples, float32."""
        frames = np.empty((len(drawn[0].pictures), len(drawn), 3, self.size, self.size), np.float32)
        masks = np.empty((len(drawn), 1, self.size, self.size), np.float32)
        for i, sample in enumerate(drawn):
            frames[:, i], masks[i] = changed(sample.pictures, sample.mouth_mask, sample.changes)
        return torch.from_numpy(frames), torch.from_numpy(masks)

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

    def _sample(self, ref: ClipRef, clip: CachedClip, rng: np.random.Generator, n_drawn: int) -> Drawn:
        """One target, and what the network draws the n_drawn frames before it from."""
        views, n_frames = self.views, len(clip.frames)
        k, identity = (int(i) for i in rng.integers(n_frames, size=2))
        before = range(k - n_drawn - views.n_motion_frames, k)
        dropped = rng.random() < views.motion_drop
        shown = [None if dropped or i < 0 else i for i in before]  # None: the identity frame stands in
        shown = [*shown[len(shown) - views.n_motion_frames :], *shown[: views.n_motion_frames if n_drawn else 0]]
        places = [k, identity, *(identity if i is None else i for i in shown)]
        pictures, faces = clip.frames[places], clip.landmarks[places]
        is_identity = [False, True, *(i is None for i in shown)]
        is_photo = clip.photo is not None and rng.random() < PHOTO_SHARE
        if clip.photo is not None and is_photo:
            pictures[is_identity], faces[is_identity] = clip.photo
        if views.mouth_warp:
            pictures[is_identity] = with_other_mouth(pictures[1], faces[1][MOUTH], views.mouth_warp, rng)
        if views.clutter and rng.random() < views.clutter:
            pictures = with_clutter(pictures, faces, rng)
        changes = random_changes(views.warp, views.colour_jitter, views.flip, rng)
        n_versions = self.hearing.versions.n
        version = int(rng.integers(1 + n_versions)) if n_versions else 0
        sound, drawn = self.sound(ref, version, clip), range(k - n_drawn, k)
        withheld = rng.random(len(views.controls)) < views.control_drop  # the last draw: the others stay as they are
        controls: list[NDArray[np.float32]] = []
        if views.controls:
            head = clip.photo_head if is_photo else clip.eyes_and_head.head[identity]
            controls = [self._controls(clip, max(i, 0), head, changes.flipped, withheld) for i in (k, *drawn)]
        return Drawn(
            pictures,
            mouth_mask(clip.landmarks[k], self.size, views.mouth_margin),
            changes,
            windows=[self._window(sound, max(i, 0), n_frames) for i in (k, *drawn)],
            exists=[i >= 0 for i in drawn],
            controls=controls,
        )

    def _controls(
        self,
        clip: CachedClip,
        k: int,
        identity_head: NDArray[np.float32],
        flipped: bool,
        withheld: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """Controls of frame k [n_controls], NaN in those that are withheld."""
        values = controls_of(self.views.controls, clip.eyes_and_head, k, identity_head, flipped=flipped)
        return np.concatenate([value * (np.nan if drop else 1) for value, drop in zip(values, withheld, strict=True)])

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
