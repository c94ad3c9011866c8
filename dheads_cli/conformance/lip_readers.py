"""What every lip-reader must do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from dheads_cli.conformance.metrics import talking_clip


def _are_words(read: Any) -> bool:
    return isinstance(read, Sequence) and not isinstance(read, str) and all(
        isinstance(word, str) and word and word == word.lower() and not word.split()[1:] for word in read
    )  # fmt: skip


def reader_gives_words(reader: Any) -> Iterator[str]:
    """A clip gives words in lower case, of its vocabulary, the same each time; nothing it is given changes."""
    clip, other = talking_clip("a", 30), talking_clip("bb", 40)
    frames, landmarks = clip.frames.copy(), clip.landmarks.copy()
    read = reader(frames, landmarks, clip.fps)
    if not _are_words(read):
        yield f"it must give a sequence of words in lower case, not {read!r}"
        return
    if reader.vocabulary is not None and (unknown := set(read) - set(reader.vocabulary)):
        yield f"it gives words that its vocabulary has not: {', '.join(sorted(unknown))}"
    reader(other.frames, other.landmarks, other.fps)
    if list(reader(frames, landmarks, clip.fps)) != list(read):
        yield "called again with the same clip, after another, it gives other words"
    if not (np.array_equal(frames, clip.frames) and np.array_equal(landmarks, clip.landmarks)):
        yield "it changes the clip it is given"


def reader_takes_any_clip(reader: Any) -> Iterator[str]:
    """A clip without a face, of one frame, or of another frame rate is read too, if only as no word."""
    faceless, short, fast = talking_clip("c", face=False), talking_clip("d", 1), talking_clip("e", 60)
    for what, clip, fps in (("no face", faceless, 25.0), ("one frame", short, 25.0), ("50 frames/s", fast, 50.0)):
        if not _are_words(read := reader(clip.frames, clip.landmarks, fps)):
            yield f"a clip with {what} must give words or none, not {read!r}"


def reader_says_what_it_is(reader: Any) -> Iterator[str]:
    """Its vocabulary holds words in lower case or is None; its value's name and its weights are texts."""
    vocabulary = reader.vocabulary
    is_set = isinstance(vocabulary, Collection) and not isinstance(vocabulary, str)
    if vocabulary is not None and not (is_set and _are_words(list(vocabulary))):
        yield "vocabulary must hold words in lower case, or be None"
    if not isinstance(reader.value_name, str) or not reader.value_name:
        yield f"value_name must be a text, not {reader.value_name!r}"
    if not isinstance(reader.weights, str):
        yield f"weights must be text, not {type(reader.weights).__name__}"


TESTS = (reader_gives_words, reader_takes_any_clip, reader_says_what_it_is)
