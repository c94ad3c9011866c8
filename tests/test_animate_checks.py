"""A video that fails says so: a picture that breaks up ends it without a file, a still mouth is warned of."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from commands import FACE, TALK, dheads, make_checkpoint, write_speech
from numpy.typing import NDArray

from dheads_cli import registry
from dheads_cli.data import align, media
from dheads_cli.data.quality import spoken_frames
from dheads_cli.model.generate import from_uint8
from dheads_cli.recipe_section import Component
from dheads_cli.run.animate_batch import Outcome, draw_clips
from dheads_cli.run.animate_checks import MAX_LOOKS, MIN_OPENING_SD, BrokenUp, MouthCheck, PictureCheck
from dheads_cli.run.animate_clip import Artist, Clip, Drawing, ready
from dheads_cli.run.animate_jobs import Job
from dheads_cli.run.kept_frames import MAX_WAITING, n_left
from dheads_cli.run.recording import Recording, listen

Frames = NDArray[np.uint8]

CLIP = Path(__file__).parent / "data/grid/s1/bbaf2n.mp4"
MEDIAPIPE = Component(use="mediapipe")
STRANGE: Frames = np.tile(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8).repeat(8, 1), (32, 2, 1))  # bright stripes

MAX_STRAY = 20.0  # the default of sample.max_stray


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose pictures break up."""
    return make_checkpoint(tmp_path_factory.mktemp("model") / "wild.safetensors", spread=0.2)


@pytest.fixture(scope="module")
def speaker() -> Frames:
    """The aligned face of a real speaker, frame by frame."""
    frames = media.read_video(CLIP, 25).frames
    landmarks = registry.build("landmark_detectors", "mediapipe", {})(frames)
    return align.align_clip(frames, landmarks, 128)[0]


def see_all(check: PictureCheck | MouthCheck, frames: Frames) -> None:
    for frame in frames:
        check.see(frame)


def opening_sd(frames: Frames, speech: Path) -> float | None:
    mouth = MouthCheck(MEDIAPIPE, listen(speech, 16000, 25.0))
    see_all(mouth, frames)
    return mouth.opening_sd


def test_a_real_speaker_is_far_from_breaking_up_and_a_mouth_that_moves(speaker: Frames) -> None:
    picture = PictureCheck(speaker[0], 25.0, MAX_STRAY)
    see_all(picture, speaker)
    assert 0 < picture.stray < MAX_STRAY / 3
    sd = opening_sd(speaker, CLIP)
    assert sd is not None
    assert sd > 2 * MIN_OPENING_SD


def test_a_still_mouth_is_known_by_speech_alone(speaker: Frames, tmp_path: Path) -> None:
    still, silence = np.repeat(speaker[:1], len(speaker), axis=0), tmp_path / "silence.flac"
    sd = opening_sd(still, CLIP)
    assert sd is not None
    assert sd < MIN_OPENING_SD
    silence.write_bytes(media.encode_flac(np.zeros(48000, np.float32), 16000))
    assert opening_sd(still, silence) is None
    assert opening_sd(np.zeros_like(still), CLIP) is None  # no face


def test_noise_and_silence_are_no_speech() -> None:
    assert not spoken_frames(np.zeros(50)).any()
    assert not spoken_frames(np.random.default_rng(0).uniform(0.9e-4, 1.1e-4, 50)).any()
    assert spoken_frames(np.array([1e-9] * 20 + [1e-2] * 10)).tolist() == [False] * 20 + [True] * 10


def test_a_long_video_s_mouth_is_looked_at_a_bounded_number_of_times(speaker: Frames) -> None:
    powers = np.tile([1e-9] * 20 + [1e-2] * 30, 200)
    mouth = MouthCheck(MEDIAPIPE, Recording(CLIP, 16000, 25.0, 640 * len(powers), -20.0, powers))
    assert MAX_LOOKS / 2 < sum(mouth.wants(number) for number in range(len(powers))) <= MAX_LOOKS


def test_a_picture_that_changes_brightly_has_broken_up_half_a_second_later(speaker: Frames) -> None:
    picture = PictureCheck(speaker[0], 25.0, MAX_STRAY)
    see_all(picture, speaker[:10])
    with pytest.raises(BrokenUp):
        see_all(picture, np.repeat(255 - speaker[:1], 12, axis=0))
    assert picture.stray > MAX_STRAY


def test_a_blink_and_the_lower_face_do_not_count(speaker: Frames) -> None:
    picture, frame = PictureCheck(speaker[0], 25.0, MAX_STRAY), speaker[0].copy()
    frame[70:, 25:105] = (0, 255, 0)
    see_all(picture, np.stack([frame] * 25))
    assert picture.stray < 3  # what is left is the lower face's edge within blocks of 8 px
    blinking, closed = PictureCheck(speaker[0], 25.0, MAX_STRAY), speaker[0].copy()
    closed[40:52, 36:92] = closed[55:57, 36:92].mean(axis=0).astype(np.uint8)  # skin over the eyes
    see_all(blinking, np.stack([closed] * 25))
    assert blinking.stray < MAX_STRAY / 3


def clip_of(out: Path, speech: Path, artist: Artist, crop: Frames) -> Clip:
    return Clip(str(out), "a face", crop, listen(speech, artist.rate, 25.0), 3, lambda frame: frame, (32, 32))


def artist_of(model: Path) -> Artist:
    return ready(str(model), "cpu", None, None, ["sample.sampler.steps=1", "sample.batch_size=2"], "normal")


def take_all(drawing: Drawing, frames: Frames, then: type[BaseException] | None = None) -> None:
    """Draw these frames, and end the video there, or with an error."""
    with drawing:
        for frame in frames:
            drawing.take(from_uint8(torch.from_numpy(frame[None])))
        if then:
            raise then


def test_a_video_that_breaks_up_leaves_neither_file_nor_frames(model: Path, tmp_path: Path) -> None:
    out, speech = tmp_path / "a.mp4", write_speech(tmp_path / "speech.flac", 2.9)
    out.write_bytes(b"old")
    artist, crop = artist_of(model), np.full((32, 32, 3), 90, np.uint8)
    drawing = Drawing(clip_of(out, speech, artist, crop), artist, overwrite=True)
    with pytest.raises(BrokenUp):
        take_all(drawing, np.stack([crop] * (MAX_WAITING + 10) + [STRANGE] * 13))
    assert MAX_WAITING + 10 < drawing.past.n_frames < MAX_WAITING + 23
    assert drawing.checks.facts["stray"] > MAX_STRAY
    assert (out.read_bytes(), sorted(os.listdir(tmp_path))) == (b"old", ["a.mp4", "speech.flac"])


def test_the_check_goes_on_where_a_run_was_broken_off(model: Path, tmp_path: Path) -> None:
    out, speech = tmp_path / "a.mp4", write_speech(tmp_path / "speech.flac", 2.9)
    artist, crop = artist_of(model), np.full((32, 32, 3), 90, np.uint8)
    faint = np.full((MAX_WAITING, 32, 32, 3), 100, np.uint8)
    with pytest.raises(KeyboardInterrupt):
        take_all(Drawing(clip_of(out, speech, artist, crop), artist), faint, KeyboardInterrupt)
    assert n_left(str(out)) == MAX_WAITING
    resumed = Drawing(clip_of(out, speech, artist, crop), artist, resume=True)
    with pytest.raises(BrokenUp):
        take_all(resumed, np.stack([STRANGE] * 13))
    assert resumed.past.n_frames < MAX_WAITING + 13
    assert os.listdir(tmp_path) == ["speech.flac"]


def test_frames_of_another_run_stay_where_this_one_has_kept_none(model: Path, tmp_path: Path) -> None:
    out, speech = tmp_path / "a.mp4", write_speech(tmp_path / "speech.flac", 2.9)
    artist, crop = artist_of(model), np.full((32, 32, 3), 90, np.uint8)
    with pytest.raises(KeyboardInterrupt):
        take_all(Drawing(clip_of(out, speech, artist, crop), artist), np.stack([crop] * MAX_WAITING), KeyboardInterrupt)
    with pytest.raises(BrokenUp):
        take_all(Drawing(clip_of(out, speech, artist, crop), artist), np.stack([STRANGE] * 13))
    assert (n_left(str(out)), out.exists()) == (MAX_WAITING, False)


def test_the_command_ends_with_code_2_and_leaves_no_file(wild: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    ended = dheads("animate", FACE, TALK, "-o", out, "--model", wild, "--quiet")
    assert (ended.code, ended.stderr.count("\n"), os.listdir(tmp_path)) == (2, 1, [])
    assert str(out) in ended.stderr


def test_a_stream_that_ends_early_can_be_read(wild: Path) -> None:
    words = ["animate", str(FACE), str(TALK), "-o", "-", "--model", str(wild), "--quiet"]
    ended = subprocess.run([sys.executable, "-m", "dheads_cli", *words], capture_output=True, check=False)
    assert ended.returncode == 2
    with av.open(io.BytesIO(ended.stdout), "r") as container:
        n_frames = len(list(container.decode(video=0)))
    assert 0 < n_frames < 15


def test_of_a_batch_only_the_job_that_breaks_up_fails(tmp_path: Path) -> None:
    """The model's noise hides a gray picture, and is none among black and white squares."""
    artist = artist_of(make_checkpoint(tmp_path / "m.safetensors", spread=0.15))
    squares = np.repeat((np.indices((32, 32)).sum(axis=0) // 2 % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    speech, gray = write_speech(tmp_path / "a.flac", 0.8), np.full((32, 32, 3), 128, np.uint8)
    clips, outcomes = [], {}
    for line, crop in enumerate((gray, squares)):
        out = tmp_path / f"{line}.mp4"
        outcomes[line] = Outcome(Job(line, FACE, speech, str(out)))
        clips.append((outcomes[line].job, clip_of(out, speech, artist, crop)))
    draw_clips(clips, artist, outcomes, resume=False, overwrite=False)
    assert [(tmp_path / f"{line}.mp4").exists() for line in range(2)] == [False, True]
    assert [outcomes[line].done for line in range(2)] == [False, True]
    assert outcomes[1].facts["stray"] < MAX_STRAY


def test_a_still_mouth_is_warned_of_once_and_in_json(tmp_path: Path) -> None:
    still, out = make_checkpoint(tmp_path / "still.safetensors", spread=0), tmp_path / "a.mp4"
    ended = dheads("animate", FACE, TALK, "-o", out, "--model", still, "--quiet", "--json")
    made = json.loads(ended.stdout)
    assert (ended.code, ended.stderr.count("\n"), out.exists()) == (0, 1, True)
    assert made["mouth_is_still"]
    assert made["mouth_opening_sd"] < MIN_OPENING_SD
    assert made["stray"] == 0
    assert "warning: " in ended.stderr
    assert f"{made['mouth_opening_sd']:.3f}" in ended.stderr


def test_silence_is_not_warned_of(tmp_path: Path) -> None:
    still, out, silence = make_checkpoint(tmp_path / "m.safetensors", spread=0), tmp_path / "a.mp4", tmp_path / "s.flac"
    hiss = 1e-2 * np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    silence.write_bytes(media.encode_flac(hiss, 16000))
    ended = dheads("animate", FACE, silence, "-o", out, "--model", still, "--quiet", "--json")
    made = json.loads(ended.stdout)
    assert (ended.code, ended.stderr) == (0, "")
    assert (made["mouth_opening_sd"], made["mouth_is_still"]) == (None, False)
