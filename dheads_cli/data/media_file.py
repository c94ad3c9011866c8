"""Open a film or a recording, choose its picture and its sound, and tell when it is damaged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from dheads_cli.errors import UnusableClip

MAX_PIXELS = 8192 * 4320  # of a frame; a damaged header may claim any size

STREAMED_BYTES = 0x7FFF0000  # of sound that a WAV's header states at least where its writer did not know

STRICT = {"err_detect": "crccheck+explode"}  # FFmpeg's decoders else pass over checksums and errors


@contextlib.contextmanager
def open_media(path: Path) -> Iterator[Any]:
    """Open a file for reading; any failure of FFmpeg inside the block is an UnusableClip.

    Nothing but files is opened, whatever the name looks like, and whatever a playlist inside the file asks for.
    """
    try:
        options = {"protocol_whitelist": "file", **({"ignore_length": "1"} if is_streamed_wav(path) else {})}
        with av.open(f"file:{path}", metadata_errors="ignore", options=options) as container:
            if not container.streams:
                raise UnusableClip("damaged", f"{path}: neither picture nor sound can be found in it")
            yield container
    except (av.FFmpegError, OSError) as error:
        reason = "damaged" if path.is_file() and os.access(path, os.R_OK) else "unreadable"
        raise UnusableClip(reason, f"{path}: {getattr(error, 'strerror', None) or error}") from error


def is_streamed_wav(path: Path) -> bool:
    """Whether a WAV was written into a pipe: its header, which comes first, had to guess the length of the sound.

    Writers then state nothing, or about as much as the header can (0x7ffff000 bytes and the like).
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != b"RIFF" or file.read(8)[4:] != b"WAVE":
                return False
            while len(head := file.read(8)) == 8:
                n_bytes = int.from_bytes(head[4:], "little")
                if head[:4] == b"data":
                    held = path.stat().st_size - file.tell()
                    return n_bytes > held if n_bytes >= STREAMED_BYTES else n_bytes == 0 < held
                file.seek(n_bytes + n_bytes % 2, os.SEEK_CUR)
    except OSError:
        pass  # told where the file is opened
    return False


def picture_stream(path: Path, container: Any) -> Any:
    """The film's main picture; covers of music files and thumbnails are none.

    Raises:
        UnusableClip: there is none.
    """
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    if not (streams := [stream for stream in container.streams.video if not stream.disposition & still]):
        raise UnusableClip("no picture", f"{path} has no video stream")
    stream = _main(path, streams)
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    stream.codec_context.options = {**STRICT, "max_pixels": str(MAX_PIXELS)}
    return stream


def sound_stream(path: Path, container: Any) -> Any:
    """The file's main sound.

    Raises:
        UnusableClip: there is none.
    """
    if not container.streams.audio:
        raise UnusableClip("no sound", f"{path} has no audio stream")
    stream = _main(path, container.streams.audio)
    stream.thread_type = "NONE"
    stream.codec_context.options = STRICT
    return stream


def _main(path: Path, streams: Any) -> Any:
    """The stream that players take when left alone: the first one flagged so, else the first."""
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise UnusableClip("damaged", f"{path}: its {stream.type} is in a coding that is not known")
    return stream


def frames_of(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Decode a stream.

    Raises:
        UnusableClip: some of it is damaged, or the whole file ends well before the length that it states.
    """
    at, end = 0.0, 0.0
    for packet in container.demux():
        if packet.is_corrupt and not is_streamed_wav(path):  # whose last packet is shorter than FFmpeg expects
            raise UnusableClip("damaged", f"{path}: its {packet.stream.type} is cut short or overwritten")
        if packet.dts is not None:
            end = max(end, (packet.dts + (packet.duration or 0)) * float(packet.time_base))
        if packet.stream is not stream:
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            raise UnusableClip("damaged", f"{path}: its {stream.type} can't be decoded after {at:.2f} s") from error
        for frame in frames:
            at = frame.time or at
            if isinstance(frame, av.VideoFrame) and frame.is_corrupt:
                raise UnusableClip("damaged", f"{path}: its picture at {at:.2f} s is broken")
            yield frame
    if container.duration is not None:  # some containers count it from 0, some from their start: the lesser
        check_length(path, "content", end, container.duration / av.time_base)


def check_stream_length(path: Path, stream: Any, end: float) -> None:
    """Refuse a stream that ends, at a time on the file's clock in s, well before the length that the file states."""
    if stream.duration:
        stated = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
        check_length(path, stream.type, end, stated)


def check_length(path: Path, what: str, end: float, stated: float) -> None:
    """Refuse a file whose `what` ends well before its stated end; both s."""
    if end < 0.9 * stated - 0.2:
        raise UnusableClip("damaged", f"{path}: its {what} ends at {end:.2f} of {stated:.2f} s")
