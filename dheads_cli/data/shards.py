"""A preprocessed corpus on disk: WebDataset tar shards, a manifest with a row for each clip, and what made it.

<split>-000000.tar   samples of one clip each: <key>.mp4, <key>.flac, <key>.landmarks.npy, <key>.json
manifest.jsonl       one row a clip, skipped ones too, in the order of the shards
preprocess.yaml      settings, layout, detector and versions
embeddings/          what frozen audio encoders make of it, once a training asked (embedding_cache.py)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically

MANIFEST = "manifest.jsonl"
SETTINGS = "preprocess.yaml"
EMBEDDINGS = "embeddings"
EXTENSIONS = ("mp4", "flac", "landmarks.npy", "json")  # members of a sample, in this order


@dataclass(frozen=True)
class ManifestRow:
    """What became of one clip.

    Attributes:
        id, key, split, speaker: as in the corpus.
        source: path of the video below the corpus.
        status: "ok" or "skipped".
        reason, detail: why it was skipped.
        shard: tar file that holds it.
        n_frames: F.
        members: extension -> (offset of its bytes in the shard, size).
        sha256: of the members' bytes, one after another.
        quality: measures of the clip, named with their unit, such as face_height_px.
    """

    id: str
    key: str
    split: str
    speaker: str
    source: str
    status: str
    reason: str = ""
    detail: str = ""
    shard: str = ""
    n_frames: int = 0
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    sha256: str = ""
    quality: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of the manifest; empty fields are left out."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ManifestRow:
        """Inverse of to_json."""
        values = json.loads(text)
        values["members"] = {name: (int(at), int(size)) for name, (at, size) in values.get("members", {}).items()}
        return cls(**values)


@dataclass(frozen=True)
class StoredClip:
    """One preprocessed clip; T = round(F / fps * sample_rate)."""

    id: str
    speaker: str
    split: str
    frames: NDArray[np.uint8]  # [F, H, W, 3] RGB
    waveform: NDArray[np.float32]  # [T] in [-1, 1]
    landmarks: NDArray[np.float32]  # [F, 68, 2] (x, y) px of the crop
    fps: float
    sample_rate: int
    info: dict[str, Any]  # the whole <key>.json


def encode_sample(clip: StoredClip) -> dict[str, bytes]:
    """The bytes of a clip's members, by extension."""
    landmarks = io.BytesIO()
    np.save(landmarks, clip.landmarks.astype(np.float16))
    info = {
        "id": clip.id,
        "speaker": clip.speaker,
        "split": clip.split,
        "n_frames": len(clip.frames),
        "fps": clip.fps,
        "sample_rate": clip.sample_rate,
        **clip.info,
    }
    members = (
        media.encode_clip_mp4(clip.frames, clip.fps),
        media.encode_flac(clip.waveform, clip.sample_rate),
        landmarks.getvalue(),
        json.dumps(info, ensure_ascii=False).encode(),
    )
    return dict(zip(EXTENSIONS, members, strict=True))


def decode_sample(members: dict[str, bytes]) -> StoredClip:
    """Inverse of encode_sample."""
    info = json.loads(members["json"])
    return StoredClip(
        id=info["id"],
        speaker=info["speaker"],
        split=info["split"],
        frames=media.decode_clip_mp4(members["mp4"]),
        waveform=media.decode_flac(members["flac"]),
        landmarks=np.load(io.BytesIO(members["landmarks.npy"])).astype(np.float32),
        fps=float(info["fps"]),
        sample_rate=int(info["sample_rate"]),
        info=info,
    )


class ShardWriter:
    """Write one tar shard; the same samples always give the same bytes.

    The shard is made under another name and takes its own at `close`, so a shard that is there is whole.

    Args:
        path: the finished shard.
        begun: bytes of an unfinished one to go on behind; 0 begins anew.
    """

    def __init__(self, path: Path, begun: int = 0) -> None:
        self.path = path
        self._part = unfinished(path)
        self._file = self._part.open("r+b" if begun else "wb")
        self._file.truncate(begun)
        self._file.seek(begun)
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, key: str, members: dict[str, bytes]) -> tuple[dict[str, tuple[int, int]], str]:
        """Append one sample: where its members' bytes lie (offset, size), and the sha256 of all of them.

        They are with the operating system when this returns: the end of this process does not lose them.
        """
        places = {}
        digest = hashlib.sha256()
        for extension, data in members.items():
            self._tar.addfile(member_header(key, extension, len(data)), io.BytesIO(data))
            places[extension] = (self._file.tell() - padded(len(data)), len(data))
            digest.update(data)
        self._file.flush()
        return places, digest.hexdigest()

    def close(self) -> None:
        """Finish the shard and put it in its place."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._part, self.path)

    def abandon(self) -> None:
        """Remove the unfinished shard."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Where a shard lies while it is written."""
    return path.with_name(path.name + ".part")


def member_header(key: str, extension: str, size: int) -> tarfile.TarInfo:
    """A member's header in the tar: no owner and no time, so that the same samples give the same bytes."""
    header = tarfile.TarInfo(f"{key}.{extension}")
    header.size, header.mode = size, 0o644
    return header


def padded(size: int, to: int = tarfile.BLOCKSIZE) -> int:
    """Bytes that `size` bytes take in a tar."""
    return -(-size // to) * to


def samples_end(rows: Iterable[ManifestRow]) -> int:
    """Where the last of a shard's samples ends in it, bytes."""
    return max((padded(at + size) for row in rows for at, size in row.members.values()), default=0)


def shard_size(rows: Iterable[ManifestRow]) -> int:
    """Bytes of the finished shard that holds these clips: two empty blocks end a tar, and whole records fill it."""
    return padded(samples_end(rows) + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE)


def write_rows(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest whole or not at all."""
    write_atomically(path, "".join(row.to_json() + "\n" for row in rows))


def read_rows(path: Path) -> list[ManifestRow]:
    """Read a manifest file.

    Raises:
        DheadsError: a line is no manifest row.
    """
    return [row for _, row in iterate_rows(path)]


def iterate_rows(path: Path) -> Iterator[tuple[int, ManifestRow]]:
    """Read a manifest file row by row, each with the place of its line in the file, bytes.

    Raises:
        DheadsError: a line is no manifest row.
    """
    at = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = ManifestRow.from_json(line.decode())
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DheadsError(
                    f"{path}:{number}: no manifest row ({error}). Preprocess the corpus again."
                ) from error
            yield at, row
            at += len(line)


def read_manifest(folder: Path | str) -> list[ManifestRow]:
    """All rows of a preprocessed corpus.

    Raises:
        DheadsError: the folder is not a finished preprocessed corpus.
    """
    return read_rows(find_manifest(folder))


def find_manifest(folder: Path | str) -> Path:
    """The manifest of a preprocessed corpus.

    Raises:
        DheadsError: the folder is not a finished preprocessed corpus.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        begun = (Path(folder) / SETTINGS).is_file()
        hint = (
            "its preprocessing is not finished: run the same `dheads preprocess` again"
            if begun
            else "`dheads preprocess CORPUS -o FOLDER` makes such a folder"
        )
        raise DheadsError(f"{folder} is not a preprocessed corpus (no {MANIFEST}): {hint}.")
    return path


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
