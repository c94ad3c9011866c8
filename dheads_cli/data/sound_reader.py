"""Sound out of files: mono, at any rate, each sample at its time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
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
    if start is None:
        return np.concatenate(list(stream_audio(path, sample_rate)))
    path = Path(path)
    pieces = list(_laid_out(path))
    begin, rate, _ = pieces[0]
    wave = _from(path, np.concatenate([wave for _, _, wave in pieces]), rate, start - begin)
    return np.concatenate(list(_resampled([wave], rate, sample_rate)))


def stream_audio(path: Path | str, sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """The sound that read_audio gives, in pieces of about a second, while the file is read: memory does not grow.

    Raises:
        UnusableClip: no sound in it, or damaged, which is told where the damage lies.
    """
    pieces = _laid_out(Path(path))
    _, rate, first = next(pieces)
    yield from _resampled(itertools.chain([first], (wave for _, _, wave in pieces)), rate, sample_rate)


def stated_seconds(path: Path) -> float | None:
    """How long a file says that its sound is, s; None where it does not. The sound may be longer or shorter.

    Raises:
        UnusableClip: no sound in it.
    """
    with open_media(path) as container:
        stream = sound_stream(path, container)
        return float(stream.duration * stream.time_base) if stream.duration else None


def _decode(path: Path, container: Any, stream: Any) -> Iterator[tuple[float | None, int, NDArray[np.float32]]]:
    """A file's sound in pieces: time on the file's clock where it is known, s; rate, Hz; mono [T]."""
    for frame in frames_of(path, container, stream):
        wave = mono_of(frame)
        if not np.isfinite(wave).all():
            raise UnusableClip("damaged", f"{path}: its sound holds values that are no numbers")
        yield frame.time, frame.sample_rate, np.clip(wave, -1, 1)


def _laid_out(path: Path) -> Iterator[tuple[float, int, NDArray[np.float32]]]:
    """A file's sound where its times say: silence in gaps, and what overlaps the piece before is cut off.

    Yields:
        Time of the first sample of all, s, rate in Hz, and a piece [T].
    """
    rate, n_samples, n_missing, begin = 0, 0, 0, 0.0
    with open_media(path) as container:
        stream = sound_stream(path, container)
        for time, piece_rate, wave in _decode(path, container, stream):
            if not rate:
                rate, begin = piece_rate, time or 0.0
            if piece_rate != rate:
                raise UnusableClip("damaged", f"{path}: the sample rate changes inside the file")
            gap = round((time - begin) * rate) - n_samples if time is not None else 0
            if gap > MAX_SILENCE_S * rate:
                raise UnusableClip("damaged", f"{path}: {gap / rate:.2f} s of its sound are missing")
            if gap > MAX_OUT_OF_STEP_S * rate:
                wave = np.pad(wave, (gap, 0))
                n_missing += gap
            elif gap < -MAX_OUT_OF_STEP_S * rate:
                n_missing += min(-gap, len(wave))
                wave = wave[-gap:]
            n_samples += len(wave)
            yield begin, rate, wave
        if not n_samples:
            raise UnusableClip("no sound", f"{path}: its audio stream holds no samples")
        if n_missing > MAX_MISSING * n_samples:
            raise UnusableClip("damaged", f"{path}: {n_missing / rate:.2f} s of its sound are missing")
        check_stream_length(path, stream, end=begin + n_samples / rate)


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


def _resampled(pieces: Iterable[NDArray[np.float32]], rate: int, sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Band-limited resampling by FFmpeg, without delay: of T samples in pieces come round(T sample_rate / rate)."""
    seconds = in_pieces_of(rate, pieces)
    if rate == sample_rate:
        yield from seconds
        return
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=sample_rate)
    n_in, n_out, last = 0, 0, [np.zeros(0, np.float32)]  # the last second waits: it is cut, or filled up, to the length
    for wave in seconds:  # given all at once, FFmpeg takes ten times the memory
        n_in += len(wave)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        done, last = last, [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        n_out += sum(map(len, done))
        yield from (np.clip(piece, -1, 1) for piece in done if len(piece))
    last += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    yield np.clip(fit_length(np.concatenate(last), round(n_in * sample_rate / rate) - n_out), -1, 1)


def in_pieces_of(n_samples: int, pieces: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Sound that comes in pieces of any length, in pieces of n_samples; the last one holds what is left."""
    waiting: list[NDArray[np.float32]] = []
    n_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        if n_waiting >= n_samples:
            wave = np.concatenate(waiting)
            for begin in range(0, n_waiting - n_samples + 1, n_samples):
                yield wave[begin : begin + n_samples]
            waiting, n_waiting = [wave[len(wave) - n_waiting % n_samples :]], n_waiting % n_samples
    if n_waiting:
        yield np.concatenate(waiting)


def fit_length(wave: NDArray[np.float32], n_samples: int) -> NDArray[np.float32]:
    """Cut a waveform [T], or put silence after it, so that it has exactly n_samples."""
    return np.pad(wave[:n_samples], (0, max(0, n_samples - len(wave))))
