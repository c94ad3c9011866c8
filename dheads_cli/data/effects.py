"""Changes of a waveform that leave every sound in its place: level, noise, room, voice, rate, timbre, overdrive.

Each takes float32 [T] in [-1, 1] and returns the same length and range; how far timing holds is said with each.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio import functional as AF

Wave = NDArray[np.float32]

NOISES = {"white": 0.0, "pink": 1.0, "brown": 2.0, "babble": None}  # name -> the power falls as 1 / f^this
BABBLE_VOICES = 6
SPEED_PERIOD_S = 0.83  # of the swing of `speed`
STRETCH_WINDOW_S = 0.016
FORMANT_WINDOW_S = 0.032


def fit(wave: NDArray[np.floating]) -> Wave:
    """As float32, scaled down where it would exceed [-1, 1]: nothing clips unless it is meant to."""
    peak = float(np.abs(wave).max(initial=0.0))
    return (wave / peak if peak > 1 else wave).astype(np.float32)


def gain(wave: Wave, level_db: float) -> Wave:
    """Change the level by level_db; a boost stops where the peak reaches 1. Timing: exact."""
    return fit(wave * 10 ** (level_db / 20))


def noise(wave: Wave, snr_db: float, colour: str, rng: np.random.Generator) -> Wave:
    """Add noise at a signal-to-noise ratio of snr_db between the mean powers of the two. Timing: exact.

    Args:
        wave: [T]; silence stays silence, since no ratio is defined for it.
        snr_db: 0 is as loud as the speech.
        colour: white, pink, brown, or babble: six copies of the speech itself, shifted and every other one reversed,
            which have the spectrum and the rhythm of voices and say nothing.
        rng: of the noise.
    """
    exponent = NOISES[colour]
    if exponent is None:
        shifts = rng.integers(len(wave), size=BABBLE_VOICES)
        added = sum(np.roll(wave[:: 1 - 2 * (i % 2)].astype(np.float64), shift) for i, shift in enumerate(shifts))
    else:
        spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
        spectrum[1:] /= np.arange(1, len(spectrum)) ** (exponent / 2)
        spectrum[0] = 0
        added = np.fft.irfft(spectrum, len(wave))
    power, power_added = np.mean(np.square(wave, dtype=np.float64)), np.mean(np.square(added))
    if power == 0 or power_added == 0:
        return wave
    return fit(wave + added * math.sqrt(power / power_added) * 10 ** (-snr_db / 20))


def impulse_response(sample_rate: int, rt60_s: float, drr_db: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A room's response as Gaussian noise that decays by 60 dB in rt60_s, after a direct path of 1 at time 0.

    (Moorer 1979's model of late reverberation.) drr_db is the ratio of the direct path's energy to the rest's.
    """
    times = np.arange(max(round(rt60_s * sample_rate), 2)) / sample_rate
    response = rng.standard_normal(len(times)) * 10 ** (-3 * times / rt60_s)
    response[0] = 0
    response *= 10 ** (-drr_db / 20) / np.linalg.norm(response)
    response[0] = 1
    return response


def reverb(wave: Wave, sample_rate: int, rt60_s: float, drr_db: float, rng: np.random.Generator) -> Wave:
    """The sound in a room (`impulse_response`), at the level it had. Timing: the direct sound is exact."""
    response = impulse_response(sample_rate, rt60_s, drr_db, rng)
    n = _fast_length(len(wave) + len(response))
    wet = np.fft.irfft(np.fft.rfft(wave, n) * np.fft.rfft(response, n), n)[: len(wave)]
    return _at_level_of(wave, wet)


def stretched(wave: Wave, sample_rate: int, ratio: float) -> Wave:
    """Make a sound longer by a ratio at the same pitch: [T] -> [ceil(T ratio)].

    A phase vocoder (torchaudio's) with 16 ms windows: onsets come within 5 ms of their place, where windows of 32 ms,
    better for music, blur them by 10 ms and FFmpeg's atempo, for 20 ms at least, moves them by 30 ms.
    """
    n_fft = 4 * round(STRETCH_WINDOW_S * sample_rate / 4)
    hop, window = n_fft // 4, torch.hann_window(n_fft)
    spectrum = torch.stft(torch.from_numpy(wave), n_fft, hop, window=window, return_complex=True, pad_mode="constant")
    advance = torch.linspace(0, math.pi * hop, n_fft // 2 + 1)[:, None]
    slower = AF.phase_vocoder(spectrum, 1 / ratio, advance)
    longer: Wave = torch.istft(slower, n_fft, hop, window=window, length=math.ceil(len(wave) * ratio)).numpy()
    return longer


def pitch(wave: Wave, sample_rate: int, semitones: float) -> Wave:
    """Shift pitch and formants alike, as a smaller or larger speaker has them. Timing: onsets within 5 ms.

    `stretched` makes the sound longer by the ratio, and resampling shortens it again. (torchaudio's pitch_shift
    resamples by a filter as long as its ratio has digits, which takes a thousand times as long.)
    """
    ratio = 2 ** (semitones / 12)
    longer = stretched(wave, sample_rate, ratio)
    if ratio > 1:  # what would fold over
        longer = _low_passed(longer, 1 / ratio)
    return _at_level_of(wave, _at(longer, np.arange(len(wave), dtype=np.float64) * ratio))


def formants(wave: Wave, sample_rate: int, percent: float) -> Wave:
    """Move the spectrum along the frequency axis by some percent: another vocal tract. Timing: exact to a sample.

    Vocal tract length perturbation (Jaitly & Hinton 2013) on the magnitudes of a 32 ms spectrogram; phases stay, so
    the pitch does to the ear, while harmonics near each other are weighed anew.
    """
    n_fft = 4 * round(FORMANT_WINDOW_S * sample_rate / 4)
    hop, window = n_fft // 4, torch.hann_window(n_fft)
    spectrum = torch.stft(torch.from_numpy(wave), n_fft, hop, window=window, return_complex=True, pad_mode="constant")
    n_bins = len(spectrum)
    places = (torch.arange(n_bins) / (1 + percent / 100)).clamp(max=n_bins - 1)
    below = places.long().clamp(max=n_bins - 2)
    share = (places - below)[:, None]
    # The smooth part of the magnitudes moves; the harmonics, which are its ripple, stay with their phases.
    envelope = _smooth(spectrum.abs(), n_bins // 32)
    moved = envelope[below] * (1 - share) + envelope[below + 1] * share
    warped = torch.istft(spectrum * (moved / envelope.clamp(min=1e-8)), n_fft, hop, window=window, length=len(wave))
    return _at_level_of(wave, warped.numpy())


def speed(wave: Wave, sample_rate: int, percent: float, phase: float) -> Wave:
    """Let the rate swing by +-percent, as a tape's. Timing: at 15 % no sound moves by more than 20 ms, half a frame.

    A lasting change of speed would part sound and picture. Here sample t comes from t + a sin(2 pi t / P + phase) with
    P = 0.83 s, and a = percent / 100 * P / 2 pi gives the rate its extremes: 19.8 ms at 15 %.

    Args:
        wave: [T].
        sample_rate: Hz.
        percent: of the rate.
        phase: where in its swing the rate begins, radians.
    """
    period = SPEED_PERIOD_S * sample_rate
    times = np.arange(len(wave))
    swing = percent / 100 * period / (2 * math.pi) * np.sin(2 * math.pi * times / period + phase)
    return fit(_at(wave, times + swing))


def band(wave: Wave, sample_rate: int, levels_db: NDArray[np.float64]) -> Wave:
    """Equaliser with zero phase: a level for each octave below sample_rate / 2, the highest first. Timing: exact.

    Between the octaves' middles the level in dB is linear in log frequency; the speech keeps its loudness.
    """
    n = _fast_length(len(wave) + sample_rate // 4)  # room, so that the end does not ring into the beginning
    frequencies = np.fft.rfftfreq(n, 1 / sample_rate)
    middles = sample_rate / 2 / 2 ** (np.arange(len(levels_db)) + 0.5)
    curve = np.interp(np.log2(np.maximum(frequencies, 1)), np.log2(middles[::-1]), levels_db[::-1])
    shaped = np.fft.irfft(np.fft.rfft(wave, n) * 10 ** (curve / 20), n)[: len(wave)]
    return _at_level_of(wave, shaped)


def clipping(wave: Wave, depth_db: float) -> Wave:
    """Cut off everything within depth_db of the peak, as an overdriven input does. Timing: exact.

    What is left is brought back to the old peak.
    """
    peak = float(np.abs(wave).max(initial=0.0))
    limit = peak * 10 ** (-depth_db / 20)
    return wave if peak == 0 else fit(np.clip(wave, -limit, limit) * (peak / limit))


def _at(wave: NDArray[np.floating], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """A waveform between its samples, by cubic (Catmull-Rom) interpolation; silence beyond the ends."""
    padded = np.pad(wave.astype(np.float64), 2)
    inside = np.clip(places + 2, 1, len(padded) - 3)
    whole = inside.astype(np.int64)
    x = inside - whole
    a, b, c, d = (padded[whole + i] for i in (-1, 0, 1, 2))
    between = b + 0.5 * x * (c - a + x * (2 * a - 5 * b + 4 * c - d + x * (3 * (b - c) + d - a)))
    return np.where((places > -1) & (places < len(wave)), between, 0.0)


def _low_passed(wave: Wave, share: float) -> Wave:
    """Without the frequencies above a share of the highest."""
    spectrum = np.fft.rfft(wave)
    spectrum[round(share * len(spectrum)) :] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


def _smooth(magnitudes: torch.Tensor, reach: int) -> torch.Tensor:
    """Mean over 2 reach + 1 bins of each column [bins, columns]."""
    columns = magnitudes.T[:, None]
    mean = torch.nn.functional.avg_pool1d(columns, 2 * reach + 1, 1, reach, count_include_pad=False)
    return mean[:, 0].T


def _at_level_of(wave: Wave, changed: NDArray[np.floating]) -> Wave:
    """The changed sound with the mean power of the wave it came from, unless its peaks forbid it."""
    power, power_now = np.mean(np.square(wave, dtype=np.float64)), np.mean(np.square(changed, dtype=np.float64))
    return fit(changed * math.sqrt(power / power_now)) if power_now > 0 else fit(changed)


def _fast_length(n: int) -> int:
    return int(2 ** math.ceil(math.log2(n)))
