"""Clips of a preprocessed corpus, read out of its shards by their places in the manifest, and their checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from dheads_cli.data.manifest import ManifestRow, read_manifest
from dheads_cli.data.stored_clip import EXTENSIONS, StoredClip, decode_sample
from dheads_cli.errors import DheadsError

ClipRef = ManifestRow  # a row with status "ok" is all that finding a clip takes


class Corpus:
    """Random access to the clips of a preprocessed corpus.

    Raises:
        DheadsError: the folder is not a finished preprocessed corpus.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._rows = {row.id: row for row in read_manifest(self.folder) if row.status == "ok"}

    @property
    def splits(self) -> list[str]:
        """Names of the splits that hold clips."""
        return sorted({row.split for row in self._rows.values()})

    def clips(self, split: str, speaker: str | None = None) -> list[ClipRef]:
        """The clips of a split, or of one speaker in it, in order of their id.

        Raises:
            DheadsError: there are none.
        """
        found = sorted((row for row in self._rows.values() if row.split == split), key=lambda row: row.id)
        if not found:
            raise DheadsError(f"{self.folder} has no clips in the split {split!r}; splits: {', '.join(self.splits)}.")
        if not (chosen := [row for row in found if speaker in (None, row.speaker)]):
            raise DheadsError(f"{self.folder}: no clips of speaker {speaker!r} in the split {split!r}")
        return chosen

    def clip(self, clip_id: str) -> ClipRef:
        """The clip of that id.

        Raises:
            DheadsError: there is none.
        """
        if clip_id not in self._rows:
            raise DheadsError(f"{self.folder} has no clip {clip_id!r}.")
        return self._rows[clip_id]

    def read(self, ref: ClipRef, extensions: Sequence[str] = EXTENSIONS) -> dict[str, bytes]:
        """The stored bytes of a clip's members, or of some of them, by extension; see members_in."""
        return members_in(self.folder / ref.shard, ref, extensions)

    def load(self, ref: ClipRef) -> StoredClip:
        """Read and decode a clip."""
        return decode_sample(self.read(ref))


def members_in(path: Path, ref: ClipRef, extensions: Sequence[str] = EXTENSIONS) -> dict[str, bytes]:
    """The bytes of a clip's members, or of some of them, by extension, out of the shard at `path`.

    Raises:
        DheadsError: the shard is missing or cut short.
    """
    members = {}
    wanted = {name: place for name, place in ref.members.items() if name in extensions}
    try:
        with path.open("rb") as shard:
            for name, (at, size) in wanted.items():
                shard.seek(at)
                members[name] = shard.read(size)
    except OSError as error:
        raise DheadsError(f"{path}: {error.strerror}; the corpus is incomplete.") from error
    if any(len(members[name]) != size for name, (_, size) in wanted.items()):
        raise DheadsError(f"{path} is cut short: preprocess the corpus again.")
    return members


def damage_of(path: Path, row: ClipRef) -> str:
    """What is wrong with a clip's bytes in the shard at `path`, or "" where they have the row's checksum."""
    try:
        members = members_in(path, row)
    except DheadsError as error:
        return str(error)
    if hashlib.sha256(b"".join(members.values())).hexdigest() != row.sha256:
        return f"{path}: its bytes differ from the manifest's checksum"
    return ""


def damaged_clips(corpus: Corpus, rows: Iterable[ClipRef]) -> dict[str, str]:
    """Compare stored bytes with the manifest's checksums: id of each clip that differs -> what is wrong."""
    found = ((row.id, damage_of(corpus.folder / row.shard, row)) for row in rows)
    return {clip_id: damage for clip_id, damage in found if damage}
