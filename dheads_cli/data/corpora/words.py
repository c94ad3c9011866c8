"""When each word of a clip is spoken, from the corpus's own files."""

from __future__ import annotations

import re
from pathlib import Path

from dheads_cli.data.corpora.clips import ClipSource, Word
from dheads_cli.errors import UnusableClip

GRID_UNITS_PER_S = 25_000  # of .align files
GRID_SILENCES = ("sil", "sp")
LRW_CLIP_S = 29 / 25  # the word is in the middle of every clip
MAX_LRW_WORD_S = 2.0  # a word can be longer than the clip that is cut around its middle
LRW_DURATION = re.compile(r"^Duration:\s*(\S+)", re.MULTILINE)


def read_words(source: ClipSource) -> tuple[Word, ...] | None:
    """The words of a clip with their times; None where the corpus does not say. Read only when a clip is worked on.

    Raises:
        UnusableClip: the file that says so is broken.
    """
    if source.words_file is None:
        return None
    try:
        text = source.words_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableClip("damaged", f"{source.words_file} can't be read: {error}") from error
    return _align(source.words_file, text) if source.words_file.suffix.lower() == ".align" else _lrw(source, text)


def _align(path: Path, text: str) -> tuple[Word, ...]:
    """GRID's .align: `start end word` a line; silences and pauses are left out."""
    words = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            start, end, word = line.split()
            times = int(start) / GRID_UNITS_PER_S, int(end) / GRID_UNITS_PER_S
        except ValueError as error:
            raise UnusableClip("damaged", f"{path}:{number}: {line!r} is not `start end word`") from error
        if word not in GRID_SILENCES:
            words.append(Word(word, *times))
    return tuple(words)


def _lrw(source: ClipSource, text: str) -> tuple[Word, ...] | None:
    """LRW's .txt: `Duration: 0.47 seconds` among its lines; without that line only the word itself is known."""
    if (match := LRW_DURATION.search(text)) is None:
        return None
    try:
        duration = float(match[1])
    except ValueError:
        duration = 0.0
    if not 0 < duration <= MAX_LRW_WORD_S:
        raise UnusableClip("damaged", f"{source.words_file}: {match[0]!r} is no word's length in seconds")
    begin, end = (LRW_CLIP_S - duration) / 2, (LRW_CLIP_S + duration) / 2
    return (Word(source.text or "", round(max(0.0, begin), 4), round(min(LRW_CLIP_S, end), 4)),)
