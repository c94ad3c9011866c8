"""LRW: one folder a word, in it train, val and test, in them clips of 29 frames with the word in the middle."""

from __future__ import annotations

import re

from dheads_cli.data.corpora.clips import ClipSource, Found
from dheads_cli.data.corpora.tree import File, Tree

NAME = "LRW (WORD/train|val|test/WORD_00001)"
CLIP_NAME = re.compile(r"([A-Z]+)_\d{5}")
SPLITS = ("train", "val", "test")


def belongs(tree: Tree, video: File) -> bool:
    """Whether a video lies and is named as LRW's are."""
    match = CLIP_NAME.fullmatch(video.stem)
    return match is not None and _place(tree, video)[0] == match[1] and _place(tree, video)[1] in SPLITS


def read(tree: Tree) -> Found:
    """LRW's clips, each in the split that the corpus gives it; who speaks is not known."""
    found = Found([])
    labels = {(*text.parts[:-1], text.stem): text for text in tree.texts if text.suffix == ".txt"}
    for video in tree.videos:
        if not belongs(tree, video):
            found.others.append(tree.path(video))
            continue
        word, split = _place(tree, video)
        clip_id = f"{word}/{split}/{video.stem}"
        label = labels.get((*video.parts[:-1], video.stem))
        found.clips.append(
            ClipSource(
                clip_id,
                tree.path(video),
                "unknown",
                split_by=clip_id,
                text=word.lower(),
                words_file=tree.path(label) if label else None,
                split=split,
            )
        )
    if unlabelled := sum(clip.words_file is None for clip in found.clips):
        found.notes.append(f"{unlabelled} of {len(found.clips)} clips have no .txt that says when the word is spoken")
    return found


def _place(tree: Tree, video: File) -> tuple[str, str]:
    """The names of the two folders that a video lies in, which may be the corpus itself and the one it lies in."""
    names = (*tree.above[-2:], *video.parts[:-1])
    return (names[-2], names[-1]) if len(names) > 1 else ("", "")
