"""A clip's words in other voices at the very times they were said, so that the clip's mouth still fits."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave as wave_file
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio import functional as AF

from dheads_cli.data.effects import fit, stretched
from dheads_cli.errors import DheadsError

PROGRAM = "espeak-ng"
SILENCE = 0.01  # of a word's peak: softer sound around it is cut off
FADE_S = 0.005  # at a word's ends, against clicks
LEVEL = 0.05  # root mean square over the words, about that of GRID


def respoken(words: Sequence[Mapping[str, Any]], voice: str, sample_rate: int, n_samples: int) -> NDArray[np.float32]:
    """Speak each word with eSpeak NG and stretch it, at its pitch, to last as long as it did.

    A voice of another language reads the English words by its own rules, so its vowels are not always those that the
    clip's mouth made: that is part of what such a voice tests.

    Args:
        words: {"word", "start", "end"} each, s; pauses are not among them (a GRID clip's `words` in its json).
        voice: of eSpeak NG, such as "en-us", "en+f3" or "de".
        sample_rate: Hz.
        n_samples: T.

    Returns:
        float32 [T] in [-1, 1], silent between the words.

    Raises:
        DheadsError: eSpeak NG is not installed, or knows no such voice.
    """
    spoken = np.zeros(n_samples, np.float32)
    for word in words:
        begin, end = (min(round(float(word[key]) * sample_rate), n_samples) for key in ("start", "end"))
        if end > begin:
            sound = _say(str(word["word"]), voice, sample_rate)
            piece = stretched(sound, sample_rate, (end - begin) / len(sound))[: end - begin]
            spoken[begin : begin + len(piece)] = piece * _fade(len(piece), round(FADE_S * sample_rate))
    power = np.mean(np.square(spoken[spoken != 0], dtype=np.float64)) if spoken.any() else 0.0
    return fit(spoken * LEVEL / np.sqrt(power)) if power else spoken


@lru_cache(maxsize=4096)
def _say(word: str, voice: str, sample_rate: int) -> NDArray[np.float32]:
    """A word's sound without the silence around it, float32 [t]."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise DheadsError(f"{PROGRAM} is not installed: apt-get install {PROGRAM}, or another system's package of it.")
    done = subprocess.run([program, "-v", voice, "--stdout", "--", word], capture_output=True, check=False)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DheadsError(f"{PROGRAM} -v {voice}: {said[-1] if said else 'no sound'}; voices: {PROGRAM} --voices")
    with wave_file.open(io.BytesIO(done.stdout)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    sound = AF.resample(torch.from_numpy(samples), rate, sample_rate).numpy()
    loud = np.flatnonzero(np.abs(sound) > SILENCE * np.abs(sound).max(initial=0.0))
    if not len(loud):
        raise DheadsError(f"{PROGRAM} -v {voice} says nothing for {word!r}.")
    trimmed: NDArray[np.float32] = sound[loud[0] : loud[-1] + 1]
    return trimmed


def _fade(n_samples: int, n_fade: int) -> NDArray[np.float32]:
    """1, rising from and falling to 0 in n_fade samples at the ends."""
    from_end = np.minimum(np.arange(n_samples), np.arange(n_samples)[::-1]) + 1
    return np.minimum(from_end / n_fade, 1).astype(np.float32)
