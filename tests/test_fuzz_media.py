"""No file, however broken, ends a run: each is used, or skipped with its reason."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from commands import dheads
from numpy.typing import NDArray
from odd_media import Film, Track, write_film, write_wav

from dheads_cli.data import media
from dheads_cli.data.corpora import ClipSource
from dheads_cli.data.manifest import read_manifest
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import UnusableClip
from dheads_cli.recipe import Preprocess
from dheads_cli.run.preprocess_clip import process_clip

CLIP = Path(__file__).parent / "data/grid/s1/bbaf2n.mp4"
SETTINGS = Preprocess(size=32, workers=1, min_frames=8)
N_FRAMES = 20
REASONS = {"damaged", "unreadable", "no picture", "no sound", "no face", "face lost", "too short", "too long"}


@pytest.fixture(scope="module")
def talking() -> tuple[NDArray[np.uint8], Track]:
    """Frames [F, H, W, 3] of a real face and its sound."""
    frames = media.read_video(CLIP, 25).frames[:N_FRAMES]
    return frames, Track(media.read_audio(CLIP, 44100)[None, : round(N_FRAMES / 25 * 44100)], 44100)


def mutants(data: bytes, seed: int) -> Iterator[bytes]:
    """Cut short, bits flipped, overwritten by zeros, with a hole, with a false header."""
    rng, size = random.Random(seed), len(data)
    yield data[: rng.randrange(size)]
    for n_flips in (1, 20):
        mutant = bytearray(data)
        for _ in range(n_flips):
            mutant[rng.randrange(size)] ^= 1 << rng.randrange(8)
        yield bytes(mutant)
    begin, length = rng.randrange(size), rng.randrange(1, 2000)
    yield (data[:begin] + bytes(length) + data[begin + length :])[:size]
    yield data[:begin] + data[begin + length :]
    mutant = bytearray(data)
    for _ in range(8):
        mutant[rng.randrange(min(size, 2000))] = rng.randrange(256)
    yield bytes(mutant)


@pytest.mark.parametrize(
    ("suffix", "film", "sound"),
    [
        (".mp4", Film(), "aac"),
        (".flv", Film(codec="flv"), "aac"),
        (".mpg", Film(codec="mpeg1video", options={"bf": "2"}), "mp2"),
        (".avi", Film(codec="mpeg4"), "pcm_s16le"),
        (".mkv", Film(codec="mjpeg", pixel_format="yuvj420p"), "flac"),
    ],
)
def test_broken_files_are_used_or_skipped(
    talking: tuple[NDArray[np.uint8], Track], tmp_path: Path, suffix: str, film: Film, sound: str
) -> None:
    frames, track = talking
    whole = write_film(tmp_path / f"whole{suffix}", frames, film, [replace(track, codec=sound)])
    source = ClipSource("clip", tmp_path / f"a{suffix}", "someone", "someone", key="clip", split="train")
    for mutant in mutants(whole.read_bytes(), seed=len(suffix)):
        source.video.write_bytes(mutant)
        began = time.monotonic()
        outcome = process_clip(source, SETTINGS)
        assert time.monotonic() - began < 30
        if isinstance(outcome, UnusableClip):
            assert outcome.reason in REASONS, outcome
            assert "\n" not in str(outcome)
        else:  # what is used is as long as it was
            assert json.loads(outcome["json"])["n_frames"] == pytest.approx(N_FRAMES, abs=3)


def write_odd_corpus(folder: Path, frames: NDArray[np.uint8], track: Track) -> dict[str, str]:
    """Write files that people have; what should become of each: "ok" or the reason to skip it."""
    quiet = replace(track, wave=track.wave * 0)
    short = replace(track, wave=track.wave[:, :4000])
    turned = np.rot90(frames, axes=(1, 2))  # as the phone's sensor sees it, counterclockwise
    narrow = frames[:, :, ::2]
    uneven = [k / 25 + (0.013 if k % 3 else 0.0) for k in range(len(frames))]
    six = replace(track, wave=np.repeat(track.wave, 6, axis=0), layout="5.1", codec="flac")
    cover = np.full((99, 99, 3), 50, np.uint8)
    films: dict[str, tuple[str, NDArray[np.uint8], Film, list[Track]]] = {
        "good.mp4": ("ok", frames, Film(), [track]),
        "GOOD.AVI": ("ok", frames, Film(codec="mpeg4"), [replace(track, codec="pcm_s16le")]),
        "phone.mov": ("ok", turned, Film(turn=-90), [track]),
        "anamorphic.mp4": ("ok", narrow, Film(pixel_aspect=Fraction(2)), [track]),
        "variable rate.mp4": ("ok", frames, Film(times=uneven), [track]),
        "ten bits.mp4": ("ok", frames, Film(pixel_format="yuv420p10le"), [track]),
        "odd size.flv": ("ok", frames[:, 1:, 1:], Film(codec="flv"), [track]),
        "six channels.mkv": ("ok", frames, Film(), [six]),
        "with cover.mp4": ("ok", frames, Film(cover=cover), [track]),
        "old.mpg": ("ok", frames, Film(codec="mpeg1video", options={"bf": "2"}), [replace(track, codec="mp2")]),
        "late sound.mkv": ("ok", frames, Film(start=1.0), [replace(track, start=0.8)]),
        "silent.mp4": ("no sound", frames, Film(), [quiet]),
        "no sound.mp4": ("no sound", frames, Film(), []),
        "short sound.mp4": ("no sound", frames, Film(), [short]),
        "frozen.mp4": ("damaged", frames, Film(times=[k / 25 + 9 * (k > 9) for k in range(len(frames))]), [track]),
        "upside down.mp4": ("no face", np.ascontiguousarray(frames[:, ::-1]), Film(), [track]),
        "one frame.mp4": ("too short", frames[:1], Film(), [track]),
        "nobody.mp4": ("no face", np.full_like(frames, 90), Film(), [track]),
    }
    for name, (_, pictures, film, tracks) in films.items():
        write_film(folder / name, pictures, film, tracks)
    whole = (folder / "good.mp4").read_bytes()
    others = {
        "good.m4v.webm": ("ok", whole),
        "cut.mp4": ("damaged", whole[: len(whole) // 2]),
        "empty.mp4": ("damaged", b""),
        "zeros.mp4": ("damaged", bytes(10_000)),
        "noise.mp4": ("damaged", random.Random(0).randbytes(50_000)),
        "text.mp4": ("damaged", b"This is no film.\n"),
    }
    for name, (_, data) in others.items():
        (folder / name).write_bytes(data)
    write_wav(folder / "sound.wav", track.wave, track.rate).rename(folder / "sound.mp4")
    (folder / "._good.mp4").write_bytes(b"what a Mac leaves behind")
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    shutil.copy(folder / "good.mp4", folder / "apart.mp4")
    write_wav(folder / "apart.wav", track.wave, track.rate)
    return {
        **{name: outcome for name, (outcome, *_) in films.items()},
        **{name: outcome for name, (outcome, _) in others.items()},
        "sound.mp4": "no picture",
        "apart.mp4": "ok",
    }


def test_a_folder_of_odd_files_is_preprocessed(talking: tuple[NDArray[np.uint8], Track], tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    expected = write_odd_corpus(folder, *talking)
    ended = dheads("preprocess", folder, "-o", tmp_path / "out", "--size", "32", "--workers", "1")
    assert ended.code == 0
    assert "Traceback" not in ended.stderr
    assert "dangling.mp4" in ended.stderr + ended.stdout
    rows = read_manifest(tmp_path / "out")
    assert {row.source: row.reason or "ok" for row in rows} == expected
    corpus = Corpus(tmp_path / "out")
    clips = {row.source: corpus.load(corpus.clip(row.id)) for row in rows if row.status == "ok"}
    good = clips.pop("good.mp4")
    for name, clip in clips.items():
        # The same aligned face, whatever the file was like.
        assert len(clip.frames) == pytest.approx(N_FRAMES, abs=1), name
        assert np.abs(clip.frames[5].astype(int) - good.frames[5]).mean() < 12, name
        assert np.abs(clip.landmarks[5] - good.landmarks[5]).mean() < 1.5, name


def test_only_broken_files_are_one_line_of_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mp4").write_bytes(b"no film")
    words = ["preprocess", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    ended = subprocess.run([sys.executable, "-m", "dheads_cli", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "no clip of" in ended.stderr
    assert "(damaged: 1)" in ended.stderr
    assert "Traceback" not in ended.stderr
