"""Do these lips move with this sound? The mouth's opening beside the loudness of speech, frame by frame.

Both are quickened first, each frame less the mean of the 9 around it: what is slower than a syllable (silence before a
sentence, a mouth that stays open) is alike in all speakers and says nothing of who speaks or when. On 246 GRID clips of
nine speakers that alone raises the share whose highest r lies within a frame of the right lag from 50 to 89 %.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.mouth import shifted

if TYPE_CHECKING:
    Signal = NDArray[np.float64]  # [F], one value a frame

QUICK_FRAMES = 9  # window of the mean that is taken away: 0.36 s at 25 fps
LOWEST_BAND_HZ, HIGHEST_BAND_HZ = 125.0, 8000.0
FLOOR_DB = 60.0  # below the loudest band of the clip; what is fainter is no speech
MAX_LAG_FRAMES = 15
PEAK_FRAMES = 3  # on either side of a peak all that belongs to it
USUAL_LAG_FRAMES = 1  # of clips in step: lips, as detectors see them, are a frame late
IN_STEP_FRAMES = range(USUAL_LAG_FRAMES - 2, USUAL_LAG_FRAMES + 3)
LAG_COST = 0.01  # of r, for each frame that a lag is away from the usual one


def loudness(waveform: NDArray[np.float32], n_frames: int, sample_rate: int) -> Signal:
    """Mean log power of half-octave bands around each frame: sound [T] that spans n_frames frames -> [F].

    The mean over bands counts a faint consonant's band as much as a loud vowel's.
    """
    per_frame = len(waveform) / n_frames
    width = max(2, round(2 * per_frame))
    starts = np.round((np.arange(n_frames) + 0.5) * per_frame).astype(int)  # in the padded sound: half a window earlier
    padded = np.pad(waveform.astype(np.float64), (width // 2, width))
    windows = padded[starts[:, None] + np.arange(width)] * np.hanning(width)  # [F, 2 T / F]
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    bands = []
    frequencies, low = np.fft.rfftfreq(width, 1 / sample_rate), LOWEST_BAND_HZ
    while low < min(HIGHEST_BAND_HZ, sample_rate / 2):
        inside = (frequencies >= low) & (frequencies < low * math.sqrt(2))
        if inside.any():
            bands.append(power[:, inside].sum(axis=1))
        low *= math.sqrt(2)
    levels = np.log(np.stack(bands) + 1e-12)
    return np.asarray(np.maximum(levels, levels.max() - FLOOR_DB / 10 * math.log(10)).mean(axis=0))


def quickened(signal: Signal, width: int = QUICK_FRAMES) -> Signal:
    """A signal [F] less its centred running mean over `width` frames, an odd number; the ends are repeated."""
    padded = np.pad(signal, width // 2, mode="edge")
    return np.asarray(signal - np.convolve(padded, np.full(width, 1 / width), mode="valid"))


def correlations(opening: Signal, loud: Signal, lags: range) -> Signal:
    """Pearson r of quickened opening [F] and loudness [F] at each lag, frames by which the lips are behind the sound; 0
    where either does not change."""
    opening, loud, found = quickened(opening), quickened(loud), []
    for lag in lags:
        lips, sound = shifted(opening, loud, lag)
        found.append(_pearson(lips - lips.mean(), sound - sound.mean()))
    return np.array(found)


def _pearson(a: Signal, b: Signal) -> float:
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 1e-9 else 0.0


def estimate_lag(opening: Signal, loud: Signal) -> tuple[int, float]:
    """Frames by which the lips are behind the sound, and how clear that is.

    Clips that are in step give 1 with MediaPipe, as lips and detector are a frame late themselves. Lags of up to 15
    frames are tried, in short clips of up to a third of their length; of two that fit nearly alike the one nearer to
    1 is taken. docs/FACES.md says how often it is right.

    Returns:
        The lag; and its r less the highest one more than 3 frames away, in 0 ... 2 (0 where that one is higher).
    """
    most = min(MAX_LAG_FRAMES, len(opening) // 3)
    lags = range(-most, most + 1)
    values = correlations(opening, loud, lags)
    best = int((values - LAG_COST * np.abs(np.array(lags) - USUAL_LAG_FRAMES)).argmax())
    far = np.abs(np.arange(len(values)) - best) > PEAK_FRAMES
    return lags[best], max(0.0, float(values[best] - values[far].max())) if far.any() else 0.0


def speaking(opening: Signal, loud: Signal) -> float:
    """How well lips [F] move with the sound [F] where the two are in step: Pearson r."""
    return float(correlations(opening, loud, IN_STEP_FRAMES).max())
