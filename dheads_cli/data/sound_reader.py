"""Sound out of files: mono, at any rate, each sample at its time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.media_file import check_stream_length, frames_of, open_media, sound_stream
from dheads_cli.errors import UnusableClip

MAX_OUT_OF_STEP_S = 0.01  # that samples may lie from their timestamps: containers round those to a few ms
MAX_SILENCE_S = 10.0  # that a file's timestamps may leave without samples, before or between them
MAX_MISSING = 0.1  # share of the sound that they may leave without samples in all


def read_audio(path: Path | str, sample_rate: int, start: float | None = None) -> NDArray[np.float32]:
    """Decode sound to mono, the mean of its channels as it is: neither louder nor softer.

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
    with open_media(path) as container:
        stream = sound_stream(path, container)
        wave, rate, begin = _laid_out(path, _decode(path, container, stream))
        check_stream_length(path, stream, end=begin + len(wave) / rate)
    if start is not None:
        wave = _from(path, wave, rate, start - begin)
    return _resample(wave, rate, sample_rate)


def _decode(path: Path, container: Any, stream: Any) -> Iterator[tuple[float | None, int, NDArray[np.float32]]]:
    """A file's sound in pieces: time on the file's clock where it is known, s; rate, Hz; mono [T]."""
    for frame in frames_of(path, container, stream):
        wave = mono_of(frame)
        if not np.isfinite(wave).all():
            raise UnusableClip("damaged", f"{path}: its sound holds values that are no numbers")
        yield frame.time, frame.sample_rate, np.clip(wave, -1, 1)


def _laid_out(
    path: Path, pieces: Iterator[tuple[float | None, int, NDArray[np.float32]]]
) -> tuple[NDArray[np.float32], int, float]:
    """Lay pieces where their times say: silence in gaps, and what overlaps the piece before is cut off.

    Returns:
        Waveform [T], its rate in Hz, and the time of its first sample, s.
    """
    laid: list[NDArray[np.float32]] = []
    rate, n_samples, n_missing, begin = 0, 0, 0, 0.0
    for time, piece_rate, wave in pieces:
        if not rate:
            rate, begin = piece_rate, time or 0.0
        if piece_rate != rate:
            raise UnusableClip("damaged", f"{path}: the sample rate changes inside the file")
        gap = round((time - begin) * rate) - n_samples if time is not None else 0
        if gap > MAX_SILENCE_S * rate:
            raise UnusableClip("damaged", f"{path}: {gap / rate:.2f} s of its sound are missing")
        if gap > MAX_OUT_OF_STEP_S * rate:
            laid.append(np.zeros(gap, np.float32))
            n_missing += gap
        elif gap < -MAX_OUT_OF_STEP_S * rate:
            n_missing += min(-gap, len(wave))
            wave = wave[-gap:]
        else:
            gap = 0
        laid.append(wave)
        n_samples += max(gap, 0) + len(wave)
    if not n_samples:
        raise UnusableClip("no sound", f"{path}: its audio stream holds no samples")
    if n_missing > MAX_MISSING * n_samples:
        raise UnusableClip("damaged", f"{path}: {n_missing / rate:.2f} s of its sound are missing")
    return np.concatenate(laid), rate, begin


def _from(path: Path, wave: NDArray[np.float32], rate: int, start: float) -> NDArray[np.float32]:
    """A waveform [T] from `start` s after its first sample, or with silence before it where that is negative."""
    n_samples = round(start * rate)
    if n_samples < -MAX_SILENCE_S * rate:
        raise UnusableClip("no sound", f"{path}: its sound begins {-start:.2f} s after the picture")
    if n_samples >= len(wave):
        raise UnusableClip("no sound", f"{path}: its sound ends before the picture begins")
    return np.pad(wave, (-n_samples, 0)) if n_samples < 0 else wave[n_samples:]


def mono_of(frame: Any) -> NDArray[np.float32]:
    """Mean of the channels of a decoded frame, float32 [T]. (FFmpeg's own mono weighs each of two with 0.71.)"""
    if frame.format.is_planar and frame.layout.nb_channels >= 8:
        # PyAV 18 takes the planes of such a frame for one more than they are, and ends the process in reading it.
        packed = av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate)
        frame = packed.resample(frame)[0]
    samples = frame.to_ndarray()  # planar [channels, T], packed [1, T * channels]
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) / 128 - 1
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    mean: NDArray[np.float32] = samples.astype(np.float32).mean(axis=0)
    return mean


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
