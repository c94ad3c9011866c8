"""Samples into tar shards: the same samples give the same bytes, and a shard that is there is whole."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

from dheads_cli.data.manifest import ManifestRow


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
