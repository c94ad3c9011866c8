"""Read corpora as they lie on disk: which clips there are, who speaks, what is said, and who is held out."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dheads_cli.errors import DheadsError

VIDEO_SUFFIXES = {".mp4", ".mpg", ".mpeg", ".avi", ".mov", ".mkv", ".webm", ".flv", ".m4v", ".wmv"}
TEST_SPEAKERS = "test-speakers"

# The corpus has a few names with a prefix, such as id2_vcd_swwp2s.
GRID_NAME = re.compile(r"(?:.*_)?([blps][bgrw][abiw][a-z][0-9z][nsap])", re.IGNORECASE)
GRID_WORDS: tuple[dict[str, str], ...] = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {},
    {"z": "zero", "1": "one", "2": "two", "3": "three", "4": "four"}
    | {"5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine"},
    {"n": "now", "s": "soon", "a": "again", "p": "please"},
)
GRID_UNITS_PER_S = 25_000  # of .align files

LRW_NAME = re.compile(r"([A-Z]+)_\d{5}")

CREMA_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{2})")
CREMA_TEST_ACTORS = {"1015", "1020", "1021", "1030", "1033", "1052", "1062", "1081", "1082", "1089"}
CREMA_SENTENCES = {
    "IEO": "it's eleven o'clock",
    "TIE": "that is exactly what happened",
    "IOM": "i'm on my way to the meeting",
    "IWW": "i wonder what this is about",
    "TAI": "the airplane is almost full",
    "MTI": "maybe tomorrow it will be cold",
    "IWL": "i would like a new alarm clock",
    "ITH": "i think i have a doctor's appointment",
    "DFA": "don't forget a jacket",
    "ITS": "i think i've seen this before",
    "TSI": "the surface is slick",
    "WSI": "we'll stop in a couple of minutes",
}


@dataclass(frozen=True)
class Word:
    """One spoken word with its time in the clip, s."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class ClipSource:
    """One clip of a corpus, before preprocessing.

    Attributes:
        id: unique and stable: the path below the corpus without its suffix, such as "s1/bbaf2n".
        key: the same for file names: letters, digits, _ and - only.
        video: the file with the picture.
        audio: the file with the sound; None where it is in `video`.
        speaker: who speaks; "unknown" where the corpus does not say.
        text: what is said, lower case, None where not known.
        words: the same word by word, None where not known.
        split: "train", "val", "test" or "test-speakers"; "" until it is decided.
        split_by: clips that share this share their split.
    """

    id: str
    video: Path
    speaker: str
    split_by: str
    key: str = ""
    audio: Path | None = None
    text: str | None = None
    words: tuple[Word, ...] | None = None
    split: str = ""


@dataclass(frozen=True)
class CorpusListing:
    """A corpus's layout, its clips in order of their id, and lines for people about what was recognised."""

    layout: str
    clips: list[ClipSource]
    notes: list[str]


def list_corpus(
    folder: Path, layout: str, test_speakers: Sequence[str], test_fraction: float, val_fraction: float
) -> CorpusListing:
    """Find a corpus's clips and decide their splits.

    A speaker of `test_speakers` is wholly in the split "test-speakers". A split that the corpus itself gives is kept.
    Otherwise GRID is split by sentence, so that no sentence is in two splits, and anything else by speaker.

    Raises:
        DheadsError: no such folder, no clips in it, or a test speaker who is not in it.
    """
    if not folder.is_dir():
        raise DheadsError(f"{folder}: no such folder.")
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    if not videos:
        raise DheadsError(f"{folder} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))}).")
    notes = []
    if layout == "auto":
        layout, recognised = detect_layout(folder, videos)
        notes.append(recognised)
    clips = [clip for video in videos if (clip := READERS[layout](folder, video)) is not None]
    if not clips:
        raise DheadsError(f"{folder} holds {len(videos)} videos, but none lies as the layout {layout!r} has it.")
    if len(clips) < len(videos):
        notes.append(f"{len(videos) - len(clips)} other videos in {folder} are no part of the layout {layout!r}")
    clips = _with_keys(folder, sorted(clips, key=lambda clip: (clip.id, clip.video)))
    speakers = Counter(clip.speaker for clip in clips)
    if absent := sorted(set(test_speakers) - set(speakers)):
        raise DheadsError(f"test_speakers {', '.join(absent)} not in {folder}; there are {', '.join(speakers)}.")
    clips = [replace(clip, split=TEST_SPEAKERS) if clip.speaker in test_speakers else clip for clip in clips]
    return CorpusListing(layout, _with_splits(clips, layout, test_fraction, val_fraction, notes), notes)


def detect_layout(folder: Path, videos: Sequence[Path]) -> tuple[str, str]:
    """Recognise how a corpus lies on disk: (layout, text saying what was recognised)."""
    names = {
        "grid": "GRID (speaker folders s1, s2 ... with six-letter sentence names)",
        "lrw": "LRW (WORD/train|val|test/WORD_00001)",
        "crema": "CREMA-D (VideoFlash beside AudioWAV)",
    }
    for layout, name in names.items():
        n_clips = sum(READERS[layout](folder, video) is not None for video in videos)
        if n_clips > len(videos) / 2:
            return layout, f"{folder} is laid out as {name}: {n_clips} clips"
    return "folder", f"{folder} is taken as a folder of videos: {len(videos)} clips, one speaker per folder"


def _grid(folder: Path, video: Path) -> ClipSource | None:
    relative = video.relative_to(folder)
    speaker = next((part for part in relative.parts[:-1] if re.fullmatch(r"s\d+", part)), None)
    match = GRID_NAME.fullmatch(video.stem)
    if speaker is None or not match:
        return None
    letters = match[1].lower()
    text = " ".join(table.get(letter, letter) for table, letter in zip(GRID_WORDS, letters, strict=True))
    places = (folder / "align" / speaker, folder / speaker / "align", video.parent)
    aligned = next((path for place in places if (path := place / f"{video.stem}.align").is_file()), None)
    words = _grid_words(aligned) if aligned else None
    return ClipSource(f"{speaker}/{video.stem}", video, speaker, split_by=letters, text=text, words=words)


def _grid_words(path: Path) -> tuple[Word, ...]:
    """Read an .align file; silences and pauses are left out."""
    words = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            start, end, word = line.split()
            if word not in ("sil", "sp"):
                words.append(Word(word, int(start) / GRID_UNITS_PER_S, int(end) / GRID_UNITS_PER_S))
        except ValueError as error:
            raise DheadsError(f"{path}:{number}: {line!r} is not `start end word`.") from error
    return tuple(words)


def _lrw(folder: Path, video: Path) -> ClipSource | None:
    match = LRW_NAME.fullmatch(video.stem)
    split = video.parent.name
    if not match or split not in ("train", "val", "test") or video.parent.parent.name != match[1]:
        return None
    clip_id = f"{match[1]}/{split}/{video.stem}"
    return ClipSource(clip_id, video, "unknown", split_by=clip_id, text=match[1].lower(), split=split)


def _crema(folder: Path, video: Path) -> ClipSource | None:
    match = CREMA_NAME.fullmatch(video.stem)
    audio = video.parent.parent / "AudioWAV" / f"{video.stem}.wav"
    if not match or not audio.parent.is_dir():
        return None
    actor, sentence = match[1], match[2]
    return ClipSource(
        video.stem,
        video,
        actor,
        split_by=actor,
        audio=audio,
        text=CREMA_SENTENCES.get(sentence),
        split="test" if actor in CREMA_TEST_ACTORS else "",
    )


def _folder(folder: Path, video: Path) -> ClipSource | None:
    relative = video.relative_to(folder)
    speaker = relative.parent.as_posix() if relative.parent.parts else folder.resolve().name
    return ClipSource(relative.with_suffix("").as_posix(), video, speaker, split_by=speaker)


READERS: dict[str, Callable[[Path, Path], ClipSource | None]] = {
    "grid": _grid,
    "lrw": _lrw,
    "crema": _crema,
    "folder": _folder,
}


def _with_keys(folder: Path, clips: Sequence[ClipSource]) -> list[ClipSource]:
    """Give every clip a key for file names, and make ids and keys unique."""
    ids = Counter(clip.id for clip in clips)
    clips = [replace(clip, id=clip.id + clip.video.suffix) if ids[clip.id] > 1 else clip for clip in clips]
    if repeated := [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]:
        places = ", ".join(str(clip.video) for clip in clips if clip.id == repeated[0])
        raise DheadsError(f"{folder} holds the clip {repeated[0]} more than once: {places}. Keep one of them.")
    keys = [re.sub(r"[^A-Za-z0-9_-]", "_", clip.id) for clip in clips]
    counts = Counter(keys)
    return [
        replace(clip, key=key if counts[key] == 1 else f"{key}-{zlib.crc32(clip.id.encode()):08x}")
        for clip, key in zip(clips, keys, strict=True)
    ]


def _with_splits(
    clips: Sequence[ClipSource], layout: str, test_fraction: float, val_fraction: float, notes: list[str]
) -> list[ClipSource]:
    """Decide the split of every clip that has none yet; says how in `notes`."""
    open_clips = [clip for clip in clips if not clip.split]
    speakers = {clip.speaker for clip in open_clips}
    official_test = any(clip.split == "test" for clip in clips)
    if official_test:
        test_fraction = 0.0
    if layout == "grid":
        splits = {clip.split_by: _split_of(clip.split_by, test_fraction, val_fraction) for clip in open_clips}
        notes.append("split by sentence: no sentence is in two splits")
    elif len(speakers) == 1:
        notes.append(f"one speaker only ({next(iter(speakers))}): split by clip")
        splits = {clip.id: _split_of(clip.id, test_fraction, val_fraction) for clip in open_clips}
        open_clips = [replace(clip, split_by=clip.id) for clip in open_clips]
        clips = [replace(clip, split_by=clip.id) if not clip.split else clip for clip in clips]
    else:
        splits = _split_speakers(speakers, test_fraction, val_fraction)
        if splits:
            notes.append("split by speaker: no speaker is in two splits")
    return [clip if clip.split else replace(clip, split=splits[clip.split_by]) for clip in clips]


def _split_of(name: str, test_fraction: float, val_fraction: float) -> str:
    """A split from the name alone, so that more clips never move one to another split."""
    place = zlib.crc32(name.encode()) / 2**32
    return "test" if place < test_fraction else "val" if place < test_fraction + val_fraction else "train"


def _split_speakers(speakers: Iterable[str], test_fraction: float, val_fraction: float) -> dict[str, str]:
    """Whole speakers in order of a hash; each wanted split gets at least one where there are three or more."""
    order = sorted(speakers, key=lambda speaker: (zlib.crc32(speaker.encode()), speaker))
    least = 1 if len(order) >= 3 else 0
    n_test = max(round(len(order) * test_fraction), least if test_fraction else 0)
    n_val = max(round(len(order) * val_fraction), least if val_fraction else 0)
    names = ["test"] * n_test + ["val"] * n_val + ["train"] * len(order)
    return dict(zip(order, names, strict=False))
