"""A line on consent when somebody makes the first video: once for each user, on stderr, and nothing waits for it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer

from dheads_cli import console

NOTE = (
    "note: use faces and voices of people who agreed to it, and say of every video that it is made; each file says so "
    "too (README, Consent). This is told once."
)


def told() -> Path:
    """The file, in the user's folder of settings, whose being there means that the note was shown."""
    return Path(typer.get_app_dir("dheads")) / "consent-note-shown"


def remind() -> None:
    """Show the note, unless this user has seen it; under --quiet it waits for another time."""
    if console.settings.quiet or told().exists():
        return
    console.info(NOTE)
    with contextlib.suppress(OSError):  # a home that can't be written: told again next time
        told().parent.mkdir(parents=True, exist_ok=True)
        told().touch()
