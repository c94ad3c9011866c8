"""A video that was broken off goes on from its last frames, and ends up with the bytes of an unbroken run."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import FACE, OTHER_FACE, TALK, dheads, make_checkpoint, write_speech
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.lossless import decode_lossless, encode_lossless
from dheads_cli.errors import DheadsError
from dheads_cli.run.animate_clip import Clip, Drawing, ready
from dheads_cli.run.kept_frames import MAX_WAITING, STATE, folder_of, n_left
from dheads_cli.run.recording import listen

SECONDS = 5.0  # 125 frames: saved after 50 and 100


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.flac"
    path.write_bytes(media.encode_flac(np.resize(media.read_audio(TALK, 16000), round(SECONDS * 16000)), 16000))
    return path


def words(model: Path, speech: Path, out: str) -> list[str]:
    looking_back = ["--set", "sample.warm_start=0.6", "--set", "sample.stabilize_every=7"]
    settings = ["--set", "sample.sampler.steps=1", *looking_back]
    return ["animate", str(FACE), str(speech), "-o", out, "--model", str(model), "--size", "128", *settings]


def killed(arguments: list[str], after: int) -> None:
    """Run the command in a process of its own, and kill it once so many frames are safe."""
    out = arguments[arguments.index("-o") + 1]
    process = subprocess.Popen([sys.executable, "-m", "dheads_cli", *arguments], stderr=subprocess.DEVNULL)
    try:
        while n_left(out) < after:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()


def content(out: str) -> dict[str, bytes]:
    path = Path(out)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("name", "after"), [("a.mp4", 50), ("frames/", 100)])
def test_a_killed_run_goes_on_to_the_same_bytes(
    model: Path, speech: Path, tmp_path: Path, name: str, after: int
) -> None:
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    whole, out = f"{tmp_path}/whole/{name}", f"{tmp_path}/killed/{name}"
    assert dheads(*words(model, speech, whole)).code == 0
    killed(words(model, speech, out), after)
    left = n_left(out)
    ended = dheads(*words(model, speech, out), "--resume")
    assert ended.code == 0
    assert f"goes on after frame {left} of 125" in ended.stderr
    ours, theirs = content(out), content(whole)
    assert [name for name in theirs if ours.get(name) != theirs[name]] == []
    assert len(ours) == len(theirs)
    assert os.listdir(tmp_path / "killed") == [name.rstrip("/")]  # neither kept frames nor unfinished files


def broken_by(number: signal.Signals, arguments: list[str], out: Path) -> int:
    """Break a run off once frames are kept, look at what it says and leaves, and return its exit code."""
    process = subprocess.Popen([sys.executable, "-m", "dheads_cli", *arguments], stderr=subprocess.PIPE, text=True)
    while n_left(str(out)) < MAX_WAITING:
        assert process.poll() is None, "it ended before it could be broken off"
        time.sleep(0.002)
    process.send_signal(number)
    _, told = process.communicate()
    assert "frames are kept; --resume goes on with them" in told
    assert not list(out.parent.glob(".*.part"))
    return process.returncode


@pytest.fixture(scope="module")
def broken_off(model: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place of a video that Ctrl-C broke off."""
    out = tmp_path_factory.mktemp("broken") / "a.mp4"
    assert broken_by(signal.SIGINT, words(model, speech, str(out)), out) == 130
    return out


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_sigterm_ends_a_run_as_ctrl_c_does(model: Path, speech: Path, tmp_path: Path) -> None:
    assert broken_by(signal.SIGTERM, words(model, speech, str(tmp_path / "a.mp4")), tmp_path / "a.mp4") == 143


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_other_inputs_are_refused_by_name(model: Path, speech: Path, broken_off: Path, tmp_path: Path) -> None:
    def refused(arguments: list[str]) -> str:
        ended = dheads(*arguments, "--resume")
        assert ended.code == 2
        return ended.stderr

    arguments = words(model, speech, str(broken_off))
    other = arguments.copy()
    other[1] = str(OTHER_FACE)
    assert "was begun with another face." in refused(other)
    other = arguments.copy()
    other[2] = str(TALK)
    assert "was begun with another speech and another seed." in refused([*other, "--seed", "9"])
    assert "was begun with another sampling." in refused([*arguments, "--set", "sample.sampler.steps=3"])
    assert n_left(str(broken_off)) >= MAX_WAITING  # it is still there


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_the_same_bytes_from_standard_input_go_on(
    model: Path, speech: Path, broken_off: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.mp4"
    shutil.copytree(folder_of(str(broken_off)), folder_of(str(out)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(speech.read_bytes())))
    ended = dheads(*words(model, Path("-"), str(out)), "--resume", "--json")
    assert ended.code == 0
    made = json.loads(ended.stdout)
    assert (made["frames"], made["frames_before"] >= MAX_WAITING) == (125, True)
    assert len(media.read_video(out, 25).frames) == 125


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_damage_is_told_and_nothing_is_written(model: Path, speech: Path, broken_off: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    shutil.copytree(folder_of(str(broken_off)), folder_of(str(out)))
    frames = next(folder_of(str(out)).glob("*.mp4"))
    frames.write_bytes(frames.read_bytes()[:-1])
    ended = dheads(*words(model, speech, str(out)), "--resume")
    assert (ended.code, out.exists()) == (2, False)
    assert f"{frames} is damaged. Remove" in ended.stderr
    (folder_of(str(out)) / STATE).write_bytes(b"no state")
    assert "is damaged" in dheads(*words(model, speech, str(out)), "--resume").stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_frames_that_are_left_are_mentioned(model: Path, broken_off: Path, tmp_path: Path) -> None:
    out, short = tmp_path / "a.mp4", write_speech(tmp_path / "short.flac", 0.12)
    shutil.copytree(folder_of(str(broken_off)), folder_of(str(out)))
    ended = dheads(*words(model, short, str(out)), "--quiet")
    assert ended.code == 0
    assert f"{out}: {n_left(str(broken_off))} frames are kept from a run that was broken off" in ended.stderr
    assert "add --resume" in ended.stderr
    assert not folder_of(str(out)).exists()  # the video is there: nothing is left to go on with


def test_nothing_kept_is_said_and_a_stream_can_not_go_on(model: Path, tmp_path: Path) -> None:
    out, short = tmp_path / "a.mp4", write_speech(tmp_path / "short.flac", 0.12)
    unfinished = tmp_path / ".a.mp4.1.part"  # of a run that was killed before the first frames were kept
    unfinished.touch()
    ended = dheads(*words(model, short, str(out)), "--resume")
    assert ended.code == 0
    assert "no frames are kept" in ended.stderr
    assert not unfinished.exists()
    ended = dheads(*words(model, short, "-"), "--resume")
    assert ended.code == 2
    assert "what went into a stream is gone" in ended.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_the_previews_of_a_run_that_was_broken_off_are_in_nobodys_way(
    model: Path, speech: Path, broken_off: Path, tmp_path: Path
) -> None:
    out, crop, grown = tmp_path / "a.mp4", tmp_path / "crop.png", tmp_path / "grown.gif"
    shutil.copytree(folder_of(str(broken_off)), folder_of(str(out)))
    previews = ["--crop-preview", str(crop), "--preview-gif", str(grown)]
    for path in (crop, grown):
        path.touch()
    assert f"{crop} exists" in dheads(*words(model, speech, str(out)), *previews).stderr
    assert dheads(*words(model, speech, str(out)), *previews, "--resume").code == 0
    assert crop.stat().st_size > 0 < grown.stat().st_size


def drawn(model: Path, speech: Path, out: Path) -> Drawing:
    artist = ready(str(model), "cpu", None, None, ["sample.sampler.steps=1"], "normal")
    crop: NDArray[np.uint8] = np.full((32, 32, 3), 90, np.uint8)
    recording = listen(speech, artist.rate, 25.0)
    return Drawing(Clip(str(out), "a face", crop, recording, 3, lambda frame: frame, (32, 32)), artist)


def draw(drawing: Drawing) -> None:
    for window in drawing.windows():
        drawing.take(drawing.artist.drawer(drawing.identity, drawing.past, window, drawing.noise))


def test_a_model_and_a_recording_may_go_once_they_are_loaded(model: Path, tmp_path: Path) -> None:
    """A training run removes its old checkpoints while a video is drawn with one."""
    mine, speech = tmp_path / "mine.safetensors", write_speech(tmp_path / "a.flac", 2.2)
    shutil.copy(model, mine)
    with drawn(mine, speech, tmp_path / "a.mp4") as drawing:
        windows = drawing.windows()
        first = next(windows)
        mine.unlink()
        drawing.take(drawing.artist.drawer(drawing.identity, drawing.past, first, drawing.noise))
        speech.unlink()
        for window in windows:
            drawing.take(drawing.artist.drawer(drawing.identity, drawing.past, window, drawing.noise))
    assert (tmp_path / "a.mp4").exists()


def test_frames_in_any_layout_are_kept(model: Path, tmp_path: Path) -> None:
    """Guided ones are contiguous: then the last frame and the newest motion frame are one tensor."""
    speech = write_speech(tmp_path / "a.flac", 2.2)
    with drawn(model, speech, tmp_path / "a.mp4") as drawing:
        for window in drawing.windows():
            drawing.take(drawing.artist.drawer(drawing.identity, drawing.past, window, drawing.noise).contiguous())
    assert (tmp_path / "a.mp4").exists()


def test_frames_stay_and_are_mentioned_where_a_video_can_not_be_ended(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, speech = tmp_path / "a.mp4", write_speech(tmp_path / "a.flac", 2.2)
    drawing = drawn(model, speech, out)
    drawing.__enter__()
    draw(drawing)
    next(tmp_path.glob(".a.mp4.*.part")).unlink()
    with pytest.raises(DheadsError, match="can't be written"):
        drawing.__exit__(None, None, None)
    assert f"{out}: {MAX_WAITING} frames are kept; --resume goes on" in capsys.readouterr().err
    assert (n_left(str(out)), out.exists()) == (MAX_WAITING, False)


def test_frames_are_kept_exactly() -> None:
    noise: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    ramp = np.arange(5 * 64 * 64 * 3, dtype=np.int64).reshape(5, 64, 64, 3).astype(np.uint8)
    for frames in (noise, ramp, noise[:1]):
        assert np.array_equal(decode_lossless(encode_lossless(frames)), frames)
