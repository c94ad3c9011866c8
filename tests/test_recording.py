"""Speech from files and pipes, whatever its header says, as loud as a model is used to."""

from __future__ import annotations

import io
import os
import sys
import wave
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from commands import FACE, TALK, dheads, make_checkpoint
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.quality import speech_level
from dheads_cli.errors import DheadsError
from dheads_cli.run.recording import Recording, as_file, listen

RATE = 16000


class Pipe(io.TextIOWrapper):
    """Standard input with these bytes in it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def talk(seconds: float = 1.0) -> NDArray[np.float32]:
    return media.read_audio(TALK, RATE)[: round(seconds * RATE)]


def heard(recording: Recording, speech_dbfs: float | None = None) -> NDArray[np.float32]:
    return np.concatenate(list(recording.heard(speech_dbfs)))


def flac(folder: Path, sound: NDArray[np.float32]) -> Path:
    path = folder / "sound.flac"
    path.write_bytes(media.encode_flac(sound, RATE))
    return path


def streamed_wav(sound: NDArray[np.float32], stated: int) -> bytes:
    """A WAV whose header states so many bytes of sound."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes((sound * 32767).astype("<i2").tobytes())
    data = bytearray(file.getvalue())
    assert data[36:40] == b"data"
    data[40:44] = stated.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("stated", [0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 0])  # espeak-ng, SoX, FFmpeg, others
def test_a_wav_that_was_written_into_a_pipe_is_read_whole(tmp_path: Path, stated: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(streamed_wav(talk(0.777), stated))
    assert np.abs(heard(listen(path, RATE, 25)) - talk(0.777)).max() < 1e-4


def test_a_wav_that_was_cut_short_is_still_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(streamed_wav(talk(), 40_000))
    with pytest.raises(DheadsError, match=r"a\.wav: its audio is cut short"):
        listen(tmp_path / "a.wav", RATE, 25)


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(streamed_wav(talk(), 0x7FFFF000)))
    with as_file(Path("-")) as path:
        assert listen(path, RATE, 25).n_samples == RATE
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names there")
def test_a_pipe_with_a_name_is_read_to_its_end(tmp_path: Path) -> None:
    """As a shell's <(espeak-ng --stdout hello)."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(streamed_wav(talk(), 0x7FFFF000),))
    writer.start()
    with as_file(pipe) as path:
        assert listen(path, RATE, 25).n_samples == RATE
    writer.join()
    assert not path.exists()


@pytest.mark.parametrize(
    ("data", "text"), [(b"", "^standard input: nothing is in it"), (b"no sound", "standard input: ")]
)
def test_what_is_wrong_with_standard_input_is_said_of_it(
    monkeypatch: pytest.MonkeyPatch, data: bytes, text: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(data))
    with pytest.raises(DheadsError, match=text), as_file(Path("-")) as path:
        listen(path, RATE, 25)


@pytest.mark.parametrize("gain_db", [-20, -6, 0, 3])
def test_speech_is_heard_at_one_level(tmp_path: Path, gain_db: int) -> None:
    sound = talk(3.0) * np.float32(10 ** (gain_db / 20))
    levelled = heard(listen(flac(tmp_path, sound), RATE, 25), -15.0)
    assert speech_level(levelled, 75) == pytest.approx(-15, abs=0.2)
    assert np.corrcoef(levelled, sound)[0, 1] > 0.999


def test_noise_is_no_speech_and_silence_stays_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silence = np.zeros(RATE, np.float32)
    assert not heard(listen(flac(tmp_path, silence), RATE, 25), -12.6).any()
    assert capsys.readouterr().err == "warning: sound.flac: nothing is heard in it, so the mouth will hardly move\n"
    hiss = np.random.default_rng(0).normal(0, 10**-3, RATE).astype(np.float32)  # -60 dBFS
    recording = listen(flac(tmp_path, hiss), RATE, 25)
    assert speech_level(heard(recording, -12.6), 25) == pytest.approx(-30, abs=0.2)
    assert capsys.readouterr().err == ""
    assert np.array_equal(heard(recording), media.read_audio(tmp_path / "sound.flac", RATE))


@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("stated", [None, 0xFFFFFFFF])
def test_the_level_is_that_of_the_whole_recording(tmp_path: Path, rate: int, stated: int | None) -> None:
    sound = np.concatenate([talk(2.345), 0.1 * talk(2.9)])
    data = media.encode_flac(sound, RATE) if stated is None else streamed_wav(sound, stated)
    (tmp_path / "a").write_bytes(data)
    recording = listen(tmp_path / "a", rate, 25)
    whole = media.read_audio(tmp_path / "a", rate)
    assert recording.n_samples == len(whole)
    assert recording.level_dbfs == speech_level(whole, recording.n_frames)


def test_the_video_s_sound_lasts_as_long_as_its_frames(tmp_path: Path) -> None:
    for seconds in (1.01, 1.03):
        recording = listen(flac(tmp_path, talk(seconds)), RATE, 25)
        sound = np.concatenate(list(recording.sound(RATE)))
        assert len(sound) == recording.n_frames * 640
        shorter = min(len(sound), round(seconds * RATE))
        assert np.array_equal(sound[:shorter], heard(recording)[:shorter])
        assert not sound[shorter:].any()


def test_loudness_makes_no_other_video_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_checkpoint(tmp_path / "small.safetensors")

    def made(gain: float, *words: str) -> Any:
        monkeypatch.setattr(sys, "stdin", Pipe(media.encode_flac(talk(0.2) * np.float32(gain), RATE)))
        out = tmp_path / f"{gain}{len(words)}"
        ended = dheads("animate", FACE, "-", "-o", f"{out}/", "--model", model, "--size", "32", *words)
        assert ended.code == 0, ended.stderr
        frames = np.stack([media.read_image(path).astype(int) for path in sorted(out.glob("*.png"))])
        return frames, media.read_audio(out / "sound.flac", 48000)

    (loud, loud_sound), (soft, soft_sound) = made(4.0), made(1.0)  # both within the largest gain
    assert np.abs(soft_sound).max() == pytest.approx(0.25 * np.abs(loud_sound).max(), rel=0.02)  # what is heard stays
    as_it_is = made(1.0, "--set", "sample.speech_dbfs=null")[0]
    assert np.abs(loud - soft).mean() < 0.2 * np.abs(loud - as_it_is).mean()
