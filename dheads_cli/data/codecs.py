"""Sound through a real codec and back, in step: what a phone call or a web video leaves of speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio import functional as AF

from dheads_cli.data.media import fit_length


@dataclass(frozen=True)
class Codec:
    """One of FFmpeg's codecs as PyAV brings it.

    Attributes:
        encoder, decoder: FFmpeg's names.
        format: of the samples the encoder takes.
        rate_hz: that it encodes.
        rate_out_hz: that it decodes to.
        delay: samples at rate_out_hz by which the decoded sound is late (measured; a test holds it).
        kbps: range of bit rates it takes; None where there is but one.
    """

    encoder: str
    decoder: str
    format: str
    rate_hz: int
    rate_out_hz: int
    delay: int
    kbps: tuple[float, float] | None


CODECS: Mapping[str, Codec] = {
    "mp3": Codec("libmp3lame", "mp3float", "fltp", 16000, 16000, 0, (8, 64)),
    "aac": Codec("aac", "aac", "fltp", 16000, 16000, 1024, (8, 64)),
    "opus": Codec("libopus", "libopus", "s16", 16000, 48000, 0, (6, 64)),
    "mulaw": Codec("pcm_mulaw", "pcm_mulaw", "s16", 8000, 8000, 0, None),
    # Its best mode, GSM-EFR's: the lower ones drop clicks, and what is lost there can't be told from what is late.
    "amr": Codec("libopencore_amrnb", "libopencore_amrnb", "s16", 8000, 8000, 45, (12.2, 12.2)),
}
NARROW = tuple(name for name, entry in CODECS.items() if entry.rate_hz == 8000)  # the telephone's band


def codec(wave: NDArray[np.float32], sample_rate: int, name: str, kbps: float) -> NDArray[np.float32]:
    """Encode and decode; the codec's delay is taken out. Timing: within 1 ms.

    Args:
        wave: float32 [T] in [-1, 1].
        sample_rate: Hz; the codec hears 16 kHz, or 8 kHz (mulaw, amr).
        name: of CODECS.
        kbps: kilobits a second, brought into the range the codec takes.
    """
    chosen = CODECS[name]
    heard = np.clip(_resample(wave, sample_rate, chosen.rate_hz), -1, 1)
    decoded = _round_trip(chosen, heard, kbps)
    restored = _resample(decoded[chosen.delay :], chosen.rate_out_hz, sample_rate)
    return np.clip(fit_length(restored, len(wave)), -1, 1)


def _round_trip(chosen: Codec, wave: NDArray[np.float32], kbps: float) -> NDArray[np.float32]:
    """float32 [T] at rate_hz -> float32 [~T + delay] at rate_out_hz."""
    encoder: Any = av.CodecContext.create(chosen.encoder, "w")
    encoder.sample_rate, encoder.layout, encoder.format = chosen.rate_hz, "mono", chosen.format
    encoder.time_base = Fraction(1, chosen.rate_hz)
    if chosen.kbps:
        encoder.bit_rate = round(min(max(kbps, chosen.kbps[0]), chosen.kbps[1]) * 1000)
    encoder.open()
    decoder: Any = av.CodecContext.create(chosen.decoder, "r")
    decoder.sample_rate, decoder.layout = chosen.rate_out_hz, "mono"
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    packets = [packet for frame in _frames(encoder, wave) for packet in encoder.encode(frame)]
    decoded = [frame.to_ndarray().reshape(-1) for packet in packets for frame in decoder.decode(packet)]
    samples = np.concatenate([*decoded, *(frame.to_ndarray().reshape(-1) for frame in decoder.decode(None))])
    return samples.astype(np.float32) / np.float32(32768 if samples.dtype == np.int16 else 1)


def _frames(encoder: Any, wave: NDArray[np.float32]) -> Iterator[av.AudioFrame | None]:
    """The sound in frames of the encoder's size and format, silence after it so that all of it comes out; then None."""
    size = encoder.frame_size or 1024
    padded = fit_length(wave, -(-(len(wave) + size) // size) * size)
    samples = np.round(padded * 32767).astype(np.int16) if encoder.format.name == "s16" else padded
    for begin in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + size], encoder.format.name, "mono")
        frame.sample_rate, frame.pts, frame.time_base = encoder.sample_rate, begin, encoder.time_base
        yield frame
    yield None


def _resample(wave: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    if rate == wanted:
        return wave
    resampled: NDArray[np.float32] = AF.resample(torch.from_numpy(np.ascontiguousarray(wave)), rate, wanted).numpy()
    return resampled
