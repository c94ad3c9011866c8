"""GRID: one folder a speaker, names of six letters that spell the sentence, and word alignments.

As it is distributed: s1/bbaf2n.mpg or s1/video/mpg_6000/bbaf2n.mpg; align/bbaf2n.align inside a speaker's folder, or
alignments/s1/bbaf2n.align beside them.
"""

from __future__ import annotations

import re
from pathlib import Path

from dheads_cli.data.corpora.clips import ClipSource, Found
from dheads_cli.data.corpora.tree import File, Tree, list_tree

NAME = "GRID (speaker folders s1, s2 ... with six-letter sentence names)"

# The corpus has a few names with a prefix, such as id2_vcd_swwp2s.
SENTENCE = re.compile(r"(?:.*_)?([blps][bgrw][abiw][a-z][0-9z][nsap])", re.IGNORECASE)
SPEAKER = re.compile(r"s\d+", re.IGNORECASE)
WORDS: tuple[dict[str, str], ...] = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {},
    {"z": "zero", "1": "one", "2": "two", "3": "three", "4": "four"}
    | {"5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine"},
    {"n": "now", "s": "soon", "a": "again", "p": "please"},
)


def belongs(tree: Tree, video: File) -> bool:
    """Whether a video lies and is named as GRID's are."""
    return SENTENCE.fullmatch(video.stem) is not None and _speaker(tree, video) is not None


def read(tree: Tree) -> Found:
    """GRID's clips. Their sound is the videos' own, which is in step; separate recordings are left alone."""
    found = Found([])
    aligned = _alignments(tree)
    for video in tree.videos:
        speaker, match = _speaker(tree, video), SENTENCE.fullmatch(video.stem)
        if speaker is None or match is None:
            found.others.append(tree.path(video))
            continue
        letters = match[1].lower()
        text = " ".join(table.get(letter, letter) for table, letter in zip(WORDS, letters, strict=True))
        path, clip_id = tree.path(video), f"{speaker}/{video.stem}"
        words_file = aligned.get((speaker, video.stem.lower()))
        found.clips.append(ClipSource(clip_id, path, speaker, split_by=letters, text=text, words_file=words_file))
    n_aligned = sum(clip.words_file is not None for clip in found.clips)
    if found.clips and n_aligned < len(found.clips):
        found.notes.append(f"{n_aligned} of {len(found.clips)} clips have word alignments (.align)")
    if tree.sounds:
        found.notes.append(
            f"separate sound files, left alone because the videos hold their own sound: {len(tree.sounds)}"
        )
    return found


def _speaker(tree: Tree, file: File) -> str | None:
    """The speaker in whose folder a file lies; the corpus itself may be that folder, or lie in it."""
    names = (*reversed(file.parts[:-1]), *reversed(tree.above[-4:]))
    return next((name.lower() for name in names if SPEAKER.fullmatch(name)), None)


def _alignments(tree: Tree) -> dict[tuple[str, str], Path]:
    """Alignment files by speaker and name; for a lone speaker's folder also those that lie beside it."""
    trees = [tree]
    if SPEAKER.fullmatch(tree.above[-1]):
        beside = [tree.root.resolve().parent / name / tree.above[-1] for name in ("align", "alignments")]
        trees += [list_tree(folder) for folder in beside if folder.is_dir()]
    found = [(_speaker(some, text), some, text) for some in trees for text in some.texts if text.suffix == ".align"]
    # One folder for the files of the only speaker there is.
    speakers = {speaker for video in tree.videos if (speaker := _speaker(tree, video))}
    lone = next(iter(speakers)) if len(speakers) == 1 else None
    return {
        (speaker, text.stem.lower()): some.path(text)
        for its_speaker, some, text in found
        if (speaker := its_speaker or lone) is not None
    }
