"""A made-up corpus of words that are tones: each clip says two, whose times are known."""

from pathlib import Path

import numpy as np
from corpus import FPS, RATE, SIZE, write_corpus

from dheads_cli.data.stored_clip import StoredClip

TONES_HZ = {"low": 220.0, "middle": 660.0, "high": 1980.0}
N_FRAMES = 24
MIDDLES_S = (0.24, 0.72)
WORD_S = 0.24


def make_word_clip(number: int, split: str, words: tuple[str, ...]) -> StoredClip:
    """A black clip that says `words` in faint noise, the phase its own."""
    rng = np.random.default_rng(number)
    t = np.arange(round(N_FRAMES / FPS * RATE)) / RATE
    wave = 0.002 * rng.standard_normal(len(t))
    said = []
    for word, middle in zip(words, MIDDLES_S, strict=False):
        inside = np.abs(t - middle) < WORD_S / 2
        wave += 0.2 * inside * np.sin(2 * np.pi * TONES_HZ[word] * t + rng.uniform(0, 6))
        said.append({"word": word, "start": middle - WORD_S / 2, "end": middle + WORD_S / 2})
    frames = np.zeros((N_FRAMES, SIZE, SIZE, 3), np.uint8)
    landmarks = np.zeros((N_FRAMES, 68, 2), np.float32)
    info = {"text": " ".join(words), "words": said}
    return StoredClip(
        f"s1/clip{number}", "s1", split, frames, wave.astype(np.float32), landmarks, FPS, RATE, info
    )  # fmt: skip


def make_word_corpus(folder: Path) -> Path:
    """Six clips to train on, three each to validate and test with; every word follows every other."""
    pairs = [(a, b) for a in TONES_HZ for b in TONES_HZ if a != b]
    which = [("train", pair) for pair in pairs] + [(split, pair) for split in ("val", "test") for pair in pairs[::2]]
    return write_corpus(folder, [make_word_clip(number, *each) for number, each in enumerate(which)])
