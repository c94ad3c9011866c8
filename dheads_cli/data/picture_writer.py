"""Frames into a GIF, or into a folder of PNGs: whole or not at all."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dheads_cli.data.encoder import FlacEncoder, Sound, SoundTrack
from dheads_cli.data.video_writer import check_target
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically

MAX_GIF_S = 120.0  # a longer one takes gigabytes to make (the caller refuses it), and no page shows it
PALETTE_S = 1.0  # of a GIF, that its colours are taken from
SOUND_FILE = "sound.flac"
MOVING = ".moving"
OWN_FILES = re.compile(r"\d{6,}\.png|sound\.flac")


class GifWriter:
    """Write a silent GIF that repeats for ever; a context manager, and nothing is written before it ends well.

    All frames share 256 colours, those that suit the first second: colours of their own would flicker.

    Args:
        path: .gif in a folder that exists.
        fps: frames a second; each frame's time is rounded to the 1/100 s that GIFs count in, without adding up.
        comment: of the file.
        overwrite: replace an existing file.
    """

    def __init__(self, path: Path, fps: float, *, comment: str, overwrite: bool = False) -> None:
        check_target(path, overwrite=overwrite, suffixes=(".gif",))
        self.path, self._fps, self._comment = path, fps, comment
        self._first: list[NDArray[np.uint8]] = []  # until there are enough to take the colours from
        self._palette: Image.Image | None = None
        self._frames: list[Image.Image] = []

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add one frame, uint8 RGB [H, W, 3]."""
        if self._palette is None:
            self._first.append(frame.copy())
            if len(self._first) >= PALETTE_S * self._fps:
                self._choose_colours()
        else:
            self._add(frame, self._palette)

    def _choose_colours(self) -> None:
        self._palette = Image.fromarray(np.concatenate(self._first)).quantize(256, dither=Image.Dither.NONE)
        for frame in self._first:
            self._add(frame, self._palette)
        self._first.clear()

    def _add(self, frame: NDArray[np.uint8], palette: Image.Image) -> None:
        self._frames.append(Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._first:
            self._choose_colours()
        if kind is not None or not self._frames:
            return
        ends = [round(k * 100 / self._fps) * 10 for k in range(len(self._frames) + 1)]  # ms
        file = io.BytesIO()
        self._frames[0].save(
            file, "GIF", save_all=True, append_images=self._frames[1:], loop=0, comment=self._comment.encode(),
            duration=[end - begin for begin, end in itertools.pairwise(ends)],
        )  # fmt: skip
        write_atomically(self.path, file.getvalue())


class PngWriter:
    """Write frames as `000000.png`, `000001.png` ... and the sound as `sound.flac` into a folder; a context manager.

    They are made in a hidden folder inside and moved up when the block ends well. While they are moved, that folder's
    name says so; it stays where the process is killed then, and the next one replaces what was moved.

    Args:
        path: a folder to be made in one that exists, or an empty one.
        fps: frames a second.
        audio: float32 [T] mono in [-1, 1], or pieces of it, asked for when they are needed; None writes no sound.
        sample_rate: Hz of `audio`.
        texts: goes into each PNG.
        overwrite: replace frames that are there; a folder with anything else in it is refused.
    """

    def __init__(
        self,
        path: Path,
        fps: float = 25.0,
        audio: Sound | None = None,
        sample_rate: int = 16000,
        *,
        texts: Mapping[str, str],
        overwrite: bool = False,
    ) -> None:
        check_folder(path, overwrite=overwrite)
        self.path, self.n_frames = path, 0
        self._fps, self._rate, self._n_audio = fps, sample_rate, 0
        self._texts = PngInfo()
        for key, text in texts.items():
            self._texts.add_text(key.capitalize(), text)  # PNG's own keywords: Title, Comment
        self._made_here = not path.exists()
        self._part = path / f".{os.getpid()}.part"
        try:
            if self._part.exists():  # a killed process of the same number left it, as those in containers have
                shutil.rmtree(self._part)
            self._part.mkdir(parents=True)
            self._track = None if audio is None else SoundTrack(audio)
            self._sound = None if audio is None else FlacEncoder(str(self._part / SOUND_FILE), sample_rate)
        except OSError as error:
            raise DheadsError(f"{path} can't be written: {error.strerror or error}.") from error

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Write one frame, uint8 RGB [H, W, 3], and the sound that belongs to it."""
        try:
            Image.fromarray(frame).save(self._part / f"{self.n_frames:06d}.png", pnginfo=self._texts)
            self.n_frames += 1
            if self._track is not None and self._sound is not None:
                end = round(self.n_frames / self._fps * self._rate)
                self._sound.write(self._track.take(end - self._n_audio))
                self._n_audio = end
        except OSError as error:
            raise DheadsError(f"{self.path} can't be written: {error.strerror or error}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._sound is not None:
                    self._sound.finish()
                self._move_up()
        except OSError as problem:
            raise DheadsError(f"{self.path} can't be written: {problem.strerror or problem}.") from problem
        finally:
            if kind is not None and self._sound is not None:
                self._sound.close()
            shutil.rmtree(self._part, ignore_errors=True)
            if kind is not None and self._made_here:
                with contextlib.suppress(OSError):
                    self.path.rmdir()

    def _move_up(self) -> None:
        moving = Path(tempfile.mkdtemp(prefix=".", suffix=MOVING, dir=self.path))
        os.rename(self._part, moving)
        for old in _visible(self.path):
            old.unlink()
        for made in sorted(moving.iterdir()):
            os.replace(made, self.path / made.name)
        for each in self.path.glob(f".*{MOVING}"):
            shutil.rmtree(each)


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Refuse a place that a folder of frames can't be written to.

    Raises:
        DheadsError: a file, a folder inside one that does not exist, or one that holds something else.
    """
    if not path.is_dir():
        check_target(path, overwrite=False)
        return
    if others := [file.name for file in _visible(path) if not OWN_FILES.fullmatch(file.name)]:
        raise DheadsError(f"{path} holds {others[0]}: frames need a folder of their own; name a new one.")
    if frames_are_whole(path) and not overwrite:
        raise DheadsError(f"{path} holds frames already: choose another folder, or pass --overwrite.")
    if not os.access(path, os.W_OK):
        raise DheadsError(f"{path}: the folder can't be written to.")


def frames_are_whole(folder: Path) -> bool:
    """Whether there are frames in a folder, and all of them: no process was killed while it moved them there."""
    return bool(_visible(folder)) and not any(folder.glob(f".*{MOVING}"))


def _visible(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]
