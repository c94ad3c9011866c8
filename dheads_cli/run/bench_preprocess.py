"""Preprocessing's speed beside that of its landmark detector, for `dheads bench`."""

from __future__ import annotations

import itertools
import json
import os
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dheads_cli import registry
from dheads_cli.console import Bar
from dheads_cli.data import media
from dheads_cli.data.corpora import ClipSource, list_corpus
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.recipe import Preprocess
from dheads_cli.run.clip_pool import AHEAD, process_all
from dheads_cli.run.preprocess_clip import process_clip

ROUNDS = 3  # each starts its processes anew
N_CLIPS = 4  # clips of a corpus that are measured
MAX_TRIED = 40  # clips tried to find those
CLIPS_A_WORKER = 6  # measured in a round at least: fewer, and where a clip ends weighs too much

# LRW: 488,766 clips to train, 25,000 each to validate and to test (Chung and Zisserman 2016), of 1.16 s.
LRW_CLIPS, LRW_FRAMES_PER_CLIP = 538_766, 29
LRW_CORES = 16  # of the machine that its time is estimated for


def estimate_lrw_hours(frames_per_s: float, n_workers: int) -> float:
    """Hours that LRW would take LRW_CORES cores as fast as those measured, if clips cost what their frames do."""
    return LRW_CLIPS * LRW_FRAMES_PER_CLIP / (LRW_CORES * frames_per_s / n_workers) / 3600


@dataclass
class Rates:
    """Frames a second of preprocessing, one value a round."""

    n_workers: int
    detector: list[float] = field(default_factory=list)  # the detector alone, in one process
    alone: list[float] = field(default_factory=list)  # whole preprocessing by one worker
    together: list[float] = field(default_factory=list)  # by all workers
    frames_per_clip: list[float] = field(default_factory=list)  # of the clips that all workers made


def preprocessing(clips: list[ClipSource], settings: Preprocess, seconds: float, bar: Bar) -> Rates:
    """Preprocess a few clips over and over, in turns with the landmark detector alone on the same frames."""
    rates = Rates(settings.workers or os.cpu_count() or 1)
    for _ in range(ROUNDS):
        rates.detector.append(detector_rate(clips, settings, seconds))
        bar.advance(1)
        rates.alone.append(preprocessing_rate(clips, settings, 1, seconds)[0])
        bar.advance(1)
        together, clips_per_s = preprocessing_rate(clips, settings, rates.n_workers, seconds)
        rates.together.append(together)
        rates.frames_per_clip.append(together / clips_per_s)
        bar.advance(1)
    return rates


def usable_clips(corpus: Path, settings: Preprocess) -> list[ClipSource]:
    """The first clips of a corpus that preprocessing does not skip.

    Raises:
        DheadsError: no such corpus, or none that can be used.
    """
    listed = list_corpus(corpus, settings.layout, [], settings.test_fraction, settings.val_fraction).clips
    tried = listed[:MAX_TRIED]
    usable = (clip for clip in tried if not isinstance(process_clip(clip, settings), UnusableClip))
    if not (clips := list(itertools.islice(usable, N_CLIPS))):
        raise DheadsError(f"{corpus}: none of its first {len(tried)} clips can be used; try `dheads preprocess` on it")
    return clips


def detector_rate(clips: list[ClipSource], settings: Preprocess, seconds: float) -> float:
    """Frames a second of the landmark detector, reading not counted."""
    detector = registry.build("landmark_detectors", settings.detector.use, settings.detector.options)
    n_frames, taken = 0, 0.0
    for clip in itertools.cycle(clips):
        frames = media.read_video(clip.video, settings.fps).frames
        began = time.perf_counter()
        detector(frames)
        taken += time.perf_counter() - began
        n_frames += len(frames)
        if taken >= seconds:
            break
    return n_frames / taken


def preprocessing_rate(
    clips: list[ClipSource], settings: Preprocess, n_workers: int, seconds: float
) -> tuple[float, float]:
    """Frames and clips a second of `n_workers` that run and have more to do: start and end are not counted."""
    work = partial(process_clip, settings=settings)
    outcomes = process_all(work, itertools.cycle(clips), n_workers, settings.clip_timeout_s)
    n_frames, n_clips, taken = 0, 0, 0.0
    with closing(outcomes) as stream:
        for _ in range(AHEAD * n_workers):  # those handed out while the processes start
            next(stream)
        began = time.perf_counter()
        while taken < seconds or n_clips < CLIPS_A_WORKER * n_workers:
            outcome = next(stream)
            taken = time.perf_counter() - began
            if isinstance(outcome, UnusableClip):
                raise DheadsError(f"preprocessing stopped: {outcome}")
            n_frames += int(json.loads(outcome["json"])["n_frames"])
            n_clips += 1
    return n_frames / taken, n_clips / taken
