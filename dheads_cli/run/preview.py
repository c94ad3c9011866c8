"""The newest frames of a video while it is drawn: in the terminal above the progress bar, or as a GIF that grows."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dheads_cli import console
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

TERMINAL_EVERY_S, GIF_EVERY_S = 0.5, 3.0
MAX_COLUMNS = 40  # of a terminal: a frame of so many px
MAX_GIF_FRAMES = 36  # then every other one is left out, and the next ones are taken half as often
GIF_PX = 128  # at most


class Preview(Protocol):
    """Shows the frames of a video that is being drawn."""

    def show(self, drawn: NDArray[np.uint8]) -> None:
        """One more frame is drawn, uint8 RGB [S, S, 3]."""
        ...

    def finish(self) -> None:
        """It was the last one."""
        ...


class TerminalPreview:
    """The newest frame in half blocks, two pixels a character, in 24-bit colour; twice a second.

    It is something that Rich can show; `console.progress` shows it above its bar.

    Raises:
        DheadsError: standard error is no terminal, or nothing is to be shown on it.
    """

    def __init__(self) -> None:
        if console.settings.quiet or not sys.stderr.isatty():
            raise DheadsError(
                "--preview: standard error is no terminal, or --quiet keeps it still; --preview-gif FILE.gif shows "
                "the newest frames in a file"
            )
        self._picture: NDArray[np.uint8] | None = None
        self._segments: list[Segment] = []
        self._shown_at = -TERMINAL_EVERY_S

    def show(self, drawn: NDArray[np.uint8]) -> None:
        """See Preview."""
        if time.monotonic() - self._shown_at >= TERMINAL_EVERY_S:
            self._shown_at = time.monotonic()
            self._picture, self._segments = drawn, []

    def finish(self) -> None:
        """See Preview."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Its lines, made once a picture."""
        if self._picture is not None and not self._segments:
            width, height = console.size
            columns = max(2, min(MAX_COLUMNS, width, 2 * (height - 4)) // 2 * 2)
            small = cv2.resize(self._picture, (columns, columns), interpolation=cv2.INTER_AREA)
            self._segments = half_blocks(np.asarray(small, np.uint8))
        yield from self._segments


def half_blocks(picture: NDArray[np.uint8]) -> list[Segment]:
    """A picture, uint8 RGB [H, W, 3] of even height, as H / 2 lines of W characters: the upper half block's colour is
    one pixel, its background the one below."""
    from rich.color import Color
    from rich.segment import Segment
    from rich.style import Style

    segments = []
    for upper, lower in zip(picture[::2].tolist(), picture[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            segments.append(Segment("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))))
        segments.append(Segment.line())
    return segments


class GifPreview:
    """A GIF with frames from the first to the newest, at the video's pace; written anew every few seconds, atomically.

    Args:
        path: .gif in a folder that exists; what is there is replaced.
        fps: of the video.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self._fps = path, fps
        self._frames: list[Image.Image] = []
        self._n, self._every = 0, 1
        self._written_at = time.monotonic()

    def show(self, drawn: NDArray[np.uint8]) -> None:
        """See Preview."""
        if self._n % self._every == 0:
            self._frames.append(_in_256_colours(drawn))
            if len(self._frames) > MAX_GIF_FRAMES:
                self._frames, self._every = self._frames[::2], 2 * self._every
        self._n += 1
        if time.monotonic() - self._written_at >= GIF_EVERY_S or self._n == 1:
            self._write()

    def finish(self) -> None:
        """See Preview."""
        if self._frames:
            self._write()

    def _write(self) -> None:
        file = io.BytesIO()
        self._frames[0].save(
            file, "GIF", save_all=True, append_images=self._frames[1:], loop=0,
            duration=round(self._every / self._fps * 1000),
        )  # fmt: skip
        write_atomically(self.path, file.getvalue())
        self._written_at = time.monotonic()


def _in_256_colours(drawn: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(drawn)
    if max(picture.size) > GIF_PX:
        picture = picture.resize((GIF_PX, GIF_PX), Image.Resampling.BOX)
    return picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)  # 0.2 ms, not 13
