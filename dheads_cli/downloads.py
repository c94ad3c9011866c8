"""Files that a component fetches from its maker when it is first used: whole or not at all, and never by surprise."""

from __future__ import annotations

import contextlib
import http.client
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dheads_cli import console
from dheads_cli.errors import DheadsError

TIMEOUT_S = 30.0  # without an answer
PIECE_BYTES = 1 << 20


@dataclass
class Settings:
    allowed: bool = True


settings = Settings()


@contextlib.contextmanager
def none() -> Iterator[None]:
    """Fetch nothing inside this block: components are built to be listed or tried, not used."""
    before, settings.allowed = settings.allowed, False
    try:
        yield
    finally:
        settings.allowed = before


def fetch(url: str, path: Path, what: str, option: str) -> None:
    """Download a file that is not here yet; it appears under its name when it is whole.

    Args:
        url: https address.
        path: where to put it; the folder is made.
        what: who needs it, such as "audio encoder 'hubert'".
        option: how a recipe names a copy of it instead, such as "`weights: PATH`".

    Raises:
        DheadsError: it can't be had, with all that is needed to get it by hand; or downloads are off.
    """
    needs = f"{what} needs {path.name}"
    if not settings.allowed:
        raise DheadsError(f"{needs}: not here yet; the first recipe that uses it fetches it from {url}")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # another process may be fetching it, too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, part.open("wb") as file:
            stated = int(answer.headers.get("Content-Length") or 0)
            with console.progress(f"fetch {path.name}", total=stated / 1e6 or None, unit="MB") as bar:
                while piece := answer.read(PIECE_BYTES):
                    file.write(piece)
                    bar.advance(len(piece) / 1e6)
            if stated and file.tell() != stated:
                raise OSError(f"the connection broke after {file.tell()} of {stated} bytes")
        os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:  # URLError, HTTPError and timeouts are OSErrors
        with contextlib.suppress(OSError):
            part.unlink()
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise DheadsError(
            f"{needs}, and it can't be fetched from {url} ({why}): put the file into {path.parent}, or name your copy "
            f"in the recipe ({option})"
        ) from error
