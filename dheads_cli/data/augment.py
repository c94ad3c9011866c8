"""Waveform augmentation: other levels, rooms, voices and lines for the same words at the same times.

`AUGMENTATIONS` has each kind by name with one strength for all: 0 leaves a waveform as it is, 1 is strong. Length and
timing hold, so embeddings of the sound still belong to the video frames: `effects.py` and `codecs.py` say how closely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from dheads_cli.data.codecs import CODECS, NARROW, codec
from dheads_cli.data.effects import (
    NOISES,
    Wave,
    band,
    clipping,
    formants,
    gain,
    noise,
    pitch,
    reverb,
    speed,
)

Augmentation = Callable[[Wave, int, float, np.random.Generator], Wave]

VERSION = 1  # of what these functions compute: embeddings kept on disk are made anew when it grows


def _gain(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """20 dB softer or louder at 1."""
    return gain(wave, float(rng.choice([-20.0, 20.0])) * strength)


def _noise(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """White, pink, brown or babble: from 40 dB SNR near 0 to 0 dB at 1."""
    return noise(wave, 40 - 40 * strength, str(rng.choice(list(NOISES))), rng)


def _reverb(wave: Wave, sample_rate: int, strength: float, rng: np.random.Generator) -> Wave:
    """At 1: RT60 1 s, direct and reverberant sound equally strong (near 0: 20 ms, 10 dB)."""
    return reverb(wave, sample_rate, max(strength, 0.02), 10 - 10 * strength, rng)


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
ORDER = ("pitch", "formants", "speed", "reverb", "noise", "band", "gain", "clipping", "codec")


def augmented(
    wave: Wave, sample_rate: int, settings: Mapping[str, tuple[float, float]], rng: np.random.Generator
) -> Wave:
    """Apply each kind with its probability, in the order in which sound travels: voice, room, noise, then the line.

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
