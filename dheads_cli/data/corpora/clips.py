"""What a corpus is made of: clips, and the words in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

TEST_SPEAKERS = "test-speakers"  # the split of speakers who are held out wholly


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
        words_file: the file that says when each word is spoken, None where there is none; see `read_words`.
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
    words_file: Path | None = None
    split: str = ""


@dataclass(frozen=True)
class Found:
    """What the reader of one layout found: its clips, videos that are none of it, and lines for people."""

    clips: list[ClipSource]
    others: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CorpusListing:
    """A corpus's layout, its clips in order of their id, and lines for people about what was recognised."""

    layout: str
    clips: list[ClipSource]
    notes: list[str]
