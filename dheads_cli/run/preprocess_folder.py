"""The folder that a preprocessed corpus is written to: held by one process, and of one making."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dheads_cli.data.manifest import EMBEDDINGS, MANIFEST, SETTINGS
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically
from dheads_cli.run.preprocess_shards import SHARDS, remove_unfinished

HELD_S = 2.0  # a killed run's folder may be held a moment longer, by a process that it was just starting


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Hold the output folder for this process: two that write the same shards would spoil each other's.

    Raises:
        DheadsError: it is a file, or another process holds it.
    """
    if out.exists() and not out.is_dir():
        raise DheadsError(f"{out} is a file: name a folder.")
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out, os.O_RDONLY)
    try:
        _lock(descriptor, out)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, out: Path) -> None:
    until = time.monotonic() + HELD_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > until:
                text = f"{out} is being written by another `dheads preprocess`: wait for it, or end it."
                raise DheadsError(text) from error
        time.sleep(0.05)


def prepare(out: Path, provenance: Mapping[str, Any], overwrite: bool) -> None:
    """Make sure that what is in the output folder was made in the same way, or clear it.

    With `overwrite`, a finished corpus is cleared, and one made otherwise; one that is being made in this way goes on.

    Raises:
        DheadsError: it holds other things, or a corpus made otherwise and `overwrite` is not given.
    """
    record = out / SETTINGS
    text = yaml.safe_dump(dict(provenance), sort_keys=False, allow_unicode=True)
    record.with_name(record.name + ".part").unlink(missing_ok=True)  # of a call that was killed as it began
    if any(out.iterdir()) and not record.is_file():
        raise DheadsError(f"{out} is not empty and was not made by `dheads preprocess`: name another folder.")
    differs = record.is_file() and record.read_text(encoding="utf-8") != text
    if differs or (overwrite and (out / MANIFEST).is_file()):
        if not overwrite:
            before = yaml.safe_load(record.read_text(encoding="utf-8"))
            raise DheadsError(
                f"{out} was made with other {_differences(before, provenance)}: name another folder, or pass "
                "--overwrite to make it anew."
            )
        _remove(out)
    if not record.is_file():
        write_atomically(record, text)


def _differences(before: Any, now: Mapping[str, Any]) -> str:
    """Names of the values, and of the packages' versions, that differ between two records of provenance."""
    old = before if isinstance(before, dict) else {}
    old = {**old, **old.get("settings", {})}
    settings = {**now, **now["settings"]}
    names = [name for name in settings if name not in ("settings", "packages") and old.get(name) != settings[name]]
    known = old.get("packages", {})
    packages = [name for name, version in now.get("packages", {}).items() if known.get(name) != version]
    parts = {"settings": names, "versions": packages}
    return " and ".join(f"{what} ({', '.join(which)})" for what, which in parts.items() if which)


def _remove(out: Path) -> None:
    """Remove a preprocessed corpus from its folder, and nothing else.

    Whatever moment it is killed at: no row of a shard that is gone stays, and the record goes last.
    """
    (out / MANIFEST).unlink(missing_ok=True)
    remove_unfinished(out)
    for path in out.glob(SHARDS):
        path.unlink()
    if (out / EMBEDDINGS).is_dir():
        shutil.rmtree(out / EMBEDDINGS)
    (out / SETTINGS).unlink()
