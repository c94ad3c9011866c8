"""Mel-frequency cepstra as SyncNet was trained on: those of python_speech_features with its defaults.

That package has had no release since 2017; these are its numbers, to 1e-9 of the largest (a test compares).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

SAMPLE_RATE, WINDOW, HOP, N_FFT = 16000, 400, 160, 512  # 25 ms and 10 ms, in samples
N_FILTERS, N_CEPS, LIFTER, PRE_EMPHASIS = 26, 13, 22, 0.97
TINY = np.finfo(float).eps


def mfcc(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cepstra of sound at 16 kHz; number 0 is the log energy instead.

    Args:
        waveform: [T], at least one window long, as 16-bit sound's values: -32768 ... 32767.

    Returns:
        float64 [ceil((T - 400) / 160) + 1, 13]; number j is of samples 160 j ... 160 j + 399, with zeros at the end.
    """
    wave = waveform.astype(np.float64)
    emphasised = np.append(wave[:1], wave[1:] - PRE_EMPHASIS * wave[:-1])
    n_windows = 1 + max(0, -(-(len(wave) - WINDOW) // HOP))
    padded = np.pad(emphasised, (0, max(0, (n_windows - 1) * HOP + WINDOW - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:n_windows]
    power = np.abs(np.fft.rfft(windows, N_FFT)) ** 2 / N_FFT  # [N, 257]
    bands = np.maximum(power @ mel_filters().T, TINY)
    ceps = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :N_CEPS]
    ceps *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(N_CEPS) / LIFTER)
    ceps[:, 0] = np.log(np.maximum(power.sum(axis=1), TINY))
    return np.asarray(ceps)


def mel_filters() -> NDArray[np.float64]:
    """Triangles between equal steps in mel from 0 to 8 kHz, their corners at whole bins: [26, 257]."""
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), N_FILTERS + 2)
    corners = np.floor((N_FFT + 1) * 700 * (10 ** (mel / 2595) - 1) / SAMPLE_RATE)
    low, middle, high = (corners[i : i + N_FILTERS, None] for i in range(3))
    bins = np.arange(N_FFT // 2 + 1)
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.asarray(np.clip(np.minimum(rising, falling), 0, None))
