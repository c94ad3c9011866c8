"""The speech that `dheads animate` is given: a file or standard input, and how loud the network hears it."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dheads_cli import console
from dheads_cli.data import media
from dheads_cli.data.quality import SILENCE_DBFS, level_of, power_of
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import frames_of, samples_of

STDIN = "-"
MIN_SPEECH_S = 0.1
MAX_GAIN_DB = 30.0  # what is softer than that is noise, not speech


@contextlib.contextmanager
def as_file(speech: Path) -> Iterator[Path]:
    """A recording as a file: itself, or a temporary one with all that comes through standard input, for `-`, or a pipe.

    Raises:
        DheadsError: nobody can write to standard input; and any of the block's, which then names what was given.
    """
    if str(speech) != STDIN and not speech.is_fifo():
        yield speech
        return
    given = "standard input" if str(speech) == STDIN else str(speech)
    with tempfile.TemporaryDirectory(prefix="dheads-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file, _stream(speech) as stream:
            shutil.copyfileobj(stream, file)
        try:
            yield path
        except DheadsError as error:
            raise DheadsError(str(error).replace(str(path), given)) from error


def _stream(speech: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """Standard input, for `-`, or a pipe that has a name, as shells give one to `<(command)`."""
    if str(speech) != STDIN:
        return speech.open("rb")
    if sys.stdin is None:
        raise DheadsError("-: standard input is closed; pipe a recording into it, or name a file.")
    if sys.stdin.isatty():
        raise DheadsError("-: standard input is this terminal; pipe a recording into it, or name a file.")
    return contextlib.nullcontext(sys.stdin.buffer)


@dataclass(frozen=True)
class Recording:
    """A recording that has been listened to once; it is read again, piece by piece, wherever it is wanted.

    Attributes:
        path: its file.
        rate: Hz that the network hears it at.
        fps: video frames a second.
        n_samples: at `rate`.
        level_dbfs: see quality.speech_level.
        powers: of each frame, see quality.power_of, float64 [F].
    """

    path: Path
    rate: int
    fps: float
    n_samples: int
    level_dbfs: float
    powers: NDArray[np.float64]

    @property
    def n_frames(self) -> int:
        """Video frames that last as long."""
        return frames_of(self.n_samples, self.fps, self.rate)

    def heard(self, speech_dbfs: float | None) -> Iterator[NDArray[np.float32]]:
        """What the network hears, [T] in pieces, as loud as a model is used to, by one gain for all of it.

        Training hears its corpus as it is, and what the encoders make of speech depends on its level.

        Args:
            speech_dbfs: level to bring it to; None leaves it. Silence stays silence; peaks beyond [-1, 1] are cut off.
        """
        pieces = media.stream_audio(self.path, self.rate)
        if speech_dbfs is None or self.level_dbfs <= SILENCE_DBFS:
            return pieces
        gain = np.float32(10 ** (float(np.clip(speech_dbfs - self.level_dbfs, -MAX_GAIN_DB, MAX_GAIN_DB)) / 20))
        return (np.clip(piece * gain, -1, 1) for piece in pieces)

    def sound(self, rate: int) -> Iterator[NDArray[np.float32]]:
        """The video's sound, [T] in pieces at `rate` Hz: the recording as it is, cut or filled to n_frames."""
        missing = samples_of(self.n_frames, self.fps, rate)
        for piece in media.stream_audio(self.path, rate):
            yield piece[:missing]
            missing -= len(piece[:missing])
        yield np.zeros(missing, np.float32)


def listen(path: Path, rate: int, fps: float) -> Recording:
    """Read a recording to its end: that nothing in it is damaged, how long it is, and how loud.

    Its level is that of whole frames (8 bytes for each are kept), and how long those are depends on all of its
    length. So a second reading follows where a file's header does not tell the length to the sample.

    Args:
        path: a file with sound.
        rate: Hz that the network hears it at.
        fps: video frames a second.

    Raises:
        DheadsError: no sound, damaged, or shorter than 0.1 s.
    """
    if not path.is_file():
        raise DheadsError(f"{path}: no such recording.")
    if not path.stat().st_size:
        raise DheadsError(f"{path}: nothing is in it.")
    guessed = round((media.stated_seconds(path) or 0) * rate)
    n_samples, powers = _powers(path, rate, fps, guessed)
    if n_samples < MIN_SPEECH_S * rate:
        raise DheadsError(f"{path}: {n_samples / rate:.3f} s of sound are too short; take at least {MIN_SPEECH_S} s.")
    if n_samples != guessed:
        n_samples, powers = _powers(path, rate, fps, n_samples)
    if (level := level_of(powers)) <= SILENCE_DBFS:
        console.warn(f"{path.name}: nothing is heard in it, so the mouth will hardly move")
    return Recording(path, rate, fps, n_samples, level, np.array(powers))


def _powers(path: Path, rate: int, fps: float, n_samples: int) -> tuple[int, list[float]]:
    """Samples of a recording, and the power of each of its frames where it has n_samples of them."""
    n_frames = frames_of(n_samples, fps, rate)
    length, n_longer = divmod(n_samples, n_frames)  # as np.array_split has it
    count, powers, waiting = 0, list[float](), np.zeros(0, np.float32)
    for piece in media.stream_audio(path, rate):
        count += len(piece)
        waiting = np.concatenate([waiting, piece])
        begin = 0
        while len(powers) < n_frames and begin + (size := length + (len(powers) < n_longer)) <= len(waiting):
            powers.append(power_of(waiting[begin : begin + size]))
            begin += size
        waiting = waiting[begin:] if len(powers) < n_frames else waiting[:0]
    return count, powers
