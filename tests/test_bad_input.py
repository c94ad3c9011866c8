"""Bad input: `dheads animate` exits with 2, says in one line what is wrong, and writes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import FACE, TALK, Ended, dheads, make_checkpoint, write_speech, write_two_faces
from PIL import Image
from safetensors.torch import save_file

from dheads_cli.data import media


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("speech") / "speech.flac", 0.12)


def refused(*words: str | Path) -> str:
    """What `dheads animate` says against its input."""
    ended = dheads("animate", *words)
    assert_refusal(ended)
    return ended.stderr.splitlines()[-1].removeprefix("error: ")


def assert_refusal(ended: Ended) -> None:
    assert ended.code == 2, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")


# The photo


def photo_without_face(path):
    Image.linear_gradient("L").resize((320, 240)).save(path)


def broken_photo(path):
    path.write_bytes(FACE.read_bytes()[: FACE.stat().st_size // 2])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (photo_without_face, "a.jpg: no face found in this 320x240 picture; take one that shows a whole face"),
        (broken_photo, "a.jpg is a broken picture (image file is truncated"),
        (lambda path: path.write_text("no picture"), "a.jpg is not a picture that can be read: save it as JPEG"),
        (lambda path: path.write_bytes(b""), "a.jpg is not a picture that can be read"),
        (lambda path: path.mkdir(), "a.jpg: no such picture."),
        (lambda path: None, "a.jpg: no such picture."),
        (lambda path: path.write_bytes(TALK.read_bytes()), "a.jpg is not a picture that can be read"),
        (lambda path: Image.open(FACE).resize((60, 48)).save(path), "a.jpg: the face is only 19 px large; take"),
    ],
    ids=["no face", "broken", "text", "empty", "folder", "missing", "a recording", "tiny face"],
)  # fmt: skip
def test_a_photo_that_cant_be_used(model, speech, tmp_path, make, text):
    make(tmp_path / "a.jpg")
    assert text in refused(tmp_path / "a.jpg", speech, "-o", tmp_path / "a.mp4", "--model", model)
    assert not (tmp_path / "a.mp4").exists()


def test_a_face_out_of_range(model, speech, tmp_path):
    photo = write_two_faces(tmp_path / "two.png")
    words = [photo, speech, "-o", tmp_path / "a.mp4", "--model", model]
    assert refused(*words, "--face", "3") == f"{photo}: --face 3, but faces found: 2; --face 1 is the largest."
    assert not (tmp_path / "a.mp4").exists()


# The recording


def silent_film(path):
    with media.VideoWriter(path.with_suffix(".mp4"), 25, (32, 32)) as writer:
        for _ in range(25):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    path.with_suffix(".mp4").rename(path)


def corrupt_recording(path):
    wave = media.read_audio(TALK, 16000)
    data = bytearray(media.encode_flac(wave, 16000))
    third = len(data) // 3
    data[third : 2 * third] = np.random.default_rng(0).bytes(third)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (silent_film, "no sound: {path} has no audio stream"),
        (lambda path: path.write_bytes(FACE.read_bytes()), "no sound: {path} has no audio stream"),
        (corrupt_recording, "damaged: {path}: "),
        (lambda path: path.write_bytes(TALK.read_bytes()[:44]), "no sound: {path}: its audio stream holds no samples"),
        (lambda path: path.write_text("no recording"), "no sound: {path}: its audio stream holds no samples"),
        (lambda path: path.write_bytes(b""), "{path}: nothing is in it."),
        (lambda path: None, "{path}: no such recording."),
        (lambda path: path.mkdir(), "{path}: no such recording."),
        (lambda path: write_speech(path, 0.05), "{path}: 0.050 s of sound are too short; take at least 0.1 s."),
    ],
    ids=["silent film", "a photo", "corrupt", "header only", "text", "empty", "missing", "folder", "0.05 s"],
)
def test_a_recording_that_cant_be_used(model, tmp_path, make, text):
    make(tmp_path / "a.flac")
    said = refused(FACE, tmp_path / "a.flac", "-o", tmp_path / "a.mp4", "--model", model)
    assert said.startswith(text.format(path=tmp_path / "a.flac"))
    assert not (tmp_path / "a.mp4").exists()


# The output


def test_places_that_take_no_video(model, speech, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    cases = {
        tmp_path / "none" / "a.mp4": f"the folder {tmp_path}/none does not exist. Make it first.",
        tmp_path / "file" / "a.mp4": f"the folder {tmp_path}/file does not exist.",
        tmp_path / "folder.mp4": "folder.mp4 is a folder: name a file.",
        tmp_path / "a.avi": "a.avi: the name must end in .mp4, .m4v, .mov, .webm, .gif, or in / for",
        tmp_path / "a": "a: the name must end in .mp4, .m4v, .mov, .webm, .gif, or in / for",
    }
    for out, text in cases.items():
        assert text in refused(FACE, speech, "-o", out, "--model", model)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.mp4"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, where nobody can make files")
def test_a_folder_that_cant_be_written(model, speech):
    assert "the folder /proc/self can't be written to" in refused(
        FACE, speech, "-o", "/proc/self/a.mp4", "--model", model
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where it likes")
def test_a_read_only_folder(model, speech, tmp_path):
    tmp_path.chmod(0o500)
    assert "can't be written" in refused(FACE, speech, "-o", tmp_path / "a.mp4", "--model", model)


def test_an_existing_video_is_kept_unless_told_otherwise(model, speech, tmp_path):
    out = tmp_path / "a.mp4"
    out.write_bytes(b"old")
    words = [FACE, speech, "-o", out, "--model", model]
    assert refused(*words) == f"{out} exists: choose another name, or pass --overwrite."
    assert out.read_bytes() == b"old"
    assert dheads("animate", *words, "--overwrite").code == 0
    assert len(media.read_video(out, 25).frames) == 3


@pytest.mark.skipif(os.name == "nt", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_keeps_the_old_video(model, speech, tmp_path):
    import resource

    out = tmp_path / "a.mp4"
    out.write_bytes(b"old")
    words = [FACE, speech, "-o", out, "--model", model, "--overwrite"]
    done = subprocess.run(
        [sys.executable, "-m", "dheads_cli", "animate", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert_refusal(Ended(done.returncode, done.stdout, done.stderr))
    assert f"{out} can't be written: File too large" in done.stderr
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert out.read_bytes() == b"old"


# The model and the options


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_truncated_checkpoint(model, speech, tmp_path, keep):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(model.read_bytes()[:keep])
    said = refused(FACE, speech, "-o", tmp_path / "a.mp4", "--model", path)
    assert said.startswith(f"{path}: not a whole safetensors file (")
    assert said.endswith("; fetch or train it again")
    assert os.listdir(tmp_path) == ["cut.safetensors"]


def test_what_is_no_checkpoint(speech, tmp_path):
    words = [FACE, speech, "-o", tmp_path / "a.mp4", "--model"]
    path = tmp_path / "model.safetensors"
    path.write_bytes(FACE.read_bytes())
    assert refused(*words, path).startswith(f"{path}: not a whole safetensors file (")
    save_file({"weight": torch.zeros(2)}, path)
    assert refused(*words, path).startswith(f"{path}: safetensors, but not a dheads checkpoint")
    assert refused(*words, tmp_path).startswith(f"{tmp_path}: no checkpoints/step-*.safetensors here")
    assert "no such file or run folder, and no shipped model of that name; did you mean 'tiny'?" in refused(
        *words, "tyni"
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--sampler", "nope"], "--sampler nope: no sampler is called 'nope'. Available: "),
        (["--sampler", "dimm"], "--sampler dimm: no sampler is called 'dimm'; did you mean 'ddim'? Available: "),
        (["--sampler", "{use: ddim, stps: 3}"], "ddim has no option 'stps'; did you mean 'steps'?"),
        (["--sampler", "{use: ddim, steps: 0}"], "steps must be at least 1, not 0"),
        (["--motion-noise", "0.3"], "motion noise 0.3: small does not know model.noised_motion; use 0"),
        (["--size", "65"], "--size 65: the video's width and height must be even, from 16 to 4096."),
        (["--size", "100000"], "--size 100000: the video's width and height must be even, from 16 to 4096."),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--device", "abacus"], "--device abacus: "),
    ],
)
def test_an_option_that_cant_be(model, speech, tmp_path, words, text):
    assert text in refused(FACE, speech, "-o", tmp_path / "a.mp4", "--model", model, *words)
    assert not os.listdir(tmp_path)


def test_a_seed_that_no_generator_takes(speech, tmp_path):
    ended = dheads("animate", FACE, speech, "-o", tmp_path / "a.mp4", "--seed", "99999999999999999999")
    assert ended.code == 2
    assert "Invalid value for '--seed'" in ended.stderr


def test_a_name_that_is_too_long(model, speech, tmp_path):
    """That of its hidden neighbours is longer still."""
    for name in ("a" * 300 + ".mp4", "a" * 245 + ".mp4"):
        assert "File name too long" in refused(FACE, speech, "-o", tmp_path / name, "--model", model)


def test_standard_input_that_is_closed(model, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in refused(FACE, "-", "-o", tmp_path / "a.mp4", "--model", model)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="rights, which root does not need")
def test_a_folder_that_may_not_be_looked_into(model, speech, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    for face, said, out in ((closed / "a.jpg", speech, "a.mp4"), (FACE, closed / "a.wav", "a.mp4")):
        assert "closed" in refused(face, said, "-o", tmp_path / out, "--model", model)
    assert "Permission denied" in refused(FACE, speech, "-o", closed / "a.mp4", "--model", model)
