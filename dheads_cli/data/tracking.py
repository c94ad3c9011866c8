"""Faces of a clip, each followed through it, and the one of them that the clip is about.

Landmarks are float32 [F, 68, 2] px, NaN in frames where that face is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import align, lip_sound
from dheads_cli.data.mouth import mouth_opening
from dheads_cli.errors import UnusableClip
from dheads_cli.protocols import LandmarkDetector

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

WhichFace = Literal["speaking", "largest", "central"]

MIN_OVERLAP = 0.3  # of a face's boxes in two frames, intersection over union; below, it is another face
# How clearly lips must move with the sound for that to tell who speaks. Of 1000 pairs of GRID clips side by side, all
# of sentences with the same rhythm, the right face is found in 96 % where the two r differ by more than this (93 % do),
# and by chance where they don't.
MIN_R, MIN_R_LEAD = 0.25, 0.05
# Least unlikeness, 1 - r of 8 x 8 px thumbnails, of an aligned face and that of the next frame where another person
# takes its place. Over 246 GRID clips consecutive frames differ by at most 0.026, two speakers by at least 0.148.
MIN_SWAP = 0.08
THUMBNAIL_PX = 8


def follow_faces(detector: LandmarkDetector, frames: Frames, max_gap_frames: int) -> list[Landmarks]:
    """Every face of a clip; the first seen comes first.

    Two frames are looked at whole, for a face that could be chosen is there throughout. Where neither has more than one
    face, the detector follows that one in its own way, which costs less; else the faces of every frame are found.

    Args:
        detector: finds faces.
        frames: uint8 RGB [F, H, W, 3].
        max_gap_frames: a face not seen for longer is not the same one when it comes back.
    """
    if any(len(detector.all_faces(frames[k])) > 1 for k in (len(frames) // 3, 2 * len(frames) // 3)):
        return link([detector.all_faces(frame) for frame in frames], max_gap_frames)
    return link([[points] if np.isfinite(points).all() else [] for points in detector(frames)], max_gap_frames)


def link(faces: Sequence[Sequence[NDArray[np.float32]]], max_gap_frames: int) -> list[Landmarks]:
    """Join the faces [68, 2] of consecutive frames whose boxes overlap most, best pairs first."""
    tracks: list[Landmarks] = []
    last_seen: list[int] = []
    for k, found in enumerate(faces):
        alive = [number for number, seen in enumerate(last_seen) if k - seen <= max_gap_frames + 1]
        pairs = [
            (overlap(tracks[number][last_seen[number]], face), number, index)
            for number in alive
            for index, face in enumerate(found)
        ]
        taken: dict[int, int] = {}  # face -> track
        for score, number, index in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])):
            if score >= MIN_OVERLAP and index not in taken and number not in taken.values():
                taken[index] = number
        for index, face in enumerate(found):
            if index not in taken:
                taken[index] = len(tracks)
                tracks.append(np.full((len(faces), 68, 2), np.nan, np.float32))
                last_seen.append(k)
            tracks[taken[index]][k] = face
            last_seen[taken[index]] = k
    return tracks


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection over union of the bounding boxes of two faces [68, 2]."""
    shared = np.minimum(a.max(axis=0), b.max(axis=0)) - np.maximum(a.min(axis=0), b.min(axis=0))
    both = float(np.prod(np.maximum(shared, 0)))
    union = float(np.prod(np.ptp(a, axis=0)) + np.prod(np.ptp(b, axis=0))) - both
    return both / union if union > 0 else 0.0


def choose_face(
    tracks: Sequence[Landmarks],
    which: WhichFace,
    max_gap_frames: int,
    size: tuple[int, int],
    waveform: NDArray[np.float32],
    sample_rate: int,
) -> Landmarks:
    """The face a clip is about, of those seen throughout.

    "largest" has the largest box, in the median frame, "central" the middle nearest to the picture's. "speaking" has
    the lips that move with the sound; where none clearly do, it is the largest.

    Args:
        tracks: each [F, 68, 2].
        which: the rule.
        max_gap_frames: a face away for longer is not seen throughout.
        size: width and height of the frames, px.
        waveform: the clip's sound [T].
        sample_rate: of the sound, Hz.

    Raises:
        UnusableClip: none is seen throughout: "no face", "face lost", or "cut" where another one follows at once.
    """
    whole = [track for track in tracks if _longest_gap(align.has_face(track))[0] <= max_gap_frames]
    if not whole:
        raise _no_face_throughout(tracks, max_gap_frames)
    if len(whole) == 1:
        return whole[0]
    if which == "central":
        return min(whole, key=lambda track: float(np.linalg.norm(_box(track).mean(axis=0) - np.array(size) / 2)))
    speaks = speaking_face(whole, waveform, sample_rate) if which == "speaking" else None
    return max(whole, key=lambda track: float(np.prod(np.ptp(_box(track), axis=0)))) if speaks is None else speaks


def speaking_face(
    tracks: Sequence[Landmarks], waveform: NDArray[np.float32], sample_rate: int
) -> Landmarks | None:
    """The face, of two or more, whose lips move with the sound; None where that is not clear."""
    loud = lip_sound.loudness(waveform, len(tracks[0]), sample_rate)
    r = [lip_sound.speaking(mouth_opening(align.fill_gaps(track, len(track))[0]), loud) for track in tracks]
    best, second = np.argsort(r)[::-1][:2]
    return tracks[best] if r[best] >= MIN_R and r[best] - r[second] > MIN_R_LEAD else None


def n_faces(tracks: Sequence[Landmarks], max_gap_frames: int) -> int:
    """How many faces are seen for longer than a gap may last: a ghost of a frame or two is none."""
    return sum(int(align.has_face(track).sum()) > max_gap_frames for track in tracks)


def refuse_swap(crops: Frames) -> None:
    """Refuse aligned faces [F, H, W, 3] of which one frame to the next is another's, in the same place.

    Raises:
        UnusableClip: "cut".
    """
    gray = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    small = [cv2.resize(each, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA) for each in gray]
    pixels = np.stack(small).reshape(len(crops), -1).astype(np.float64)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-9)
    unlikeness = 1 - (pixels[1:] * pixels[:-1]).sum(axis=1)
    if len(unlikeness) and unlikeness.max() >= MIN_SWAP:
        raise UnusableClip("cut", f"another face, or another shot, begins at frame {int(unlikeness.argmax()) + 1}")


def _longest_gap(seen: NDArray[np.bool_]) -> tuple[int, int]:
    """Length and first frame of the longest run of False."""
    edges = np.flatnonzero(np.concatenate([[True], seen, [True]]))  # frame + 1
    lengths = np.diff(edges) - 1
    longest = int(lengths.argmax())
    return int(lengths[longest]), int(edges[longest])


def _box(track: Landmarks) -> NDArray[np.float32]:
    """The upper left and lower right corner [2, 2] of a face, each coordinate the median over the frames."""
    points = track[align.has_face(track)]
    return np.stack([np.median(points.min(axis=1), axis=0), np.median(points.max(axis=1), axis=0)])


def _no_face_throughout(tracks: Sequence[Landmarks], max_gap_frames: int) -> UnusableClip:
    if not tracks:
        return UnusableClip("no face", "in any frame")
    length, first = _longest_gap(np.any([align.has_face(track) for track in tracks], axis=0))
    if length > max_gap_frames:
        return UnusableClip("face lost", f"in {length} frames, {first} to {first + length - 1}")
    frames = [np.flatnonzero(align.has_face(track)) for track in tracks]
    longest = max(frames, key=len)
    return UnusableClip("cut", f"no face stays: the one seen longest is there in frames {longest[0]} to {longest[-1]}")
