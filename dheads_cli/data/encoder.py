"""Frames and sound into one container while they arrive: what files and streams of video have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

SOUND_BITS_PER_S = 128_000
AVX_512F = 13  # cv::CPU_AVX_512F, which OpenCV's Python package does not name
BT601, LIMITED_RANGE = 5, 1  # FFmpeg's numbers: what swscale converts RGB to, and the file says so


@dataclass(frozen=True)
class Format:
    """A container and what it holds.

    Attributes:
        container: FFmpeg's name of it.
        video, sound: FFmpeg's names of the encoders.
        options: of the container.
        live: whether each frame leaves the encoder at once, for who looks on while the video is made.
    """

    container: str
    video: str = "libx264"
    sound: str = "aac"
    options: Mapping[str, str] = field(default_factory=dict)
    live: bool = False


MP4 = Format("mp4", options={"movflags": "+faststart"})
# bitexact: Matroska files else get a random number as their name.
WEBM = Format("webm", video="libvpx-vp9", sound="libopus", options={"fflags": "+bitexact"})
# A fragment every half second. The header waits for the first one: only then is known by how much AAC begins early.
MP4_STREAM = Format(
    "mp4",
    options={
        "movflags": "+empty_moov+delay_moov+default_base_moof", "frag_duration": "500000", "flush_packets": "1"
    },
    live=True,
)  # fmt: skip


Sound = NDArray[np.float32] | Iterable[NDArray[np.float32]]  # float32 [T] mono in [-1, 1], or the same in pieces


class SoundTrack:
    """Sound that is taken from its beginning on, as much as a frame needs; pieces are asked for when needed."""

    def __init__(self, sound: Sound) -> None:
        self._pieces: Iterator[NDArray[np.float32]] = iter([sound] if isinstance(sound, np.ndarray) else sound)
        self._waiting = np.zeros(0, np.float32)

    def take(self, n_samples: int) -> NDArray[np.float32]:
        """The next n_samples; fewer where it ends."""
        waiting, n_waiting = [self._waiting], len(self._waiting)
        while n_waiting < n_samples and (piece := next(self._pieces, None)) is not None:
            waiting.append(piece)
            n_waiting += len(piece)
        waiting = [wave for wave in waiting if len(wave)]
        wave = waiting[0] if len(waiting) == 1 else np.concatenate([self._waiting[:0], *waiting])
        self._waiting = wave[n_samples:]
        return wave[:n_samples]


class Encoder:
    """Encode frames, and beside each the sound that belongs to it: both lie where their number says, so neither can
    run away from the other, however long it gets.

    Args:
        target: path, or an object with `write`.
        form: container and codecs.
        fps: frames a second.
        size: (width, height) px, both even.
        audio: the sound, see Sound, or None for a silent video.
        sample_rate: Hz of `audio`.
        crf: quality, lower is better: x264's scale, or VP9's, where the same number is better.
        pixel_format: of the encoded video.
        metadata: tags of the file.
    """

    def __init__(
        self,
        target: Any,
        form: Format,
        fps: float,
        size: tuple[int, int],
        audio: Sound | None,
        sample_rate: int,
        *,
        crf: int,
        pixel_format: str = "yuv420p",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.n_frames = 0
        self._fps, self._rate = fps, sample_rate
        self._track = None if audio is None else SoundTrack(audio)
        self._n_audio = 0
        self.container: Any = av.open(target, "w", format=form.container, options=dict(form.options))
        self.container.metadata.update(dict(metadata or {}))
        if form.video == "libx264":
            tune = "zerolatency" if form.live else None
            self._video = add_h264(self.container, fps, size, crf, pixel_format, preset="veryfast", tune=tune)
        else:
            self._video = add_vp9(self.container, fps, size, crf, pixel_format)
        if audio is not None:
            self._sound = add_sound(self.container, form.sound, sample_rate)
        self.container.start_encoding()  # a place that can't be written is told now, not at the first packet

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Encode one frame, uint8 RGB [H, W, 3], and the sound that belongs to it."""
        mux_frame(self.container, self._video, frame, self.n_frames)
        self.n_frames += 1
        self._write_audio(round(self.n_frames / self._fps * self._rate))

    def _write_audio(self, end: int) -> None:
        """Encode sound up to sample `end`, so that picture and sound lie side by side in the file."""
        if self._track is None or (piece := self._track.take(end - self._n_audio)).size == 0:
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece[None]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._n_audio, Fraction(1, self._rate)
        self._n_audio += len(piece)
        self.container.mux(self._sound.encode(frame))

    def finish(self) -> None:
        """Encode what the codecs still hold."""
        self.container.mux(self._video.encode(None))
        if self._track is not None:
            self.container.mux(self._sound.encode(None))

    def close(self) -> None:
        """End the file, finished or not."""
        self.container.close()


class FlacEncoder:
    """Encode mono sound as 16-bit FLAC while it comes; what it is cut into does not change the bytes.

    Args:
        target: path, or a binary file.
        sample_rate: Hz.
    """

    def __init__(self, target: Any, sample_rate: int) -> None:
        self._rate, self._n_samples = sample_rate, 0
        self._container: Any = av.open(target, "w", format="flac")
        self._stream: Any = self._container.add_stream("flac", rate=sample_rate, layout="mono", format="s16")

    def write(self, wave: NDArray[np.float32]) -> None:
        """Encode float32 [T] in [-1, 1]."""
        if not len(wave):
            return
        samples = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._n_samples, Fraction(1, self._rate)
        self._n_samples += len(wave)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Encode what the codec still holds, and end the file."""
        self._container.mux(self._stream.encode(None))
        self.close()

    def close(self) -> None:
        """End the file, finished or not."""
        self._container.close()


def mux_frame(container: Any, stream: Any, frame: NDArray[np.uint8], number: int) -> None:
    """Encode one frame, uint8 RGB [H, W, 3], as the one of that number."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    picture.pts = number
    container.mux(stream.encode(picture))


def mux_frames(container: Any, stream: Any, frames: Iterable[NDArray[np.uint8]]) -> None:
    """Encode all frames of a stream, uint8 RGB [H, W, 3] each, and what the codec still holds of them."""
    for number, frame in enumerate(frames):
        mux_frame(container, stream, frame, number)
    container.mux(stream.encode(None))


def add_sound(container: Any, codec: str, sample_rate: int) -> Any:
    """Add a mono stream of sound."""
    stream = container.add_stream(codec, rate=sample_rate, layout="mono")
    stream.bit_rate = SOUND_BITS_PER_S
    return stream


def add_h264(
    container: Any, fps: float, size: tuple[int, int], crf: int, pixel_format: str, preset: str, tune: str | None = None
) -> Any:
    """Add an x264 stream; one thread and no AVX-512, so that the same frames give the same bytes.

    With AVX-512 the look-ahead of x264 (core 165, macroblock trees) now and then weighs blocks of small frames by what
    lay in memory: of 150 encodings at 32 px 15 differed, of 300 at 96 px 4. With AVX2 all are what plain C code gives.
    """
    options = {"crf": str(crf), "preset": preset, **({"tune": tune} if tune else {})}
    if cv2.checkHardwareSupport(AVX_512F):
        options["x264-params"] = "asm=avx2"
    return _add_video(container, "libx264", fps, size, pixel_format, options)


def add_vp9(container: Any, fps: float, size: tuple[int, int], crf: int, pixel_format: str) -> Any:
    """Add a VP9 stream of constant quality; one thread."""
    options = {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": "4"}
    return _add_video(container, "libvpx-vp9", fps, size, pixel_format, options)


def _add_video(
    container: Any, codec: str, fps: float, size: tuple[int, int], pixel_format: str, options: dict[str, str]
) -> Any:
    stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
    stream.width, stream.height = size
    stream.pix_fmt = pixel_format
    stream.options = options
    context = stream.codec_context
    context.thread_count = 1
    context.color_range, context.colorspace = LIMITED_RANGE, BT601
    return stream
