"""Which clips a Turing test shows, and their films: alike in size, frame rate, sound and coding, real or not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import samples as samples_folder
from dheads_cli.data.media import fit_length, read_audio, read_video, source_fps_of
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.run.eval_folders import match_folders
from dheads_cli.run.page_parts import film

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames

SAMPLE_RATE, CRF = 16000, 16  # of sound out of videos, Hz; of the films


@dataclass(frozen=True)
class RealClip:
    """A real clip: uint8 RGB frames [F, H, W, 3], and sound, float32 [T] in [-1, 1], None where there is none."""

    frames: Frames
    fps: float
    sound: NDArray[np.float32] | None
    sample_rate: int  # Hz


@dataclass(frozen=True)
class Candidate:
    """A clip that may be shown.

    Attributes:
        content: which real clip it stands for, or is.
        load_real: reads that clip.
        video: the generated file; None for the real clip itself.
    """

    content: str
    load_real: Callable[[], RealClip]
    video: Path | None


Candidates = Mapping[str, Candidate]  # by content


def candidates_of(folder: Path, reference: Path | None) -> Candidates:
    """A method's clips with their own speech: of a samples folder, or videos beside real ones of their name.

    Raises:
        DheadsError: the folder holds none, or a video or its real clip is missing.
    """
    if reference is not None:
        matches = match_folders(folder, reference)
        return {match.id: Candidate(match.id, _reader(match.reference), match.video) for match in matches}
    rows = [row for row in samples_folder.read_samples(folder) if row.kind == "synced"]
    if missing := [row.file for row in rows if not (folder / row.file).is_file()]:
        raise DheadsError(f"{folder} lacks {', '.join(missing)}: run `dheads sample` again.")
    corpora = {name: Corpus(name) for name in {row.corpus for row in rows}}
    return {
        row.clip_id: Candidate(row.clip_id, _loader(corpora[row.corpus], row.clip_id), folder / row.file)
        for row in rows
    }


def _reader(path: Path) -> Callable[[], RealClip]:
    def read() -> RealClip:
        video = read_video(path, source_fps_of(path))
        try:
            sound = read_audio(path, SAMPLE_RATE, video.start)
        except UnusableClip as error:
            if error.reason != "no sound":
                raise
            sound = None
        return RealClip(video.frames, video.fps, sound, SAMPLE_RATE)

    return read


def _loader(corpus: Corpus, clip_id: str) -> Callable[[], RealClip]:
    def load() -> RealClip:
        clip = corpus.load(corpus.clip(clip_id))
        return RealClip(clip.frames, clip.fps, clip.waveform, clip.sample_rate)

    return load


def choose(pools: Mapping[str, Sequence[str]], n_clips: int, seed: int) -> dict[str, list[str]]:
    """So many contents from each pool, no content for two pools where there are enough of them.

    Raises:
        DheadsError: a pool is too small.
    """
    draw, times_shown, chosen = random.Random(seed), Counter[str](), {}
    for name, pool in pools.items():
        if len(pool) < n_clips:
            raise DheadsError(f"{name} has {len(pool)} clips, {n_clips} are asked for: make more, or ask for fewer.")
        shuffled = draw.sample(sorted(pool), len(pool))
        chosen[name] = sorted(shuffled, key=lambda content: times_shown[content])[:n_clips]
        times_shown.update(chosen[name])
    return chosen


def film_of(candidate: Candidate, size: tuple[int, int], fps: float, sample_rate: int) -> bytes:
    """The film of a clip, mp4: its pictures, real or not, and the real clip's sound.

    Args:
        candidate: the clip.
        size: (width, height) px, both even, of every film of the page.
        fps: of every film of the page.
        sample_rate: of every film's sound, Hz.

    Raises:
        DheadsError: a file is damaged, or the real clip has another frame rate or sample rate.
    """
    real = candidate.load_real()
    if abs(real.fps - fps) > 1e-3 * fps or real.sample_rate != sample_rate:
        raise DheadsError(
            f"real clip {candidate.content} has {real.fps:.4g} frames/s and {real.sample_rate} Hz, others {fps:.4g} "
            f"and {sample_rate}: show methods whose real clips have the same, or the rate tells who is who."
        )
    frames = real.frames
    if candidate.video is not None:
        frames = read_video(candidate.video, fps).frames[: len(real.frames)]
    if (frames.shape[2], frames.shape[1]) != size:
        how = cv2.INTER_AREA if frames.shape[2] > size[0] else cv2.INTER_CUBIC
        frames = np.stack([cv2.resize(frame, size, interpolation=how) for frame in frames])
    sound = None if real.sound is None else fit_length(real.sound, round(len(frames) / fps * sample_rate))
    return film(frames, fps, sound, sample_rate, CRF)
