"""Picture and sound stay in step to within half a frame, whatever the file's rates, containers and time stamps."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from odd_media import Film, Track, clicking, flashing, heard, seen, write_film, write_wav

from dheads_cli.data import media
from dheads_cli.data.corpora import ClipSource
from dheads_cli.recipe import Preprocess
from dheads_cli.run.preprocess_clip import read_clip

SETTINGS = Preprocess(size=64, workers=1)
SECONDS = 6
LONG = 4  # frames of a flash
HALF_A_FRAME_S = 0.5 / SETTINGS.fps


def flashes_of(film: Film) -> tuple[list[int], list[float]]:
    """Near the beginning, in the middle and at the end: first frames of three flashes, and their middles, s."""
    fps = Fraction(film.fps).limit_denominator(1001)
    n_frames = int(SECONDS * fps)
    first = [3, n_frames // 2, n_frames - 3 - LONG]
    return first, [film.start + float((place + (LONG - 1) / 2) / fps) for place in first]


def make(path: Path, film: Film, track: Track | None, sound: Path | None = None) -> ClipSource:
    """A film of three flashes with three clicks, in a track or in a file of its own."""
    first, middles = flashes_of(film)
    tracks = []
    if track is not None:
        wave = clicking(SECONDS + 2, [middle - track.start for middle in middles], track.rate)
        tracks.append(replace(track, wave=np.repeat(wave, len(track.wave), axis=0)))
    write_film(path, flashing(int(SECONDS * film.fps), first), film, tracks)
    if sound is not None:
        write_wav(sound, clicking(SECONDS + 2, [middle - film.start for middle in middles]))
    return ClipSource("clip", path, "someone", "someone", audio=sound)


def offsets(source: ClipSource) -> list[float]:
    """How much later each flash is seen than its click is heard, s, after what preprocessing reads."""
    video, waveform = read_clip(source, SETTINGS)
    flashes, clicks = seen(video.frames, SETTINGS.fps), heard(waveform, SETTINGS.sample_rate)
    assert len(flashes) == len(clicks) == 3
    late = [flash - click for flash, click in zip(flashes, clicks, strict=True)]
    print(source.video.name, "flash after click, ms:", [round(1000 * offset, 1) for offset in late])
    return late


ONE = np.zeros((1, 1), np.float32)
PCM = Track(ONE, codec="pcm_s16le")
NTSC, FILM_RATE = Fraction(30000, 1001), Fraction(24000, 1001)

INSIDE = {
    "25.mp4": (Film(), Track(ONE)),
    "23.976.mp4": (Film(FILM_RATE), Track(ONE)),
    "29.97.mp4": (Film(NTSC), Track(ONE, 44100)),
    "50.mp4": (Film(50), Track(ONE, 48000)),
    "60.mp4": (Film(60), Track(ONE, 8000)),
    "picture-first.mp4": (Film(30), Track(ONE, start=0.1)),
    "sound-first.mp4": (Film(30, start=0.733), Track(ONE)),
    "both-late.mkv": (Film(30, start=1.4), Track(ONE, start=1.1)),
    "sound-first.flv": (Film(30, start=0.5, codec="flv"), Track(ONE, 44100)),
    "29.97.mpeg": (Film(NTSC, codec="mpeg1video"), Track(ONE, 48000, codec="mp2")),
    "b-frames.mpg": (Film(codec="mpeg1video", options={"bf": "2"}), Track(ONE, 44100, codec="mp2")),
    "b-frames.avi": (Film(options={"bf": "2"}), PCM),
    "mpeg4.avi": (Film(30, codec="mpeg4", options={"bf": "2"}), PCM),
    "stereo.mov": (Film(NTSC), Track(np.zeros((2, 1), np.float32), 48000, layout="stereo")),
}


@pytest.mark.parametrize("name", INSIDE)
def test_sound_in_the_video_is_in_step(tmp_path: Path, name: str) -> None:
    assert np.abs(offsets(make(tmp_path / name, *INSIDE[name]))).max() <= HALF_A_FRAME_S


@pytest.mark.parametrize("fps", [30, NTSC, FILM_RATE, 50, 60])
@pytest.mark.parametrize("codec", ["flv", "libx264"])
def test_crema_ds_separate_sound_is_in_step(tmp_path: Path, fps: Fraction | int, codec: str) -> None:
    source = make(tmp_path / f"{codec}-{float(fps):.2f}.flv", Film(fps, codec=codec), None, tmp_path / "a.wav")
    assert np.abs(offsets(source)).max() <= HALF_A_FRAME_S


def test_a_recording_taken_out_of_its_video_keeps_the_videos_clock(tmp_path: Path) -> None:
    film, track = Film(30, start=0.4, codec="flv"), Track(ONE, 44100)
    source = make(tmp_path / "a.flv", film, track)
    inside = media.read_audio(source.video, 16000)  # from its first sample, as extraction writes it
    assert np.abs(offsets(replace(source, audio=write_wav(tmp_path / "a.wav", inside[None])))).max() <= HALF_A_FRAME_S


def test_a_variable_frame_rate_does_not_drift(tmp_path: Path) -> None:
    """Half a minute at 20 to 40 frames a second: every output frame is the one shown nearest to its time."""
    gaps = np.random.default_rng(0).uniform(1 / 40, 1 / 20, 950)
    times = np.cumsum(gaps) - gaps[0]
    levels = np.arange(len(times)) % 12 * 20  # which frame it is, told by its gray
    frames = (np.full((16, 16, 3), level, np.uint8) for level in levels)
    path = write_film(tmp_path / "phone.mp4", frames, Film(30, list(times), options={"crf": "4"}))
    clip = media.read_video(path, 25)
    assert len(clip.frames) == pytest.approx((times[-1] + gaps[-1]) * 25, abs=1)
    shown = np.round(clip.frames.mean(axis=(1, 2, 3)) / 20).astype(int)
    times = np.round(times * 90_000) / 90_000
    for k, level in enumerate(shown[:-1]):
        distance = np.abs(times - k / 25)
        nearest = np.flatnonzero(distance <= distance.min() + 1e-4)
        assert level * 20 in levels[nearest]
