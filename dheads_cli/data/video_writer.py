"""Video into files, whole or not at all, and into streams while it is made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.encoder import MP4, MP4_STREAM, WEBM, Encoder, Sound
from dheads_cli.errors import DheadsError

FORMATS = {".mp4": MP4, ".m4v": MP4, ".mov": MP4, ".webm": WEBM}  # that VideoWriter writes, by suffix
VIDEO_SUFFIXES = tuple(FORMATS)
CRF = 18  # quality of what is written for people to look at


class VideoWriter:
    """Write a video while its frames arrive, H.264 + AAC or, as .webm, VP9 + Opus; a context manager.

    The file is made beside its place and moved there when the block ends well, so `path` is always whole: the new
    video, or whatever was there before.

    Args:
        path: .mp4, .m4v, .mov or .webm in a folder that exists.
        fps: frames a second.
        size: (width, height) px, both even.
        audio: float32 [T] mono in [-1, 1], or pieces of it, asked for when they are needed; None for a silent video.
        sample_rate: Hz of `audio`; .webm takes 8000, 12000, 16000, 24000 and 48000.
        crf: quality; lower is better, see Encoder.
        pixel_format: of the encoded video.
        metadata: tags of the file, such as title and comment.
        overwrite: replace an existing file.

    Raises:
        DheadsError: the file exists, or can't be written (also when the disk fills up later).
    """

    def __init__(
        self,
        path: Path | str,
        fps: float,
        size: tuple[int, int],
        audio: Sound | None = None,
        sample_rate: int = 16000,
        *,
        crf: int = CRF,
        pixel_format: str = "yuv420p",
        metadata: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        check_target(self.path, overwrite=overwrite, suffixes=VIDEO_SUFFIXES)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        with self._told():
            self._encoder = Encoder(
                str(self._part), FORMATS[self.path.suffix.lower()], fps, size, audio, sample_rate,
                crf=crf, pixel_format=pixel_format, metadata=metadata,
            )  # fmt: skip

    @property
    def n_frames(self) -> int:
        """Frames written so far."""
        return self._encoder.n_frames

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Encode one frame, uint8 RGB [H, W, 3], and the sound that belongs to it."""
        with self._told():
            self._encoder.write(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = kind is None and self.n_frames > 0
        try:
            with self._told():
                if whole:
                    self._encoder.finish()
                self._encoder.close()
                if kind is None and not whole:
                    raise DheadsError(f"{self.path}: no frame was drawn, so there is no video to write.")
                if whole:
                    self._check_whole()
                    os.replace(self._part, self.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._part.unlink()

    def _check_whole(self) -> None:
        """Count the packets of the finished file: FFmpeg doesn't report the last bytes that found no room."""
        with av.open(str(self._part)) as container:
            n_packets = sum(packet.size > 0 for packet in container.demux(video=0))
        if n_packets != self.n_frames:
            raise OSError(None, f"only {n_packets} of {self.n_frames} frames were written; is the disk full?")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn a failure to write into a DheadsError and remove the unfinished file."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            with contextlib.suppress(FileNotFoundError):
                self._part.unlink()
            raise DheadsError(f"{self.path} can't be written: {error.strerror or error}.") from error


class VideoStream:
    """Write fragmented MP4 into a pipe while its frames arrive, so that a player can show it meanwhile.

    Args:
        target: binary file; it is not closed.
        fps, size, audio, sample_rate, metadata: see VideoWriter.

    Raises:
        BrokenPipeError: the reader went away.
        DheadsError: it can't be written for another reason.
    """

    def __init__(
        self,
        target: BinaryIO,
        fps: float,
        size: tuple[int, int],
        audio: Sound | None = None,
        sample_rate: int = 16000,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._pipe = _Pipe(target)
        with self._told():
            self._encoder = Encoder(self._pipe, MP4_STREAM, fps, size, audio, sample_rate, crf=CRF, metadata=metadata)

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Encode one frame, uint8 RGB [H, W, 3], and the sound that belongs to it."""
        with self._told():
            self._encoder.write(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._told():
            if kind is None:
                self._encoder.finish()
        with contextlib.suppress(BrokenPipeError), self._told():
            self._encoder.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            why = self._pipe.failure or error
            if isinstance(why, BrokenPipeError):
                raise BrokenPipeError from error
            raise DheadsError(f"the video's stream can't be written: {why.strerror or why}.") from error


class _Pipe:
    """What FFmpeg may do with a pipe: write. (Given a file's `seek`, it would go back to its head.)"""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            self._target.write(data)
            self._target.flush()
        except OSError as error:  # FFmpeg makes one of its own of it, which does not say why
            self.failure = error
            raise
        return len(data)


def check_target(path: Path, *, overwrite: bool, suffixes: tuple[str, ...] = ()) -> None:
    """Refuse a place that an output file can't be written to.

    Raises:
        DheadsError: wrong suffix, no such folder, a folder, or an existing file without `overwrite`.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise DheadsError(f"{path}: the name must end in {' or '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise DheadsError(f"{path}: the folder {path.parent} does not exist. Make it first.")
    if path.is_dir():
        raise DheadsError(f"{path} is a folder: name a file.")
    if path.exists() and not overwrite:
        raise DheadsError(f"{path} exists: choose another name, or pass --overwrite.")
    if not os.access(path.parent, os.W_OK):
        raise DheadsError(f"{path}: the folder {path.parent} can't be written to.")
