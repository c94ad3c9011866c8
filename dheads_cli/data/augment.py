"""Waveform augmentation: other levels, rooms, voices and lines for the same words at the same times.

Each function takes a waveform float32 [T] in [-1, 1] and returns one of the same length whose sound lies where it was:
embeddings of it still belong to the video frames. How far that holds is said with each and tested with a click.
`AUGMENTATIONS` is the same by name, with one strength for all: 0 leaves a waveform as it is, 1 is strong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio import functional as AF

from dheads_cli.data.codecs import CODECS, NARROW, codec

Wave = NDArray[np.float32]
Augmentation = Callable[[Wave, int, float, np.random.Generator], Wave]

VERSION = 1  # of what these functions compute: embeddings kept on disk are made anew when it grows
NOISES = {"white": 0.0, "pink": 1.0, "brown": 2.0, "babble": None}  # name -> the power falls as 1 / f^this
BABBLE_VOICES = 6
SPEED_REACH_S = 0.02  # half a frame at 25 fps: how far `speed` moves any sound
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
    return _at_level_of(wave, _at(longer, np.arange(len(wave)) * ratio))


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
    """Let the rate wander by up to +-percent, as a tape's. Timing: no sound moves by more than half a frame (20 ms).

    A lasting change of speed would part sound and picture. This one swings: sample t comes from t + d(t) with
    d(t) = a sin(2 pi t / P + phase), a = 20 ms and P so that the rate 1 + d' stays within +-percent.

    Args:
        wave: [T].
        sample_rate: Hz.
        percent: of the rate, above 0.
        phase: where in its swing the rate begins, radians.
    """
    period_s = 2 * math.pi * SPEED_REACH_S / (percent / 100)
    times = np.arange(len(wave))
    swing = SPEED_REACH_S * sample_rate * np.sin(2 * math.pi * times / (period_s * sample_rate) + phase)
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


def _gain(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """20 dB softer or louder at 1."""
    return gain(wave, float(rng.choice([-20.0, 20.0])) * strength)


def _noise(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """White, pink, brown or babble: from 40 dB SNR near 0 to 0 dB at 1."""
    return noise(wave, 40 - 40 * strength, str(rng.choice(list(NOISES))), rng)


def _reverb(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """At 1: RT60 1 s, direct and reverberant sound equally strong (near 0: 0 s, 10 dB)."""
    return reverb(wave, sample_rate, strength, 10 - 10 * strength, rng)


def _pitch(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """4 semitones down or up at 1."""
    return pitch(wave, sample_rate, float(rng.choice([-4.0, 4.0])) * strength)


def _formants(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """20 % down or up at 1."""
    return formants(wave, sample_rate, float(rng.choice([-20.0, 20.0])) * strength)


def _speed(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """The rate wanders by 15 % at 1."""
    return speed(wave, sample_rate, 15 * strength, rng.uniform(0, 2 * math.pi))


def _codec(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """MP3, AAC or Opus, from 64 kb/s near 0 to 8 kb/s at 1; from 0.5 on also the telephone's mu-law and AMR."""
    names = [name for name in CODECS if strength >= 0.5 or name not in NARROW]
    return codec(wave, sample_rate, str(rng.choice(names)), 64 * (8 / 64) ** strength)


def _band(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """Each octave above 60 Hz up to 15 dB down or up at 1."""
    n_octaves = max(math.ceil(math.log2(sample_rate / 2 / 60)), 1)  # down to 60 Hz
    return band(wave, sample_rate, rng.uniform(-15, 15, n_octaves) * strength)


def _clipping(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """What is within 24 dB of the peak, at 1."""
    return clipping(wave, 24 * strength)


def _unless_off(kind: Augmentation) -> Augmentation:
    def augment(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
        return wave if strength == 0 or not len(wave) else kind(wave, sample_rate, strength, rng)

    return augment


# name -> function(wave [T], sample_rate, strength in 0 ... 1, rng) -> wave [T]; the same rng gives the same bytes.
AUGMENTATIONS: Mapping[str, Augmentation] = {
    "gain": _unless_off(_gain),
    "noise": _unless_off(_noise),
    "reverb": _unless_off(_reverb),
    "pitch": _unless_off(_pitch),
    "formants": _unless_off(_formants),
    "speed": _unless_off(_speed),
    "codec": _unless_off(_codec),
    "band": _unless_off(_band),
    "clipping": _unless_off(_clipping),
}
ORDER = ("pitch", "formants", "speed", "reverb", "noise", "band", "gain", "clipping", "codec")  # as sound travels


def augmented(
    wave: Wave, sample_rate: int, settings: Mapping[str, tuple[float, float]], rng: np.random.Generator
) -> Wave:
    """Apply each kind with its probability, in the order of AUGMENTATIONS: voice, room, noise, then the line.

    Args:
        wave: [T] in [-1, 1].
        sample_rate: Hz.
        settings: kind -> (probability, largest strength); a strength is uniform in 0 ... the largest.
        rng: of every draw.
    """
    for name in ORDER:
        probability, largest = settings.get(name, (0.0, 0.0))
        happens, strength = rng.random() < probability, rng.uniform(0, largest)
        if happens:
            wave = AUGMENTATIONS[name](wave, sample_rate, strength, np.random.default_rng(rng.integers(2**63)))
    return wave


def _at(wave: NDArray[np.floating], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """A waveform between its samples, by cubic (Catmull-Rom) interpolation; silence beyond the ends."""
    padded = np.pad(wave.astype(np.float64), 2)
    inside = np.clip(places + 2, 1, len(padded) - 3)
    whole = inside.astype(np.int64)
    x = inside - whole
    a, b, c, d = (padded[whole + i] for i in (-1, 0, 1, 2))
    between = b + 0.5 * x * (c - a + x * (2 * a - 5 * b + 4 * c - d + x * (3 * (b - c) + d - a)))
    return np.where((places > -1) & (places < len(wave)), between, 0.0)


def _low_passed(wave: NDArray[np.floating], share: float) -> NDArray[np.float64]:
    """Without the frequencies above a share of the highest."""
    spectrum = np.fft.rfft(wave)
    spectrum[round(share * len(spectrum)) :] = 0
    return np.fft.irfft(spectrum, len(wave))


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
