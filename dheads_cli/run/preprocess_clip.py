"""One clip of a corpus as it is stored: decoded, its face found and aligned, its sound cut to the picture, encoded."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dheads_cli import registry
from dheads_cli.data import align, media, quality, tracking
from dheads_cli.data.corpora import ClipSource, read_words
from dheads_cli.data.stored_clip import StoredClip, encode_sample
from dheads_cli.errors import UnusableClip
from dheads_cli.protocols import ClipLandmarks, LandmarkDetector
from dheads_cli.recipe import Preprocess
from dheads_cli.recipe_section import Component

if TYPE_CHECKING:
    from dheads_cli.protocols import Landmarks

MAX_MISSING_SOUND_S = 0.5  # sound that ends this much before the picture makes a clip unusable

Outcome = dict[str, bytes] | UnusableClip  # the members of a sample, or why there is none


def process_clip(source: ClipSource, settings: Preprocess) -> Outcome:
    """Make one sample: read, find the face, align, cut the sound to the picture, encode."""
    try:
        return encode_sample(_align(source, settings))
    except UnusableClip as unusable:
        return unusable
    except (Exception, SystemExit) as error:  # a plugin may fail in any way; one clip never ends the run
        return UnusableClip("crashed", f"{type(error).__name__}: {error}")


def _align(source: ClipSource, settings: Preprocess) -> StoredClip:
    """One clip of a corpus as it is stored."""
    video, waveform = read_clip(source, settings)
    words = read_words(source)
    landmarks, n_faces = _landmarks(source, video, waveform, settings)
    margins = settings.margins
    crops, crop_landmarks, transforms, n_interpolated = align.align_clip(
        video.frames, landmarks, settings.size, margins, settings.smooth_frames, settings.max_gap_frames
    )
    tracking.refuse_swap(crops)
    measures = quality.measure_clip(landmarks, crops, crop_landmarks, waveform, settings.sample_rate, margins)
    info = {
        "key": source.key,
        "text": source.text,
        "words": [asdict(word) for word in words] if words is not None else None,
        "source": source.video.name,
        "source_fps": round(video.source_fps, 4),
        "source_size": [video.frames.shape[2], video.frames.shape[1]],
        "quality": {**measures, "n_faces": n_faces, "interpolated_frames": n_interpolated},
        "transforms": [[round(value, 5) for value in transform] for transform in transforms.reshape(-1, 6).tolist()],
    }
    return StoredClip(
        source.id, source.speaker, source.split, crops, waveform, crop_landmarks, video.fps, settings.sample_rate, info
    )


def read_clip(source: ClipSource, settings: Preprocess) -> tuple[media.VideoClip, NDArray[np.float32]]:
    """A clip's picture and its sound, float32 [T], from the first frame to the last."""
    video = media.read_video(source.video, settings.fps)
    n_frames = len(video.frames)
    if n_frames < settings.min_frames:
        raise UnusableClip("too short", f"{n_frames} frames, fewer than {settings.min_frames}")
    return video, _sound(source, video, settings)


def _landmarks(
    source: ClipSource, video: media.VideoClip, waveform: NDArray[np.float32], settings: Preprocess
) -> tuple[Landmarks, int]:
    """The landmarks [F, 68, 2] of the face that the clip is about, and how many faces there are."""
    detector, max_gap = detector_of(settings), settings.max_gap_frames
    if isinstance(detector, ClipLandmarks):
        return detector.of_clip(source.id, len(video.frames)), 1
    tracks = tracking.follow_faces(detector, video.frames, max_gap)
    size = (video.frames.shape[2], video.frames.shape[1])
    chosen = tracking.choose_face(tracks, settings.which_face, max_gap, size, waveform, settings.sample_rate)
    return chosen, tracking.n_faces(tracks, max_gap)


def _sound(source: ClipSource, video: media.VideoClip, settings: Preprocess) -> NDArray[np.float32]:
    """The clip's sound, float32 [T], from the first frame to the last."""
    path, start = source.video, video.start
    if source.audio is not None:
        if not source.audio.is_file():
            raise UnusableClip("no sound", f"{source.audio} is missing")
        # A recording apart was taken out of its video: it begins where the video's own sound does, if there is any.
        path, start = source.audio, 0.0 if video.sound_start is None else video.start - video.sound_start
    waveform = media.read_audio(path, settings.sample_rate, start)
    n_samples = round(len(video.frames) / video.fps * settings.sample_rate)
    if len(waveform) < n_samples - MAX_MISSING_SOUND_S * settings.sample_rate:
        raise UnusableClip("no sound", f"only {len(waveform) / settings.sample_rate:.2f} s of it")
    if np.abs(waveform).max() < 2**-14:
        raise UnusableClip("no sound", "it is silent throughout")
    return media.fit_length(waveform, n_samples)


def detector_of(settings: Preprocess) -> LandmarkDetector:
    """The recipe's detector, built once in each process."""
    return _detector(settings.detector.model_dump_json())


@cache
def _detector(component: str) -> LandmarkDetector:
    chosen = Component.model_validate_json(component)
    detector: LandmarkDetector = registry.build("landmark_detectors", chosen.use, chosen.options)
    return detector
