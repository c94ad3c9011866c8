"""All files below a folder, listed once: half a million of them in seconds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dheads_cli.errors import DheadsError

VIDEO_SUFFIXES = {".mp4", ".mpg", ".mpeg", ".avi", ".mov", ".mkv", ".webm", ".flv", ".m4v", ".wmv"}
SOUND_SUFFIXES = {".wav", ".flac", ".m4a", ".mp3", ".ogg", ".opus"}
IGNORED_FOLDERS = {"__MACOSX", "@eaDir", "lost+found"}  # made by archivers, storage servers and disks


@dataclass(frozen=True)
class File:
    """A file of a corpus.

    Attributes:
        parts: folders from the corpus to the file, then its name.
        stem: the name without its suffix.
        suffix: lower case, with its dot.
    """

    parts: tuple[str, ...]
    stem: str
    suffix: str


@dataclass
class Tree:
    """A folder's files in order of their paths; hidden ones are left out.

    Attributes:
        root: as the user gave it.
        above: names of the folders from the disk's root to `root`, itself included.
        videos, sounds, texts: files by what their suffix says; texts are alignments and labels (.align, .txt).
        others: how many other files there are of each suffix.
        notes: lines for people about what could not be listed.
    """

    root: Path
    above: tuple[str, ...]
    videos: list[File] = field(default_factory=list)
    sounds: list[File] = field(default_factory=list)
    texts: list[File] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def path(self, file: File) -> Path:
        """Where a file of this tree lies."""
        return self.root.joinpath(*file.parts)


def list_tree(root: Path) -> Tree:
    """List a folder, through links to folders too.

    Raises:
        DheadsError: it can't be read.
    """
    tree = Tree(root, root.resolve().parts)
    unreadable: list[str] = []
    odd: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        folder = os.path.join(root, *parts)
        try:
            about = os.stat(folder)
            if (about.st_dev, about.st_ino) in seen:  # a link that leads back, or to what is listed already
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as entries:
                folders = _sort_in(tree, parts, entries, odd)
        except OSError as error:
            if not parts:
                raise DheadsError(f"{root} can't be read: {error.strerror}.") from error
            unreadable.append(f"{folder} ({error.strerror})")
            continue
        waiting += [(*parts, name) for name in sorted(folders, reverse=True)]
    for files in (tree.videos, tree.sounds, tree.texts):
        files.sort(key=lambda file: file.parts)
    tree.notes += _note(unreadable, "folders that can't be read")
    tree.notes += _note(odd, "names that are broken links, no files or no UTF-8")
    return tree


def _sort_in(tree: Tree, parts: tuple[str, ...], entries: Iterable[os.DirEntry[str]], odd: list[str]) -> list[str]:
    """Put a folder's files into the tree; the names of the folders in it."""
    folders = []
    for entry in entries:
        name = entry.name
        if name.startswith(".") or name in IGNORED_FOLDERS:
            continue
        if entry.is_dir():
            folders.append(name)
            continue
        dot = name.rfind(".")
        stem, suffix = (name[:dot], name[dot:].lower()) if dot > 0 else (name, "")
        if suffix in VIDEO_SUFFIXES:
            files = tree.videos
        elif suffix in SOUND_SUFFIXES:
            files = tree.sounds
        elif suffix in (".align", ".txt"):
            files = tree.texts
        else:
            tree.others[suffix] += 1
            continue
        if not entry.is_file() or not _is_utf8(entry.path):
            odd.append(entry.path.encode(errors="replace").decode())
            continue
        files.append(File((*parts, name), stem, suffix))
    return folders


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _note(names: list[str], what: str) -> list[str]:
    if not names:
        return []
    return [f"left out, {what}: {', '.join(sorted(names)[:3])}{f' ... ({len(names)})' if len(names) > 3 else ''}"]
