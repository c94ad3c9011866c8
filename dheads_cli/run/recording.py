"""The speech that `dheads animate` is given: a file or standard input, and how loud the network hears it."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.quality import SILENCE_DBFS, speech_level
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import frames_of

STDIN = "-"
MIN_SPEECH_S = 0.1
MAX_GAIN_DB = 30.0  # what is softer than that is noise, not speech


@contextlib.contextmanager
def as_file(speech: Path) -> Iterator[Path]:
    """A recording as a file: itself, or, for `-`, a temporary one with all of standard input.

    Raises:
        DheadsError: nobody writes to standard input; and any of the block's, which then names standard input.
    """
    if str(speech) != STDIN:
        yield speech
        return
    if sys.stdin.isatty():
        raise DheadsError("-: standard input is this terminal; pipe a recording into it, or name a file.")
    with tempfile.TemporaryDirectory(prefix="dheads-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield path
        except DheadsError as error:
            raise DheadsError(str(error).replace(str(path), "standard input")) from error


def read_speech(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """The recording, mono float32 [T], as loud as it is.

    Raises:
        DheadsError: no sound, damaged, or shorter than 0.1 s.
    """
    if not path.is_file():
        raise DheadsError(f"{path}: no such recording.")
    waveform = media.read_audio(path, sample_rate)
    if len(waveform) < MIN_SPEECH_S * sample_rate:
        raise DheadsError(
            f"{path}: {len(waveform) / sample_rate:.3f} s of sound are too short; take at least {MIN_SPEECH_S} s."
        )
    return waveform


def levelled(
    waveform: NDArray[np.float32], sample_rate: int, fps: float, speech_dbfs: float | None
) -> NDArray[np.float32]:
    """Speech [T] as loud as a model is used to, by one gain for all of it; silence stays silence.

    Training hears its corpus as it is, and what the encoders make of speech depends on its level.

    Args:
        waveform: [T] in [-1, 1].
        sample_rate: Hz.
        fps: video frames a second, which the level is measured in, see quality.speech_level.
        speech_dbfs: level to bring it to; None leaves it.

    Returns:
        float32 [T]; peaks beyond [-1, 1] are cut off.
    """
    level = speech_level(waveform, frames_of(len(waveform), fps, sample_rate))
    if speech_dbfs is None or level <= SILENCE_DBFS:
        return waveform
    gain_db = float(np.clip(speech_dbfs - level, -MAX_GAIN_DB, MAX_GAIN_DB))
    return np.asarray(np.clip(waveform * np.float32(10 ** (gain_db / 20)), -1, 1), np.float32)
