"""Where a video goes, by the name it is given: a file by its suffix, a folder of pictures, or standard output."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.picture_writer import MAX_GIF_S, GifWriter, PngWriter, check_folder, frames_are_whole
from dheads_cli.errors import DheadsError

STDOUT = "-"
GIF = ".gif"
SUFFIXES = (*media.VIDEO_SUFFIXES, GIF)


class Writer(Protocol):
    """Takes the frames of one video; a context manager that leaves all of it or nothing."""

    def write(self, frame: NDArray[np.uint8]) -> None:
        """One frame, uint8 RGB [H, W, 3]."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def is_folder(out: str) -> bool:
    """Whether a name means a folder of PNGs: it ends in a slash, or there is such a folder and no file is called so."""
    return out.endswith(("/", os.sep)) or (Path(out).is_dir() and Path(out).suffix.lower() not in SUFFIXES)


def check_output(out: str, *, overwrite: bool) -> None:
    """Refuse, before any work, a place that nothing can be written to.

    Args:
        out: a path; one that ends in a slash, or of a folder, is for PNGs; `-` is standard output.
        overwrite: whether what is there may be replaced.

    Raises:
        DheadsError: what is wrong with it.
    """
    if out == STDOUT:
        if sys.stdout is None:
            raise DheadsError("-o -: standard output is closed; pipe it into a player, or name a file.")
        if sys.stdout.isatty():
            raise DheadsError("-o -: a video is no text for a terminal; pipe it into a player, or name a file.")
    elif is_folder(out):
        check_folder(Path(out), overwrite=overwrite)
    elif Path(out).suffix.lower() not in SUFFIXES:
        raise DheadsError(f"{out}: the name must end in {', '.join(SUFFIXES)}, or in / for a folder of PNGs.")
    else:
        media.check_target(Path(out), overwrite=overwrite)


def is_whole(out: str) -> bool:
    """Whether there is something at a place, and no folder that a killed run was just moving its frames into."""
    place = Path(out)
    return frames_are_whole(place) if place.is_dir() else place.exists()


def check_seconds(out: str, seconds: float) -> None:
    """Refuse a video that would be too long for its place.

    Raises:
        DheadsError: it would be too long a GIF.
    """
    if Path(out).suffix.lower() == GIF and not is_folder(out) and seconds > MAX_GIF_S:
        raise DheadsError(f"{out}: a GIF lasts at most {MAX_GIF_S:.0f} s, not {seconds:.0f}; take .mp4 or .webm.")


def remove_parts(out: str) -> None:
    """Remove the unfinished files that a killed run has left of a video."""
    place = Path(out)
    folder, name = (place, "") if is_folder(out) else (place.parent, rf"\.{re.escape(place.name)}")
    for part in folder.iterdir() if folder.is_dir() else ():
        if re.fullmatch(name + r"\.\d+\.part", part.name):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def open_output(
    out: str,
    fps: float,
    size: tuple[int, int],
    sound: media.Sound,
    sample_rate: int,
    *,
    tags: Mapping[str, str],
    overwrite: bool,
) -> Writer:
    """The writer for a place, see check_output. A GIF has no sound.

    Args:
        out: the place.
        fps: frames a second.
        size: (width, height) px, both even.
        sound: float32 [T] mono in [-1, 1], or pieces of it, asked for when they are needed.
        sample_rate: Hz of `sound`.
        tags: title and comment.
        overwrite: replace what is there.

    Raises:
        DheadsError: it can't be written there.
    """
    check_output(out, overwrite=overwrite)
    if out == STDOUT:
        return media.VideoStream(sys.stdout.buffer, fps, size, sound, sample_rate, metadata=tags)
    if is_folder(out):
        return PngWriter(Path(out), fps, sound, sample_rate, texts=tags, overwrite=overwrite)
    if Path(out).suffix.lower() == GIF:
        return GifWriter(Path(out), fps, comment=tags["comment"], overwrite=overwrite)
    return media.VideoWriter(Path(out), fps, size, sound, sample_rate, metadata=tags, overwrite=overwrite)
