"""Words in other voices: each where it was said, as long as it was, in a voice that is another."""

import shutil

import numpy as np
import pytest

from dheads_cli.data.respoken import respoken
from dheads_cli.errors import DheadsError

RATE, N = 16000, 3 * 16000
WORDS = [
    {"word": "bin", "start": 0.5, "end": 0.72},
    {"word": "blue", "start": 0.72, "end": 1.0},
    {"word": "s", "start": 1.5, "end": 1.75},
    {"word": "again", "start": 2.5, "end": 2.9},
]
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@needs_espeak
@pytest.mark.parametrize("voice", ["en-us", "de", "ru"])
def test_words_lie_in_their_places_and_silence_between(voice):
    wave = respoken(WORDS, voice, RATE, N)
    assert (wave.shape, wave.dtype) == ((N,), np.float32)
    assert np.abs(wave).max() <= 1
    said = np.zeros(N, bool)
    for word in WORDS:
        begin, end = round(word["start"] * RATE), round(word["end"] * RATE)
        said[begin:end] = True
        loud = np.flatnonzero(np.abs(wave[begin:end]) > 0.05 * np.abs(wave[begin:end]).max())
        assert loud[0] < 0.03 * RATE  # of the word's start
        assert end - begin - loud[-1] < 0.06 * RATE  # final consonants fade
    assert not wave[~said].any()
    assert np.sqrt(np.mean(np.square(wave[said]))) == pytest.approx(0.05, rel=0.2)


@needs_espeak
def test_voices_differ():
    spectra = [np.abs(np.fft.rfft(respoken(WORDS, voice, RATE, N))) for voice in ("en-us", "en-us+f3", "de")]
    bands = np.array([spectrum[: N // 4].reshape(100, -1).mean(axis=1) for spectrum in spectra])  # of 40 Hz
    assert np.corrcoef(bands)[np.triu_indices(3, 1)].max() < 0.97


@needs_espeak
def test_an_unknown_voice_is_told():
    with pytest.raises(DheadsError, match=r"espeak-ng -v klingonish: .*; voices: espeak-ng --voices"):
        respoken(WORDS, "klingonish", RATE, N)


def test_without_espeak_there_is_a_clear_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DheadsError, match="espeak-ng is not installed: apt-get install espeak-ng"):
        respoken(WORDS, "fr", RATE, N)
