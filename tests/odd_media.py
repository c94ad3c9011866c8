"""Odd files that a corpus may hold, and films whose flashes and clicks tell how picture and sound lie.

Everything is made by PyAV from known pixels and samples: what a reader gives can be compared with what was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

Frames = Iterable[NDArray[np.uint8]]  # RGB [H, W, 3]

CLOCK = 90_000  # Hz, of frames whose times are given


@dataclass(frozen=True)
class Track:
    """Sound to put into a film.

    Attributes:
        wave: float32 [C, T] in [-1, 1].
        rate: Hz.
        start: time of the first sample on the file's clock, s.
        codec: FFmpeg's name of the encoder.
        layout: FFmpeg's name of the channels' places.
        main: whether players take this track when left alone.
    """

    wave: NDArray[np.float32]
    rate: int = 16000
    start: float = 0.0
    codec: str = "aac"
    layout: str = "mono"
    main: bool = True


@dataclass(frozen=True)
class Film:
    """How a film is written.

    Attributes:
        fps: frames a second.
        times: time of each frame, s, where they are not evenly spaced.
        start: time of the first frame on the file's clock, s.
        codec, pixel_format, options: of the video's encoder.
        turn: degrees counterclockwise that the file asks to turn the frames by.
        mirrored: whether it also asks to swap left and right.
        pixel_aspect: width of a pixel over its height.
        cover: a picture attached as the first stream, as music players show one.
        container_options: of FFmpeg's muxer.
    """

    fps: Fraction | float = 25
    times: Sequence[float] | None = None
    start: float = 0.0
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    turn: int = 0
    mirrored: bool = False
    pixel_aspect: Fraction | None = None
    cover: NDArray[np.uint8] | None = None
    container_options: dict[str, str] = field(default_factory=dict)


def write_film(path: Path, frames: Frames, film: Film | None = None, tracks: Sequence[Track] = ()) -> Path:
    """Write frames and sound as told; the suffix chooses the container."""
    film = film or Film()
    frames = list(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=film.container_options) as container:
        cover = _add_cover(container, film.cover)
        video = _add_video(container, film, frames[0].shape)
        sounds = [_add_sound(container, track) for track in tracks]
        container.start_encoding()
        if cover is not None and film.cover is not None:
            container.mux(cover.encode(av.VideoFrame.from_ndarray(film.cover, format="rgb24")))
            container.mux(cover.encode(None))
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.time_base = video.codec_context.time_base
            seconds = film.start + (film.times[index] if film.times is not None else index / Fraction(film.fps))
            picture.pts = round(seconds / picture.time_base)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for stream, track in zip(sounds, tracks, strict=True):
            for packets in _encoded(stream, track):
                container.mux(packets)
    return path


def _add_cover(container: Any, cover: NDArray[np.uint8] | None) -> Any:
    if cover is None:
        return None
    stream = container.add_stream("mjpeg", rate=1, pix_fmt="yuvj420p")
    stream.height, stream.width = cover.shape[:2]
    stream.disposition = Disposition.attached_pic
    return stream


def _add_video(container: Any, film: Film, shape: tuple[int, ...]) -> Any:
    fps = Fraction(film.fps).limit_denominator(1001)
    stream = container.add_stream(film.codec, rate=fps, options=film.options)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = film.pixel_format
    if film.codec != "libx264":
        stream.bit_rate = 4_000_000
    fixed = film.codec in ("mpeg1video", "mpeg2video")  # such streams know their frame rate only
    if film.times is not None or (film.start and not fixed):
        stream.codec_context.time_base = Fraction(1, CLOCK)
    else:
        stream.codec_context.time_base = 1 / fps
    if film.pixel_aspect:
        stream.codec_context.sample_aspect_ratio = film.pixel_aspect
    if film.turn or film.mirrored:
        stream.set_display_rotation(film.turn, hflip=film.mirrored)
    return stream


def _add_sound(container: Any, track: Track) -> Any:
    stream = container.add_stream(track.codec, rate=track.rate, layout=track.layout)
    if track.codec == "aac":
        stream.bit_rate = 128_000
    stream.disposition = Disposition.default if track.main else Disposition.comment
    return stream


def _encoded(stream: Any, track: Track) -> Iterator[Any]:
    """Packets of a track, a tenth of a second of sound at a time."""
    piece = track.rate // 10
    for begin in range(0, track.wave.shape[1], piece):
        packed = np.ascontiguousarray(track.wave[:, begin : begin + piece].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=track.layout)
        frame.sample_rate, frame.time_base = track.rate, Fraction(1, track.rate)
        frame.pts = round(track.start * track.rate) + begin
        yield stream.encode(frame)
    yield stream.encode(None)


def write_wav(path: Path, wave: NDArray[np.float32], rate: int = 16000, layout: str = "mono") -> Path:
    """Write sound [C, T] as 16-bit PCM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="wav") as container:
        track = Track(wave, rate, codec="pcm_s16le", layout=layout)
        stream = _add_sound(container, track)
        for packets in _encoded(stream, track):
            container.mux(packets)
    return path


# Flashes and clicks: at the same time in picture and sound


def flashing(n_frames: int, flashes: Sequence[int], width: int = 4, size: tuple[int, int] = (48, 64)) -> Frames:
    """Black frames [H, W] with white ones: `width` of them from each index in `flashes`."""
    white = {flash + k for flash in flashes for k in range(width)}
    for index in range(n_frames):
        yield np.full((*size, 3), 255 if index in white else 0, np.uint8)


def clicking(seconds: float, clicks: Sequence[float], rate: int = 16000) -> NDArray[np.float32]:
    """Silence [1, T] with a click of 5 ms around each time, s."""
    wave = np.zeros(round(seconds * rate), np.float32)
    half = rate // 400
    for click in clicks:
        place = np.arange(-half, half + 1)
        wave[round(click * rate) + place] = 0.5 * np.hanning(2 * half + 1) * np.cos(2 * np.pi * 1000 * place / rate)
    return wave[None]


def seen(frames: NDArray[np.uint8], fps: float) -> list[float]:
    """Middle time of each flash in frames [F, H, W, 3], s; frame k stands for the time k / fps."""
    return [float(np.mean(run)) / fps for run in _runs(frames.mean(axis=(1, 2, 3)) > 127, longest_gap=1)]


def heard(wave: NDArray[np.float32], rate: int) -> list[float]:
    """Middle time of each click in a waveform [T], s: the centre of its energy."""
    runs = _runs(np.abs(wave) > 0.05, longest_gap=rate // 20)
    return [float(np.average(run, weights=wave[run].astype(np.float64) ** 2)) / rate for run in runs]


def _runs(high: NDArray[np.bool_], longest_gap: int) -> list[NDArray[np.int64]]:
    """Indices where `high`, cut wherever more than `longest_gap` lie between two."""
    places = np.flatnonzero(high)
    return np.split(places, np.flatnonzero(np.diff(places) > longest_gap) + 1) if len(places) else []
