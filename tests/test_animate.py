"""`dheads animate`: the video lasts as long as the speech, says what it is, and is the same for the same seed."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from commands import FACE, OTHER_FACE, TALK, dheads, make_checkpoint, write_speech, write_two_faces
from PIL import Image

from dheads_cli import registry
from dheads_cli.data import align, media
from dheads_cli.recipe import Preprocess
from dheads_cli.run.identity import find_face

CLIP = Path(__file__).parent / "data/grid/s1/bbaf2n.mp4"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.mark.parametrize("seconds", [0.1, 0.47, 0.73])
def test_the_video_lasts_as_long_as_the_speech(model, tmp_path, seconds):
    speech, out = write_speech(tmp_path / "speech.flac", seconds), tmp_path / "a.mp4"
    assert dheads("animate", FACE, speech, "-o", out, "--model", model).code == 0
    clip = media.read_video(out, 25)
    assert clip.frames.shape == (round(seconds * 25), 256, 256, 3)
    assert clip.source_fps == pytest.approx(25)
    with av.open(str(out)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert video.start_time == sound.start_time == 0
        length = float(sound.duration * sound.time_base)
    assert length == pytest.approx(len(clip.frames) / 25, abs=1e-3)
    assert abs(length - seconds) <= 0.02 + 1e-6
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "speech.flac"]


def test_the_sound_is_the_recording_in_step_and_in_full_bandwidth(model, tmp_path):
    rate = 48000
    rng = np.random.default_rng(0)
    wave = 0.05 * np.sin(2 * np.pi * 12000 * np.arange(rate // 2) / rate).astype(np.float32)
    wave[9600:12000] += 0.3 * rng.standard_normal(2400).astype(np.float32)
    speech, out = tmp_path / "speech.flac", tmp_path / "a.mp4"
    speech.write_bytes(media.encode_flac(np.clip(wave, -1, 1), rate))
    assert dheads("animate", FACE, speech, "-o", out, "--model", model).code == 0
    heard = media.read_audio(out, rate, media.read_video(out, 25).start)[: len(wave)]
    wave = wave[: len(heard)]
    shifts = range(-480, 481)  # 10 ms either way
    match = [float(np.dot(heard[960:-960], np.roll(wave, shift)[960:-960])) for shift in shifts]
    assert abs(shifts[int(np.argmax(match))]) <= 48
    assert np.abs(np.fft.rfft(heard[14400:19200]))[1200] > 50  # the tone at 12 kHz, above what the network hears


def test_a_seed_means_one_video(model, tmp_path):
    speech = write_speech(tmp_path / "speech.flac", 0.24)

    def made(name, *words):
        folder = tmp_path / name
        folder.mkdir()
        assert dheads("animate", FACE, speech, "-o", folder / "a.mp4", "--model", model, *words).code == 0
        return folder / "a.mp4"

    assert made("first", "--seed", "5").read_bytes() == made("again", "--seed", "5").read_bytes()
    fifth, sixth, own = (media.read_video(path, 25).frames for path in
                         (tmp_path / "first" / "a.mp4", made("other", "--seed", "6"), made("own")))  # fmt: skip
    assert not np.array_equal(fifth, sixth)
    assert not np.array_equal(fifth, own)
    assert made("three", "--seed", "3").read_bytes() == (tmp_path / "own" / "a.mp4").read_bytes()  # the recipe's seed


def test_the_file_says_that_it_is_synthetic_and_json_says_what_was_made(model, tmp_path):
    speech, out = write_speech(tmp_path / "speech.flac", 0.2), tmp_path / "a.mp4"
    ended = dheads("animate", FACE, speech, "-o", out, "--model", model, "--size", "64", "--json")
    made = json.loads(ended.stdout)
    assert (made["out"], made["frames"], made["seconds"], made["size"]) == (str(out), 5, 0.2, 64)
    assert (made["model"], made["seed"]) == ("small", 3)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "face speaking"
        assert container.metadata["comment"].startswith("Synthetic video made by dheads ")
        assert "model small, seed 3 (face " in container.metadata["comment"]
    assert media.read_video(out, 25).frames.shape[1:] == (64, 64, 3)


def test_without_a_name_the_video_is_called_after_its_inputs(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_speech(tmp_path / "hello.flac", 0.12)
    ended = dheads("animate", FACE, "hello.flac", "--model", model)
    assert ended.code == 0
    assert "face-hello.mp4: 0.12 s of video" in ended.stderr
    assert (tmp_path / "face-hello.mp4").exists()


def frames_of(path):
    """Its metadata tells apart what a video was made from."""
    return media.read_video(path, 25).frames


def test_an_exif_turned_photo_gives_the_same_video_as_the_upright_one(model, tmp_path):
    speech = write_speech(tmp_path / "speech.flac", 0.12)
    upright = Image.open(FACE).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 to show it
    for folder in ("upright", "turned"):
        (tmp_path / folder).mkdir()
    upright.save(tmp_path / "upright" / "photo.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned" / "photo.png", exif=exif)
    for folder in ("upright", "turned"):
        photo, out = tmp_path / folder / "photo.png", tmp_path / folder / "a.mp4"
        assert dheads("animate", photo, speech, "-o", out, "--model", model).code == 0
    assert np.array_equal(frames_of(tmp_path / "upright" / "a.mp4"), frames_of(tmp_path / "turned" / "a.mp4"))


def test_of_two_faces_the_largest_is_taken_and_said_so(model, tmp_path):
    speech = write_speech(tmp_path / "speech.flac", 0.12)
    photo = write_two_faces(tmp_path / "two.png")
    words = ["animate", photo, speech, "--model", model, "-o"]
    ended = dheads(*words, tmp_path / "largest.mp4", "--quiet")
    assert ended.code == 0
    assert ended.stderr == f"warning: {photo}: 2 faces found; the largest is taken (--face N takes another)\n"
    first, second = (dheads(*words, tmp_path / f"{n}.mp4", "--face", n, "--quiet") for n in "12")
    assert (first.code, first.stderr, second.code) == (0, "", 0)
    assert "the mouth is open, by 0.1" in second.stderr
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "largest.mp4").read_bytes()
    assert not np.array_equal(frames_of(tmp_path / "2.mp4"), frames_of(tmp_path / "largest.mp4"))


def crop(path, face_index=None):
    return find_face(media.read_image(path), path, Preprocess(), 64, face_index).crop.astype(int)


def test_each_face_is_cropped_as_it_would_be_alone(tmp_path):
    photo = write_two_faces(tmp_path / "two.png")
    assert np.abs(crop(photo, 1) - crop(FACE)).mean() < 8
    assert np.abs(crop(photo, 2) - crop(OTHER_FACE)).mean() < 8
    assert np.abs(crop(photo, 1) - crop(photo, 2)).mean() > 30


def test_a_photo_is_cropped_as_training_clips_are(tmp_path):
    frames = media.read_video(CLIP, 25).frames[:8]
    Image.fromarray(frames[0]).save(tmp_path / "a.png")
    settings = Preprocess()
    landmarks = registry.build("landmark_detectors", settings.detector.use, settings.detector.options)(frames)
    margins = (settings.margin_side, settings.margin_above, settings.margin_below)
    crops = align.align_clip(frames, landmarks, 64, margins, settings.smooth_frames)[0]
    assert np.abs(crop(tmp_path / "a.png") - crops[0]).mean() < 4


def test_a_small_face_is_told_before_the_video_is_soft(tmp_path, capsys):
    photo = Image.open(FACE)
    photo.resize((180, 144)).save(tmp_path / "a.png")  # its face: 58 px
    find_face(media.read_image(tmp_path / "a.png"), tmp_path / "a.png", Preprocess(), 128, None)
    assert "a.png: the face is only" in capsys.readouterr().err
    find_face(media.read_image(tmp_path / "a.png"), tmp_path / "a.png", Preprocess(), 64, None)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_leaves_no_file_and_keeps_the_old_one(model, tmp_path):
    out = tmp_path / "a.mp4"
    out.write_bytes(b"old")

    def press() -> None:
        while len(os.listdir(tmp_path)) == 1:  # until its unfinished video is there
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    slow = ["--sampler", "{use: ddim, steps: 1000}"]
    ended = dheads("animate", FACE, TALK, "-o", out, "--overwrite", "--model", model, *slow)
    assert ended.code == 130
    assert ended.stderr.endswith("error: stopped by Ctrl-C\n")
    assert "Traceback" not in ended.stderr
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert out.read_bytes() == b"old"


def test_set_comes_after_the_sampler_that_was_chosen(model, tmp_path):
    speech = write_speech(tmp_path / "speech.flac", 0.2)
    words = ("animate", FACE, speech, "--model", model)
    chosen = ("--sampler", "{use: ddim, steps: 3, eta: 0.5}", "-o", tmp_path / "a.mp4")
    assert dheads(*words, *chosen).code == 0
    longer = ("--sampler", "{use: ddim, steps: 9, eta: 0.5}", "-o", tmp_path / "b.mp4")
    assert dheads(*words, *longer, "--set", "sample.sampler.steps=3").code == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_setting_that_animate_does_not_read_is_refused(model, tmp_path):
    speech, out = write_speech(tmp_path / "speech.flac", 0.2), tmp_path / "a.mp4"
    done = dheads("animate", FACE, speech, "--model", model, "-o", out, "--set", "sample.batch_size=3")
    assert (done.code, out.exists()) == (2, False)
    assert "one clip is drawn at a time" in done.stderr


@pytest.mark.parametrize("setting", ["warm_start=0.4", "stabilize_every=2", "anchor=0.5"])
def test_the_frame_loop_s_options_reach_the_frames(model, tmp_path, setting):
    speech = write_speech(tmp_path / "speech.flac", 0.2)
    for name, more in (("plain", ()), ("set", ("--set", f"sample.{setting}"))):
        assert dheads("animate", FACE, speech, "--model", model, "-o", tmp_path / f"{name}.mp4", *more).code == 0
    assert not np.array_equal(frames_of(tmp_path / "plain.mp4"), frames_of(tmp_path / "set.mp4"))
