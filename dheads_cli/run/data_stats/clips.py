"""What is seen and heard in a sample of a corpus's clips: the faces' place, and whether lips and sound are in step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dheads_cli import console
from dheads_cli.data import align
from dheads_cli.data.manifest import ManifestRow
from dheads_cli.data.mouth import mouth_opening
from dheads_cli.data.shards import members_in
from dheads_cli.data.stored_clip import StoredClip, decode_sample
from dheads_cli.errors import DheadsError
from dheads_cli.run.data_stats.sync import loudness_db

FRAMES_A_CLIP = 8  # evenly spaced, of which the mean face is made
POINTS_A_CLIP = 3  # frames whose landmarks are kept
ENVELOPE_HZ = 100  # minima and maxima of the sound, for drawing it
N_SPEAKERS = 10  # with a mean face each
MIN_CLIPS = 4  # fewer clips look sharp together wherever their faces are
UNKNOWN_SPEAKER = "unknown"  # whom a corpus does not name (data/corpora/): many people, so no mean of one
GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Look:
    """What is kept of one decoded clip.

    Attributes:
        row: its place in the manifest.
        id, split, speaker: of the clip.
        frame: its middle frame, uint8 [H, W, 3].
        points: landmarks of the middle and a few other frames [P, 68, 2] px.
        eyes: mean gray picture of the eyes over some frames, float32 [h, w] in [0, 255].
        eye_contrast: mean gradient of the eyes in single frames, gray levels a px.
        opening: of the mouth, in interocular distances [F].
        loudness: of each frame's sound, dB [F].
        envelope: least and greatest sample of each 1 / ENVELOPE_HZ s [E, 2].
        fps: frames a second.
        words: (word, start s, end s) where known.
    """

    row: int
    id: str
    split: str
    speaker: str
    frame: NDArray[np.uint8]
    points: NDArray[np.float32]
    eyes: NDArray[np.float32]
    eye_contrast: float
    opening: NDArray[np.float64]
    loudness: NDArray[np.float64]
    envelope: NDArray[np.float32]
    fps: float
    words: list[tuple[str, float, float]]


@dataclass(frozen=True)
class MeanFace:
    """The mean crop of a group of clips, uint8 [H, W, 3], and how sharp its eyes are (None: too few clips)."""

    name: str
    picture: NDArray[np.uint8]
    n_clips: int
    sharpness: float | None


@dataclass(frozen=True)
class Sample:
    """The clips looked at, the mean faces of them (all first, then splits, then speakers), and what can't be read."""

    looks: list[Look]
    mean_faces: list[MeanFace]
    unreadable: dict[str, str]

    @property
    def size(self) -> int | None:
        """Width and height of the crops, px."""
        return len(self.looks[0].frame) if self.looks else None


def look_at(folder: Path, rows: Mapping[int, ManifestRow], margins: tuple[float, float, float]) -> Sample:
    """Decode clips one by one and keep what the page shows of each.

    Args:
        folder: the preprocessed corpus.
        rows: clips to decode, by their place in the manifest.
        margins: of the crops, see align.mean_face_in_crop; they say where the eyes should be.
    """
    looks: list[Look] = []
    unreadable: dict[str, str] = {}
    frequent = [name for name, _ in Counter(row.speaker for row in rows.values()).most_common(N_SPEAKERS)]
    sums: dict[tuple[str, str], Any] = {}
    with console.progress("clips", total=len(rows), unit="clips") as bar:
        for index, row in rows.items():
            try:
                clip = load_whole(folder, row)
                if looks and clip.frames.shape[1:] != looks[0].frame.shape:
                    raise DheadsError(f"its frames are {clip.frames.shape[1]} px, others {len(looks[0].frame)}")
                look, mean = _look(index, clip, margins)
            except DheadsError as error:
                unreadable[row.id] = str(error)
            else:
                looks.append(look)
                groups = [("", "all"), ("split", row.split), *([("speaker", row.speaker)] * (row.speaker in frequent))]
                for group in groups:
                    sums[group] = sums.get(group, 0) + mean
            bar.advance(1)
    return Sample(looks, [_mean_face(group, sums[group], looks) for group in sorted(sums, key=_place)], unreadable)


def load_whole(folder: Path, row: ManifestRow) -> StoredClip:
    """Decode a clip whose bytes are those that were stored.

    Raises:
        DheadsError: its shard is missing or damaged, or its parts do not belong together.
    """
    members = members_in(folder / row.shard, row)
    if hashlib.sha256(b"".join(members.values())).hexdigest() != row.sha256:
        raise DheadsError(f"{folder / row.shard}: its bytes differ from the manifest's checksum")
    clip = decode_sample(members)
    if not len(clip.frames) == len(clip.landmarks) == row.n_frames:
        counts = f"{len(clip.frames)} pictures, landmarks of {len(clip.landmarks)}"
        raise DheadsError(f"{folder / row.shard}: it has {counts}, but {row.n_frames} frames in the manifest")
    return clip


def eye_box(size: int, margins: tuple[float, float, float]) -> tuple[slice, slice]:
    """Rows and columns around both eyes of the mean face in a crop."""
    eyes = align.mean_face_in_crop(size, margins)[36:48]
    grow = 0.25 * (eyes[6:].mean(axis=0) - eyes[:6].mean(axis=0))[0]
    left, top = np.maximum(np.floor(eyes.min(axis=0) - grow), 0).astype(int)
    right, bottom = np.ceil(eyes.max(axis=0) + grow).astype(int)
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _look(index: int, clip: StoredClip, margins: tuple[float, float, float]) -> tuple[Look, NDArray[np.float32]]:
    """What is kept of a clip, and its mean crop float32 [H, W, 3]."""
    n_frames = len(clip.frames)
    some = clip.frames[np.linspace(0, n_frames - 1, min(FRAMES_A_CLIP, n_frames)).astype(int)]
    gray = (some @ np.array(GRAY, np.float32))[(slice(None), *eye_box(clip.frames.shape[1], margins))]
    middle = n_frames // 2
    kept = [middle, *np.linspace(0, n_frames - 1, POINTS_A_CLIP - 1).astype(int)]
    look = Look(
        index,
        clip.id,
        clip.split,
        clip.speaker,
        clip.frames[middle],
        clip.landmarks[kept],
        gray.mean(axis=0),
        float(np.mean([contrast(picture) for picture in gray])),
        mouth_opening(clip.landmarks),
        loudness_db(clip.waveform, n_frames, clip.fps, clip.sample_rate),
        _envelope(clip.waveform, clip.sample_rate),
        clip.fps,
        [(word["word"], float(word["start"]), float(word["end"])) for word in clip.info.get("words") or []],
    )
    mean: NDArray[np.float32] = some.mean(axis=0, dtype=np.float32)
    return look, mean


def contrast(gray: NDArray[np.float32]) -> float:
    """Mean magnitude of a picture's gradient [h, w], gray levels a px."""
    return float(np.hypot(*np.gradient(gray)).mean())


def sharpness(looks: Sequence[Look]) -> float | None:
    """Contrast of the eyes in the mean of clips over that in single frames: 1 where all lie exactly alike.

    None for too few clips. Different people's eyes blur as well; one speaker's don't where the alignment is right.
    """
    if len(looks) < MIN_CLIPS:
        return None
    single = float(np.mean([look.eye_contrast for look in looks]))
    return contrast(np.mean([look.eyes for look in looks], axis=0)) / single if single else None


def sharpness_by_speaker(looks: Sequence[Look]) -> float | None:
    """Mean over clips of their own speaker's sharpness; None where no known speaker has enough clips."""
    values = {speaker: sharpness([look for look in looks if look.speaker == speaker]) for speaker in _speakers(looks)}
    known = [value for look in looks if (value := values.get(look.speaker)) is not None]
    return float(np.mean(known)) if known else None


def likeness_of_eyes(looks: Sequence[Look]) -> NDArray[np.float64]:
    """Correlation of each clip's eyes with the mean of the same speaker's other clips [N]; NaN for too few of them.

    A clip far below the others shows another face, or no face in the right place.
    """
    likeness = np.full(len(looks), np.nan)
    for speaker in _speakers(looks):
        places = [place for place, look in enumerate(looks) if look.speaker == speaker]
        total = np.sum([looks[place].eyes for place in places], axis=0)
        if len(places) < MIN_CLIPS:
            continue
        for place in places:
            eyes, others = looks[place].eyes, total - looks[place].eyes
            if eyes.std() and others.std():
                likeness[place] = np.corrcoef(eyes.ravel(), others.ravel())[0, 1]
    return likeness


def stray_of_landmarks(looks: Sequence[Look]) -> NDArray[np.float64]:
    """RMS distance of each clip's landmarks from all clips' median face [N], in interocular distances."""
    if not looks:
        return np.array([])
    median = np.median(np.concatenate([look.points for look in looks]), axis=0)
    interocular = float(np.linalg.norm(median[42:48].mean(axis=0) - median[36:42].mean(axis=0)))
    squared = np.array([np.sum((look.points - median) ** 2, axis=-1).mean() for look in looks])
    return np.sqrt(squared) / interocular if interocular else np.full(len(looks), np.nan)


def _speakers(looks: Iterable[Look]) -> list[str]:
    return sorted({look.speaker for look in looks} - {UNKNOWN_SPEAKER})


def _place(group: tuple[str, str]) -> tuple[int, str]:
    return ("", "split", "speaker").index(group[0]), group[1]


def _mean_face(group: tuple[str, str], total: NDArray[np.float32], looks: Sequence[Look]) -> MeanFace:
    kind, name = group
    members = [look for look in looks if not kind or getattr(look, kind) == name]
    picture = np.clip(np.round(total / len(members)), 0, 255).astype(np.uint8)
    return MeanFace(f"{kind} {name}".strip(), picture, len(members), sharpness(members))


def _envelope(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    begins = np.arange(0, len(waveform), max(1, round(sample_rate / ENVELOPE_HZ)))
    return np.stack([np.minimum.reduceat(waveform, begins), np.maximum.reduceat(waveform, begins)], axis=1)
