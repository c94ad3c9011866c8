"""What `dheads eval` scores: generated clips beside the real ones they stand for, read one after another."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.media import read_audio, read_video
from dheads_cli.data.samples import PHOTO, SampleRow, partners
from dheads_cli.data.shards import Corpus
from dheads_cli.data.stored_clip import StoredClip
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.protocols import LandmarkDetector
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH, OTHER_REAL, SHUFFLED

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks, Sound

ROW_OF_KIND = {"synced": GENERATED, "shuffled": SHUFFLED}
SAMPLE_RATE = 16000  # that the sound of videos is read at, Hz
MAX_FRAMES_APART = 2  # more than that between a generated and a real clip is worth a warning


def no_sound() -> None:
    """Of a clip that has none."""


@dataclass
class ScoredClip:
    """One clip as metrics see it; landmarks and sound are looked for when first asked for, then kept."""

    id: str
    speaker: str
    fps: float
    frames: Frames  # uint8 RGB [F, H, W, 3]
    identity: NDArray[np.uint8]  # uint8 RGB [H, W, 3]
    find_landmarks: Callable[[Frames], Landmarks]
    find_sound: Callable[[], Sound | None] = no_sound  # from the first frame on; it may be longer than the clip
    words: Sequence[str] | None = None  # that are said in its sound, where they are known

    @cached_property
    def landmarks(self) -> Landmarks:
        """float32 [F, 68, 2] px, NaN where no face is found."""
        return self.find_landmarks(self.frames)

    @cached_property
    def sound(self) -> Sound | None:
        """Waveform [T], as long as the clip or shorter, and its rate; None without sound."""
        if (found := self.find_sound()) is None:
            return None
        waveform, rate = found
        return waveform[: round(len(self.frames) / self.fps * rate)], rate


@dataclass(frozen=True)
class Pair:
    """A clip and the real one it is scored against, equally long; `facts` goes into the clip's record.

    `remark` is for the user.
    """

    row: str
    clip: ScoredClip
    reference: ScoredClip
    facts: Mapping[str, Any]
    remark: str = ""


@dataclass
class Kept:
    """What one process keeps from one clip to the next: corpora by name, landmarks that were found by video."""

    corpora: dict[str, Corpus] = field(default_factory=dict)
    landmarks: dict[str, Landmarks] = field(default_factory=dict)

    def corpus(self, name: str) -> Corpus:
        """Open a corpus, once."""
        if name not in self.corpora:
            self.corpora[name] = Corpus(name)
        return self.corpora[name]


class Group(Protocol):
    """Pairs that are read together; it can be pickled."""

    @property
    def name(self) -> str:
        """Of the real clip."""
        ...

    @property
    def n_pairs(self) -> int:
        """How many there are, at most."""
        ...

    def read(self, detector: LandmarkDetector, kept: Kept) -> Iterator[Pair]:
        """Read them; landmarks are looked for, by the detector, where they are asked for."""
        ...


def speakers_of(rows: Sequence[SampleRow]) -> dict[tuple[str, str], tuple[str, str]]:
    """Corpus and speaker of each real clip that samples point at, by corpus and clip."""
    return {(row.corpus, row.clip_id): (row.corpus, row.speaker) for row in rows}


@dataclass(frozen=True)
class SampleGroup:
    """The generated clips of one real clip, which is so decoded once.

    Attributes:
        folder: of the samples.
        rows: of the clips.
        real: whether the rows of real clips are wanted.
        other: another real clip of the speaker, in the same corpus; None where there is none.
    """

    folder: Path
    rows: tuple[SampleRow, ...]
    real: bool
    other: str | None

    @property
    def name(self) -> str:
        """The real clip's id."""
        return self.rows[0].clip_id

    @property
    def n_pairs(self) -> int:
        """How many there are."""
        return len(self.rows) + self.real * (1 + (self.other is not None))

    def read(self, detector: LandmarkDetector, kept: Kept) -> Iterator[Pair]:
        """Read the generated clips with their reference, then the real ones.

        The reference has the landmarks that preprocessing measured on the source video. In the ground-truth row the
        same frames have landmarks looked for in the crops, as generated clips have.

        Raises:
            DheadsError: a video is damaged, or has another size than its reference.
        """
        first = self.rows[0]
        corpus = kept.corpus(first.corpus)
        real = corpus.load(corpus.clip(first.clip_id))
        for row in self.rows:
            heard = words_of(corpus, row.audio_clip_id)
            yield generated_pair(self.folder / row.file, row, real, detector, heard)
        if self.real:
            yield ground_truth_pair(first, real, detector)
            if self.other is not None:
                yield other_real_pair(first, real, corpus.load(corpus.clip(self.other)))


def sample_groups(folder: Path, rows: Sequence[SampleRow], *, ground_truth: bool) -> list[SampleGroup]:
    """The clips of a samples folder.

    Raises:
        DheadsError: a video, corpus or reference clip is missing.
    """
    if missing := [row.file for row in rows if not (folder / row.file).is_file()]:
        raise DheadsError(f"{folder} lacks {', '.join(missing)}: run `dheads sample` again.")
    corpora = {name: Corpus(name) for name in {row.corpus for row in rows}}
    others = partners(speakers_of(rows))
    rows_of = defaultdict(list)
    for row in rows:
        corpora[row.corpus].clip(row.clip_id)
        rows_of[row.corpus, row.clip_id].append(row)
    return [
        SampleGroup(folder, tuple(its_rows), ground_truth, others[real][1] if real in others else None)
        for real, its_rows in rows_of.items()
    ]


def words_of(corpus: Corpus, clip_id: str) -> Sequence[str] | None:
    """What is said in a clip of a corpus; None where the clip or its text is not there."""
    try:
        ref = corpus.clip(clip_id)
    except DheadsError:  # speech that is not of this corpus
        return None
    return spoken(json.loads(corpus.read(ref, ("json",))["json"]))


def spoken(info: Mapping[str, Any]) -> Sequence[str] | None:
    """The words of a clip's text, in lower case; None without a text."""
    return (info.get("text") or "").lower().split() or None


def generated_pair(
    path: Path,
    row: SampleRow,
    real: StoredClip,
    detector: LandmarkDetector,
    heard: Sequence[str] | None = None,
) -> Pair:
    """A generated video and its reference, over the frames that both have; `heard` are the words of its sound.

    Raises:
        DheadsError: the video is damaged, or its size is another than the reference's.
    """
    video = read_video(path, real.fps)
    frames = video.frames
    if frames.shape[1:] != real.frames.shape[1:]:
        sizes = [f"{shape[2]} x {shape[1]} px" for shape in (frames.shape, real.frames.shape)]
        raise DheadsError(f"{path} is {sizes[0]}, its reference {row.clip_id} in {row.corpus} {sizes[1]}.")
    remark = ""
    if abs(len(frames) - len(real.frames)) > MAX_FRAMES_APART and row.kind == "synced":
        remark = f"{path} has {len(frames)} frames, its reference {len(real.frames)}: the first are compared."
    n_frames = min(len(frames), len(real.frames))
    identity = _identity_frame(row, real)
    facts = {
        "id": row.id, "clip_id": row.clip_id, "audio_clip_id": row.audio_clip_id, "speaker": row.speaker,
        "n_frames": n_frames,
    }  # fmt: skip
    clip = ScoredClip(
        row.id, row.speaker, real.fps, frames[:n_frames], identity, detector, partial(sound_of, path, video.start),
        heard,
    )  # fmt: skip
    return Pair(ROW_OF_KIND[row.kind], clip, _reference(real, n_frames, identity), facts, remark)


def ground_truth_pair(row: SampleRow, real: StoredClip, detector: LandmarkDetector) -> Pair:
    """The row's real clip against itself; only the landmarks are measured anew."""
    n_frames, identity = len(real.frames), _identity_frame(row, real)
    facts = {
        "id": real.id, "clip_id": real.id, "audio_clip_id": real.id, "speaker": real.speaker, "n_frames": n_frames
    }  # fmt: skip
    clip = ScoredClip(
        real.id, real.speaker, real.fps, real.frames, identity, detector, lambda: (real.waveform, real.sample_rate),
        spoken(real.info),
    )  # fmt: skip
    return Pair(GROUND_TRUTH, clip, _reference(real, n_frames, identity), facts)


def other_real_pair(row: SampleRow, real: StoredClip, other: StoredClip) -> Pair:
    """Another real clip of the speaker against the row's, as if it had been generated for it; landmarks as stored."""
    n_frames, identity = min(len(real.frames), len(other.frames)), _identity_frame(row, real)
    facts = {
        "id": other.id, "clip_id": real.id, "audio_clip_id": other.id, "speaker": real.speaker, "n_frames": n_frames
    }  # fmt: skip
    return Pair(OTHER_REAL, _reference(other, n_frames, identity), _reference(real, n_frames, identity), facts)


def _reference(real: StoredClip, n_frames: int, identity: NDArray[np.uint8]) -> ScoredClip:
    return ScoredClip(
        real.id, real.speaker, real.fps, real.frames[:n_frames], identity, lambda _: real.landmarks[:n_frames],
        lambda: (real.waveform, real.sample_rate), spoken(real.info),
    )  # fmt: skip


def sound_of(path: Path, start: float) -> Sound | None:
    """The sound of a video from `start` on its clock; None where it has none.

    Raises:
        UnusableClip: it is damaged.
    """
    try:
        return read_audio(path, SAMPLE_RATE, start), SAMPLE_RATE
    except UnusableClip as error:
        if error.reason == "no sound":
            return None
        raise


def _identity_frame(row: SampleRow, real: StoredClip) -> NDArray[np.uint8]:
    if row.identity_frame == PHOTO and real.photo is not None:
        return real.photo
    if not 0 <= row.identity_frame < len(real.frames):
        raise DheadsError(
            f"sample {row.id}: {row.clip_id} has no frame {row.identity_frame}; make it again with `dheads sample`."
        )
    return np.asarray(real.frames[row.identity_frame])
