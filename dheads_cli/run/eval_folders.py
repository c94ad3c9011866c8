"""Videos of any tool beside real ones, paired by name: `dheads eval FOLDER --reference DIR`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from dheads_cli import console
from dheads_cli.data.corpora.tree import VIDEO_SUFFIXES
from dheads_cli.data.media import read_video, source_fps_of
from dheads_cli.data.samples import partners
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.protocols import LandmarkDetector
from dheads_cli.run.eval_pairs import MAX_FRAMES_APART, Kept, Pair, ScoredClip, sound_of
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH, OTHER_REAL
from dheads_cli.run.page_parts import count

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

FPS_APART = 0.01  # share by which two frame rates may differ and count as the same
ASPECT_APART = 0.02  # share by which two shapes may differ without a remark that one is stretched


@dataclass(frozen=True)
class NamedPair:
    """A generated and a real video of one name; the id is their path below their folders, without suffix."""

    id: str
    video: Path
    reference: Path

    @property
    def speaker(self) -> str:
        """The folder they lie in; "" for those that lie in none."""
        return self.id.rpartition("/")[0]


def match_folders(folder: Path, reference: Path) -> list[NamedPair]:
    """Pair the videos of two folders, and of the folders in them, by name without suffix.

    Raises:
        DheadsError: a folder is missing or holds no video, two videos share a name, one has no reference, or some can't
            be opened.
    """
    if folder.resolve() == reference.resolve():
        raise DheadsError(f"{folder} is its own reference: name the folder of the real videos with --reference.")
    ours, real = _videos(folder), _videos(reference)
    if missing := [name for name in ours if name not in real]:
        near = {name.casefold(): name for name in real}
        hints = [near.get(name.casefold()) for name in missing]
        named = _some([name + (f" (it has {hint})" if hint else "") for name, hint in zip(missing, hints, strict=True)])
        raise DheadsError(f"{reference} has no video of the name of {named} in {folder}: names must be the same.")
    if unused := len(real) - len(ours):
        console.info(f"{count(unused, 'video')} of {reference} without a counterpart in {folder}: left out")
    matches = [NamedPair(name, video, real[name]) for name, video in ours.items()]
    if broken := [why for match in matches for path in (match.video, match.reference) if (why := _hindrance(path))]:
        raise DheadsError(f"{count(len(broken), 'video')} can't be read: {_some(broken, '; ')}. Mend or remove them.")
    return matches


def _some(texts: Sequence[str], between: str = ", ") -> str:
    """The first five, and how many more there are."""
    return between.join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def _hindrance(path: Path) -> str:
    """Why a video can't be opened; "" where it can. What is damaged further on only reading it tells."""
    try:
        source_fps_of(path)
    except UnusableClip as error:
        return error.detail if str(path) in error.detail else f"{path}: {error.detail}"
    return ""


def _videos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DheadsError(f"{folder}: no such folder of videos.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in VIDEO_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DheadsError(f"{path} and {found[name]} share a name: keep one of them.")
        found[name] = path
    if not found:
        raise DheadsError(f"{folder} holds no video: {', '.join(VIDEO_SUFFIXES)} are looked for.")
    return found


@dataclass(frozen=True)
class NamedGroup:
    """A video and its reference; `real`: whether the rows of real clips are wanted, `other`: the second of them."""

    match: NamedPair
    real: bool
    other: NamedPair | None

    @property
    def name(self) -> str:
        """That both videos have."""
        return self.match.id

    @property
    def n_pairs(self) -> int:
        """How many there are; one less where the other clip has another size."""
        return 1 + self.real * (1 + (self.other is not None))

    def read(self, detector: LandmarkDetector, kept: Kept) -> Iterator[Pair]:
        """Read the video with its reference: at the reference's frame rate and size, cut to the shorter.

        The identity frame is the reference's first; landmarks are looked for in both. In the ground-truth row the
        reference stands against itself.

        Raises:
            DheadsError: a video is damaged.
        """
        match, known = self.match, kept.landmarks
        fps = source_fps_of(match.reference)
        real = _real_clip(match, fps, detector, known)
        yield _generated_pair(match, real, fps, detector)
        if self.real:
            yield Pair(GROUND_TRUTH, real, real, _facts(match.id, match, len(real.frames)))
            other = _real_clip(self.other, fps, detector, known) if self.other else real
            if other is not real and other.frames.shape[1:] == real.frames.shape[1:]:
                n_frames = min(len(other.frames), len(real.frames))
                facts = _facts(other.id, match, n_frames)
                yield Pair(OTHER_REAL, _first(other, n_frames), _first(real, n_frames), facts)


def named_groups(matches: Sequence[NamedPair], *, ground_truth: bool) -> list[NamedGroup]:
    """The videos of two folders."""
    others = partners({match: match.speaker for match in matches})
    return [NamedGroup(match, ground_truth, others.get(match)) for match in matches]


def _real_clip(match: NamedPair, fps: float, detector: LandmarkDetector, known: dict[str, Landmarks]) -> ScoredClip:
    def landmarks(frames: Frames) -> Landmarks:
        place = f"{match.id} {fps}"
        if place not in known:
            known[place] = detector(frames)
        return known[place]

    video = read_video(match.reference, fps)
    sound = partial(sound_of, match.reference, video.start)
    return ScoredClip(match.id, match.speaker, fps, video.frames, video.frames[0], landmarks, sound)


def _generated_pair(match: NamedPair, real: ScoredClip, fps: float, detector: LandmarkDetector) -> Pair:
    video = read_video(match.video, fps)
    frames, changes = video.frames, []
    if abs(video.source_fps / fps - 1) > FPS_APART:
        changes.append(f"{video.source_fps:.4g} to {fps:.4g} frames/s")
    if len(frames) != len(real.frames):
        longer = "the video" if len(frames) > len(real.frames) else "the reference"
        if abs(len(frames) - len(real.frames)) > MAX_FRAMES_APART:
            changes.append(f"{longer} cut to the shorter's length")
    n_frames = min(len(frames), len(real.frames))
    frames = frames[:n_frames]
    (height, width), (own_height, own_width) = real.frames.shape[1:3], frames.shape[1:3]
    if (height, width) != (own_height, own_width):
        stretched = abs(own_width * height / (own_height * width) - 1) > ASPECT_APART
        size = f"{own_width} x {own_height} to {width} x {height} px"
        changes.append(f"{size}, which stretches it" if stretched else size)
        how = cv2.INTER_AREA if height * width < own_height * own_width else cv2.INTER_CUBIC
        frames = np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])
    reference = _first(real, n_frames)
    clip = ScoredClip(
        match.id, match.speaker, fps, frames, real.identity, detector, partial(sound_of, match.video, video.start)
    )
    facts = _facts(match.id, match, n_frames) | {"changed": "; ".join(changes)}
    return Pair(GENERATED, clip, reference, facts)


def _first(clip: ScoredClip, n_frames: int) -> ScoredClip:
    """The clip's first frames."""
    if n_frames == len(clip.frames):
        return clip
    found = clip.find_landmarks
    whole = clip.frames
    return ScoredClip(
        clip.id, clip.speaker, clip.fps, whole[:n_frames], clip.identity, lambda _: found(whole)[:n_frames],
        clip.find_sound,
    )  # fmt: skip


def _facts(name: str, match: NamedPair, n_frames: int) -> dict[str, Any]:
    return {"id": name, "clip_id": match.id, "audio_clip_id": name, "speaker": match.speaker, "n_frames": n_frames}
