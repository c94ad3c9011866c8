"""Writing a file whole or not at all, and telling it by its checksum."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
from pathlib import Path

from dheads_cli.errors import DheadsError


def write_atomically(path: Path, payload: bytes | str) -> None:
    """Write a file beside its place, then move it there: whoever looks sees the old file or the new one, whole.

    Args:
        path: in a folder that exists.
        payload: bytes, or text to be written as UTF-8.

    Raises:
        DheadsError: it can't be written, for want of room or of rights; a file already there stays as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # another process may be writing the same file
    try:
        with open(part, "wb") as file:
            file.write(payload.encode() if isinstance(payload, str) else payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise DheadsError(f"{path} can't be written: {error.strerror or error}.") from error


def remove_parts(folder: Path, name: str | None = None) -> None:
    """Remove the unfinished files, or those of one name, that killed processes left where no other is writing."""
    for part in folder.glob("*.part" if name is None else f".{glob.escape(name)}.*.part"):
        if part.is_file():
            part.unlink()


def sync_folder(folder: Path) -> None:
    """Make names that files were given in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
