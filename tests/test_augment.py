"""Waveform augmentation: what is asked for is done, and every sound stays where it was."""

import math
from pathlib import Path

import numpy as np
import pytest

from dheads_cli.data import augment
from dheads_cli.data.augment import AUGMENTATIONS, DESCRIPTIONS
from dheads_cli.data.codecs import CODECS, codec
from dheads_cli.data.media import read_audio

RATE = 16000
CLICK = RATE  # sample
# How far the click may move, ms: half a frame for speed, the pitch's window; a sample or two otherwise.
SYNC_MS = {name: 0.2 for name in AUGMENTATIONS} | {"speed": 20.0, "pitch": 5.0, "codec": 1.0}
GRID = Path(__file__).parent / "data" / "grid" / "s1" / "bbaf2n.mp4"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read_audio(GRID, RATE)


def click() -> np.ndarray:
    """1 ms of noise after one second, in the middle of two seconds of faint noise."""
    rng = np.random.default_rng(0)
    wave = (1e-4 * rng.standard_normal(2 * RATE)).astype(np.float32)
    wave[CLICK : CLICK + 16] = 0.7 * np.hanning(16) * rng.choice([-1, 1], 16)
    return wave


def place_ms(wave: np.ndarray) -> float:
    """Where the loudest 4 ms are, their middle, ms after where the click is."""
    energy = np.convolve(np.square(wave, dtype=np.float64), np.hanning(64), "same")
    return (int(energy.argmax()) - (CLICK + 7.5)) * 1000 / RATE


def level_db(wave: np.ndarray) -> float:
    return 10 * math.log10(np.mean(np.square(wave, dtype=np.float64)))


def peak_hz(wave: np.ndarray) -> float:
    n = 1 << 18
    middle = wave[len(wave) // 4 : -len(wave) // 4]
    return float(np.abs(np.fft.rfft(middle * np.hanning(len(middle)), n)).argmax() * RATE / n)


def tone(hz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(2 * RATE) / RATE)).astype(np.float32)


def test_every_kind_says_what_strength_1_is():
    assert set(DESCRIPTIONS) == set(AUGMENTATIONS) == set(augment.ORDER)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_length_and_range_hold_and_the_sound_changes(name, strength, speech):
    changed = AUGMENTATIONS[name](speech, RATE, strength, np.random.default_rng(1))
    assert changed.shape == speech.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert np.abs(changed).max() <= 1
    assert np.abs(changed - speech).max() > 1e-3


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_strength_0_changes_nothing_and_a_generator_decides_all(name, speech):
    kind = AUGMENTATIONS[name]
    assert np.array_equal(kind(speech, RATE, 0.0, np.random.default_rng(1)), speech)
    a, b = (kind(speech, RATE, 0.7, np.random.default_rng(3)) for _ in range(2))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_a_click_stays_in_its_place(name, seed):
    changed = AUGMENTATIONS[name](click(), RATE, 0.9, np.random.default_rng(seed))
    if name == "noise":  # the click is all the power there is: at 4 dB SNR the noise between is small
        assert abs(place_ms(changed)) <= SYNC_MS[name]
    assert abs(place_ms(changed)) <= SYNC_MS[name]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_silence_and_a_short_piece_are_safe(name):
    for wave in (np.zeros(RATE, np.float32), tone(300)[:400], np.zeros(0, np.float32)):
        changed = AUGMENTATIONS[name](wave, RATE, 1.0, np.random.default_rng(0))
        assert changed.shape == wave.shape
        assert np.isfinite(changed).all()
