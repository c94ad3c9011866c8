"""Pictures, sound and video out of files, and stored clips both ways. With video_writer.py all that knows PyAV."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dheads_cli.data.video_writer import VIDEO_SUFFIXES, VideoWriter, add_h264, check_target
from dheads_cli.errors import DheadsError, UnusableClip

__all__ = [
    "VIDEO_SUFFIXES",
    "VideoClip",
    "VideoWriter",
    "check_target",
    "decode_clip_mp4",
    "decode_flac",
    "encode_clip_mp4",
    "encode_flac",
    "fit_length",
    "read_audio",
    "read_image",
    "read_video",
]

MAX_CLIP_BYTES = 4 << 30  # of decoded frames; more than that is a film, not a clip
CLIP_CRF = 8  # of stored crops: mean error 1.7 of 255, of which 1 is the rounding to YUV


@dataclass(frozen=True)
class VideoClip:
    """A decoded video.

    Attributes:
        frames: uint8 RGB [F, H, W, 3], upright, contiguous.
        fps: constant frame rate of `frames`.
        source_fps: mean frame rate of the file.
        start: time of the first frame on the file's clock, s; the sound may begin earlier or later.
        rotation: degrees that the file asked to turn frames counterclockwise; done already.
    """

    frames: NDArray[np.uint8]
    fps: float
    source_fps: float
    start: float
    rotation: int


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a file for reading; any failure of FFmpeg inside the block is an UnusableClip."""
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams:
                raise UnusableClip("damaged", f"{path}: neither picture nor sound can be found in it")
            yield container
    except (av.FFmpegError, OSError) as error:
        reason = "damaged" if isinstance(error, av.FFmpegError) and path.is_file() else "unreadable"
        if isinstance(error, PermissionError):
            reason = "unreadable"
        raise UnusableClip(reason, f"{path}: {getattr(error, 'strerror', None) or error}") from error


def read_video(path: Path | str, fps: float) -> VideoClip:
    """Decode a video at a constant frame rate; frame k is the one shown nearest to k / fps.

    Raises:
        UnusableClip: no picture in it, damaged, cut short, or too long for memory.
    """
    path = Path(path)
    frames: list[NDArray[np.uint8]] = []
    with _open(path) as container:
        if not container.streams.video:
            raise UnusableClip("no picture", f"{path} has no video stream")
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        times: list[float] = []
        shown: NDArray[np.uint8] | None = None
        rotation, duration = 0, 0.0
        for frame in container.decode(stream):
            if frame.is_corrupt or frame.time is None:
                raise UnusableClip("damaged", f"{path}: frame {len(times)} can't be decoded")
            picture = _upright(frame)
            if shown is not None and picture.shape != shown.shape:
                raise UnusableClip("damaged", f"{path}: frame {len(times)} changes size")
            if shown is not None:
                # Times nearer to the frame before, up to half way to this one, show the frame before.
                middle = (times[-1] + frame.time) / 2 - times[0]
                _repeat_until(middle, fps, frames, shown, path)
            times.append(float(frame.time))
            shown, rotation = picture, round(frame.rotation)
            duration = float(frame.duration * frame.time_base) if frame.duration else 0.0
        if shown is None:
            raise UnusableClip("damaged", f"{path} has no frame that can be decoded")
        source_fps = (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else float(fps)
        end = times[-1] - times[0] + (duration or 1 / source_fps)
        _check_length(path, stream, times[0] + end)
        _repeat_until(end - 0.5 / fps, fps, frames, shown, path)
    return VideoClip(np.stack(frames or [shown]), float(fps), source_fps, times[0], rotation)


def _check_length(path: Path, stream: Any, end: float) -> None:
    """Refuse a stream that ends, at a time on the file's clock in s, well before the length that the file states."""
    if not stream.duration:
        return
    stated = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    if end < 0.9 * stated - 0.2:
        raise UnusableClip("damaged", f"{path}: its {stream.type} ends at {end:.2f} of {stated:.2f} s")


def _repeat_until(
    end: float, fps: float, frames: list[NDArray[np.uint8]], shown: NDArray[np.uint8], path: Path
) -> None:
    """Append `shown` for every output time k / fps before `end`, s."""
    while len(frames) / fps < end - 1e-6:
        frames.append(shown)
        if len(frames) * shown.nbytes > MAX_CLIP_BYTES:
            raise UnusableClip("too long", f"{path} holds over {MAX_CLIP_BYTES >> 30} GiB of frames: cut it up")


def _upright(frame: Any) -> NDArray[np.uint8]:
    """A decoded frame as contiguous RGB, turned as its display matrix asks."""
    picture = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
    # PyAV's array can be a view with padded rows, which some readers (MediaPipe) take for a dense one.
    return np.ascontiguousarray(picture)


def read_audio(path: Path | str, sample_rate: int, start: float | None = None) -> NDArray[np.float32]:
    """Decode sound to mono, the mean of its channels.

    Args:
        path: any file with sound.
        sample_rate: Hz to resample to.
        start: time on the file's clock that the waveform begins at, s (cut, or silence put before);
            None begins with the first sample.

    Returns:
        float32 [T] in [-1, 1]. Silence stands where the file's timestamps leave a gap.

    Raises:
        UnusableClip: no sound in it, or damaged.
    """
    path = Path(path)
    pieces: list[NDArray[np.float32]] = []
    with _open(path) as container:
        if not container.streams.audio:
            raise UnusableClip("no sound", f"{path} has no audio stream")
        stream = container.streams.audio[0]
        stream.thread_type = "NONE"
        rate, n_samples, begin, n_missing = 0, 0, 0.0, 0
        for frame in container.decode(stream):
            wave = _mono(frame)
            if not rate:
                rate, begin = frame.sample_rate, float(frame.time or 0.0)
                if start is not None:
                    n_samples = -round((start - begin) * rate)
                    if n_samples > 0:
                        pieces.append(np.zeros(n_samples, dtype=np.float32))
                    begin = start
            elif frame.sample_rate != rate:
                raise UnusableClip("damaged", f"{path}: the sample rate changes inside the file")
            gap = round((float(frame.time) - begin) * rate) - n_samples if frame.time is not None else 0
            if gap > 0.05 * rate:
                pieces.append(np.zeros(gap, dtype=np.float32))
                n_samples += gap
                n_missing += gap
            # Samples before `start` have negative places.
            pieces.append(wave[max(0, min(len(wave), -n_samples)) :])
            n_samples += len(wave)
        if not rate or not sum(map(len, pieces)):
            raise UnusableClip("no sound", f"{path}: its audio stream holds no samples")
        _check_length(path, stream, end=begin + n_samples / rate)
        if n_missing > 0.1 * max(n_samples, 1):
            raise UnusableClip("damaged", f"{path}: {n_missing / rate:.2f} s of its sound are missing")
    return _resample(np.concatenate(pieces), rate, sample_rate)


def _mono(frame: Any) -> NDArray[np.float32]:
    """Mean of the channels of a decoded frame, float32 [T]. (FFmpeg's own mono weighs each of two with 0.71.)"""
    samples = frame.to_ndarray()  # planar [channels, T], packed [1, T * channels]
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) / 128 - 1
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    mean: NDArray[np.float32] = samples.astype(np.float32).mean(axis=0)
    return np.clip(np.nan_to_num(mean), -1, 1)


def _resample(wave: NDArray[np.float32], rate: int, sample_rate: int) -> NDArray[np.float32]:
    """Band-limited resampling by FFmpeg, without delay: [T] -> [round(T sample_rate / rate)]."""
    if rate == sample_rate:
        return wave
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=sample_rate)
    out: list[NDArray[np.float32]] = []
    for begin in range(0, len(wave), rate):  # by the second: given all at once, FFmpeg takes ten times the memory
        frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + rate], format="fltp", layout="mono")
        frame.sample_rate = rate
        out += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    out += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    return np.clip(fit_length(np.concatenate(out), round(len(wave) * sample_rate / rate)), -1, 1)


def fit_length(wave: NDArray[np.float32], n_samples: int) -> NDArray[np.float32]:
    """Cut a waveform [T], or put silence after it, so that it has exactly n_samples."""
    return np.pad(wave[:n_samples], (0, max(0, n_samples - len(wave))))


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Read a picture as uint8 RGB [H, W, 3]: upright by its EXIF tag, transparency over white.

    Raises:
        DheadsError: there is no such file, it is no picture, or it is broken.
    """
    path = Path(path)
    if not path.is_file():
        raise DheadsError(f"{path}: no such picture.")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits of gray
                gray = np.clip(np.asarray(upright, dtype=np.int64) // 257, 0, 255).astype(np.uint8)
                upright = Image.fromarray(gray)
            if upright.has_transparency_data:
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
            return np.array(upright.convert("RGB"))
    except UnidentifiedImageError as error:
        raise DheadsError(f"{path} is not a picture that can be read: save it as JPEG or PNG.") from error
    except Image.DecompressionBombError as error:
        raise DheadsError(f"{path} is too large a picture: {error}. Scale it down.") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken files, by format
        raise DheadsError(f"{path} is a broken picture ({error}): save it again, as JPEG or PNG.") from error


def encode_clip_mp4(frames: NDArray[np.uint8], fps: float) -> bytes:
    """Encode crops, uint8 RGB [F, H, W, 3], nearly losslessly (H.264, yuv444p); the same frames give the same bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = add_h264(container, fps, (frames.shape[2], frames.shape[1]), CLIP_CRF, "yuv444p", preset="veryfast")
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_clip_mp4(data: bytes) -> NDArray[np.uint8]:
    """Inverse of encode_clip_mp4: uint8 RGB [F, H, W, 3]."""
    with av.open(io.BytesIO(data), mode="r") as container:
        container.streams.video[0].thread_type = "NONE"
        return np.stack([_upright(frame) for frame in container.decode(video=0)])


def encode_flac(wave: NDArray[np.float32], sample_rate: int) -> bytes:
    """Encode mono sound, float32 [T] in [-1, 1], as 16-bit FLAC."""
    samples = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream: Any = container.add_stream("flac", rate=sample_rate, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_flac(data: bytes) -> NDArray[np.float32]:
    """Inverse of encode_flac: float32 [T]."""
    with av.open(io.BytesIO(data), mode="r") as container:
        return np.concatenate([_mono(frame) for frame in container.decode(audio=0)])
