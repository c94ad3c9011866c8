"""Read corpora as they lie on disk: which clips there are, who speaks, what is said, and who is held out.

One file a layout; each has NAME (for people) and `read`, and those that can be recognised `belongs`.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from dheads_cli.data.corpora import crema, folder, grid, lrw
from dheads_cli.data.corpora.clips import TEST_SPEAKERS, ClipSource, CorpusListing, Word
from dheads_cli.data.corpora.crema import TEST_ACTORS as CREMA_TEST_ACTORS
from dheads_cli.data.corpora.splits import with_splits
from dheads_cli.data.corpora.tree import VIDEO_SUFFIXES, Tree, list_tree
from dheads_cli.data.corpora.words import read_words
from dheads_cli.errors import DheadsError

__all__ = [
    "CREMA_TEST_ACTORS",
    "TEST_SPEAKERS",
    "VIDEO_SUFFIXES",
    "ClipSource",
    "CorpusListing",
    "Word",
    "list_corpus",
    "read_words",
]

LAYOUTS: dict[str, ModuleType] = {"grid": grid, "lrw": lrw, "crema": crema}  # that can be recognised
READERS: dict[str, ModuleType] = {**LAYOUTS, "folder": folder}
N_LOOKED_AT = 2000  # videos, evenly spaced, from which a layout is recognised


def list_corpus(
    root: Path, layout: str, test_speakers: Sequence[str], test_fraction: float, val_fraction: float
) -> CorpusListing:
    """Find a corpus's clips and decide their splits.

    A speaker of `test_speakers` is wholly in the split "test-speakers". A split that the corpus itself gives is kept.
    Otherwise GRID is split by sentence, so that no sentence is in two splits, and anything else by speaker.

    Raises:
        DheadsError: no such folder, no clips in it, another layout than the one named, or a test speaker who is not
            in it.
    """
    tree = _tree_with_videos(root)
    layout = detect_layout(tree) if layout == "auto" else layout
    found = READERS[layout].read(tree)
    if not found.clips:
        raise DheadsError(_other_layout(tree, layout))
    notes = [f"{root}: {_counted(len(found.clips), 'clip')}, laid out as {READERS[layout].NAME}", *tree.notes]
    notes += found.notes
    if found.others:
        more = f" ... ({len(found.others)})" if len(found.others) > 1 else ""
        notes.append(f"left out, videos that are no part of the layout {layout!r}: {found.others[0]}{more}")
    clips = _with_keys(root, sorted(found.clips, key=lambda clip: (clip.id, clip.video)))
    clips, held_out = _hold_out(root, layout, clips, test_speakers)
    clips, how = with_splits(clips, layout, test_fraction, val_fraction)
    return CorpusListing(layout, clips, notes + held_out + how)


def detect_layout(tree: Tree) -> str:
    """Recognise how a corpus lies on disk: the layout that most of its videos have, else "folder".

    Raises:
        DheadsError: it is more than one corpus.
    """
    sample = tree.videos[:: max(1, len(tree.videos) // N_LOOKED_AT)]
    shares = {
        name: sum(reader.belongs(tree, video) for video in sample) / len(sample) for name, reader in LAYOUTS.items()
    }
    several = [name for name, share in shares.items() if share > 0.05]
    if len(several) > 1:
        places = sorted({"/".join(video.parts[:1]) for video in tree.videos if len(video.parts) > 1})
        raise DheadsError(
            f"{tree.root} holds more than one corpus ({', '.join(several)}): name the folder of one "
            f"({', '.join(places[:5])}{' ...' if len(places) > 5 else ''}), or pass --layout."
        )
    return next((name for name, share in shares.items() if share > 0.5), "folder")


def _hold_out(
    root: Path, layout: str, clips: list[ClipSource], test_speakers: Sequence[str]
) -> tuple[list[ClipSource], list[str]]:
    """Put some speakers' clips into the split "test-speakers"; (clips, lines for people).

    A recipe written for GRID names GRID's speakers: in a corpus of other layout that has none of them, that is told
    and nobody is held out.

    Raises:
        DheadsError: some of the speakers are not there.
    """
    there = {clip.speaker for clip in clips}
    if absent := sorted(set(test_speakers) - there):
        names = ", ".join(absent)
        if layout != "grid" and there.isdisjoint(test_speakers):
            return clips, [f"test_speakers {names} are not in this corpus: no speaker is held out wholly"]
        some = ", ".join(sorted(there)[:40]) + (" ..." if len(there) > 40 else "")
        raise DheadsError(
            f"test_speakers {names} not in {root}; there are {some}. Name others with "
            "--set 'preprocess.test_speakers=[...]', or nobody with []."
        )
    return [replace(clip, split=TEST_SPEAKERS) if clip.speaker in test_speakers else clip for clip in clips], []


def _tree_with_videos(root: Path) -> Tree:
    if root.is_file():
        raise DheadsError(f"{root} is a file: name the folder that holds the corpus.")
    if not root.is_dir():
        raise DheadsError(f"{root}: no such folder.")
    tree = list_tree(root)
    if tree.videos:
        return tree
    if (root / "manifest.jsonl").is_file():
        raise DheadsError(f"{root} is preprocessed already: name the folder of videos, or pass --verify to check it.")
    counts = tree.others + Counter(file.suffix for file in (*tree.sounds, *tree.texts))
    there = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in counts.most_common(3))
    packed = " Unpack it first." if {".zip", ".tar", ".gz", ".tgz"} & counts.keys() else ""
    notes = "".join(f" {note}." for note in tree.notes)
    raise DheadsError(
        f"{root} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))}), but {there or 'nothing at all'}.{packed}{notes}"
    )


def _other_layout(tree: Tree, layout: str) -> str:
    """Why there is nothing of a layout that the user named."""
    seen = detect_layout(tree)
    return (
        f"{tree.root} holds {_counted(len(tree.videos), 'video')}, but none lies as the layout {layout!r} has it: "
        f"{READERS[layout].NAME}. It looks like {READERS[seen].NAME}: leave --layout out, or pass --layout {seen}."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _with_keys(root: Path, clips: Sequence[ClipSource]) -> list[ClipSource]:
    """Give every clip a key for file names, and make ids and keys unique."""
    ids = Counter(clip.id for clip in clips)
    clips = [replace(clip, id=clip.id + clip.video.suffix) if ids[clip.id] > 1 else clip for clip in clips]
    if repeated := [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]:
        places = ", ".join(str(clip.video) for clip in clips if clip.id == repeated[0])
        raise DheadsError(f"{root} holds the clip {repeated[0]} more than once: {places}. Keep one of them.")
    keys = [re.sub(r"[^A-Za-z0-9_-]", "_", clip.id) for clip in clips]
    counts = Counter(keys)
    return [
        replace(clip, key=key if counts[key] == 1 else f"{key}-{zlib.crc32(clip.id.encode()):08x}")
        for clip, key in zip(clips, keys, strict=True)
    ]
