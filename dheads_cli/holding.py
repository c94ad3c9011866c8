"""Files and folders that one process holds while it writes, so that no other does: a killed process holds nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from dheads_cli import console
from dheads_cli.errors import DheadsError


@contextlib.contextmanager
def held(path: Path, told: str, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a file, or a folder, which is made where it is not there.

    Args:
        path: what is held. Its content is left alone.
        told: what to say where another process holds it.
        patience_s: how long to wait for that to end.

    Raises:
        DheadsError: another process holds it.
        OSError: it can't be opened.
    """
    until = time.monotonic() + patience_s
    while (descriptor := _try_to_hold(path)) is None:
        if time.monotonic() >= until:
            raise DheadsError(told)
        time.sleep(0.05)
    try:
        yield
    finally:
        os.close(descriptor)


def _try_to_hold(path: Path) -> int | None:
    """The descriptor of a path that is held now, or None where another process holds it, or has just removed it."""
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
    descriptor = None
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        _lock(path, descriptor)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    if descriptor is not None:
        os.close(descriptor)
    return None


def _lock(path: Path, descriptor: int) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # such as on NFS, which locks no folders
        console.warn(f"{path}: the file system has no locks ({error.strerror}); see that no other run writes there too")
