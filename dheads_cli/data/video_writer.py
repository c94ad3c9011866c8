"""Video into files, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray

from dheads_cli.errors import DheadsError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")  # that VideoWriter writes
BT601, LIMITED_RANGE = 5, 1  # FFmpeg's numbers: what swscale converts RGB to, and the file says so


class VideoWriter:
    """Write an H.264 + AAC video while its frames arrive; a context manager.

    The file is made beside its place and moved there when the block ends well, so `path` is always whole: the new
    video, or whatever was there before.

    Args:
        path: .mp4, .m4v or .mov in a folder that exists.
        fps: frames a second.
        size: (width, height) px, both even.
        audio: float32 [T] mono in [-1, 1], or None for a silent video.
        sample_rate: Hz of `audio`.
        crf: x264's quality; lower is better.
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
        audio: NDArray[np.float32] | None = None,
        sample_rate: int = 16000,
        *,
        crf: int = 18,
        pixel_format: str = "yuv420p",
        metadata: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.n_frames = 0
        self._fps, self._rate = fps, sample_rate
        self._audio = audio
        self._n_audio = 0
        check_target(self.path, overwrite=overwrite, suffixes=VIDEO_SUFFIXES)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        with self._told():
            self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
            self._container.metadata.update(dict(metadata or {}))
            self._video = add_h264(self._container, fps, size, crf, pixel_format, preset="veryfast")
            if audio is not None:
                self._sound: Any = self._container.add_stream("aac", rate=sample_rate, layout="mono")
                self._sound.bit_rate = 128_000
            self._container.start_encoding()  # a place that can't be written is told now, not at the first packet

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Encode one frame, uint8 RGB [H, W, 3], and the sound that belongs to it."""
        with self._told():
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = self.n_frames
            self._container.mux(self._video.encode(picture))
            self.n_frames += 1
            self._write_audio(round(self.n_frames / self._fps * self._rate))

    def _write_audio(self, end: int) -> None:
        """Encode sound up to sample `end`, so that picture and sound lie side by side in the file."""
        if self._audio is None or (piece := self._audio[self._n_audio : end]).size == 0:
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece[None]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._n_audio, Fraction(1, self._rate)
        self._n_audio += len(piece)
        self._container.mux(self._sound.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._told():
                if kind is None:
                    self._container.mux(self._video.encode(None))
                    if self._audio is not None:
                        self._container.mux(self._sound.encode(None))
                self._container.close()
                if kind is None:
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


def add_h264(container: Any, fps: float, size: tuple[int, int], crf: int, pixel_format: str, preset: str) -> Any:
    """Add an x264 stream; one thread, so that the same frames give the same bytes."""
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.width, stream.height = size
    stream.pix_fmt = pixel_format
    stream.options = {"crf": str(crf), "preset": preset}
    context = stream.codec_context
    context.thread_count = 1
    context.color_range, context.colorspace = LIMITED_RANGE, BT601
    return stream
