"""A video goes where its name says, with its frames, its sound and a word on what made it; or nowhere at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import odd_media as odd
import pytest
from commands import FACE, dheads, make_checkpoint, write_speech
from numpy.typing import NDArray
from PIL import Image

from dheads_cli.data import media, outputs
from dheads_cli.data.picture_writer import GifWriter, PngWriter
from dheads_cli.data.provenance import Provenance, made_here, read_provenance
from dheads_cli.data.video_writer import VideoStream
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of

RATE = 48000
MADE = Provenance("0.1.0", "tiny", 3, {"face": "0123456789ab", "settings": "cdef01234567"})
TAGS = MADE.tags("a face")


def write_flashes(out: str, n_frames: int = 50) -> None:
    """Flashes and clicks at 0.5 and 1.5 s."""
    sound = odd.clicking(n_frames / 25, [0.5, 1.5], RATE)[0]
    with outputs.open_output(out, 25, (64, 48), sound, RATE, tags=TAGS, overwrite=True) as video:
        for frame in odd.flashing(n_frames, [11, 36], width=3):
            video.write(frame)


def check_flashes(path: Path) -> None:
    clip = media.read_video(path, 25)
    assert clip.frames.shape == (50, 48, 64, 3)
    assert odd.seen(clip.frames, 25) == [pytest.approx(0.48), pytest.approx(1.48)]
    clicks = odd.heard(media.read_audio(path, RATE, clip.start), RATE)
    assert clicks == [pytest.approx(0.5, abs=0.005), pytest.approx(1.5, abs=0.005)]
    assert read_provenance(path) == MADE


@pytest.mark.parametrize(("suffix", "codecs"), [(".mp4", ("h264", "aac")), (".webm", ("vp9", "opus"))])
def test_a_suffix_chooses_the_codecs(tmp_path: Path, suffix: str, codecs: tuple[str, str]) -> None:
    out = tmp_path / f"a{suffix}"
    write_flashes(str(out))
    check_flashes(out)
    with av.open(str(out)) as container:
        assert tuple(stream.codec_context.name.removeprefix("lib") for stream in container.streams) == codecs
        assert container.streams.video[0].pix_fmt == "yuv420p"
    first = out.read_bytes()
    write_flashes(str(out))
    assert out.read_bytes() == first


def test_a_gif_keeps_its_time_whatever_its_rate(tmp_path: Path) -> None:
    out = tmp_path / "a.gif"
    with GifWriter(out, 30, comment=MADE.statement()) as gif:
        for k in range(31):
            gif.write(np.full((16, 24, 3), 20 * (k % 12), np.uint8))
    with Image.open(out) as image:
        assert image.n_frames == 31  # type: ignore[attr-defined]
        times = []
        for k in range(31):
            image.seek(k)
            times.append(image.info["duration"])
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - 20 * (k % 12)).max() < 3
    assert sum(times) == 1030  # 31 / 30 s in 1/100 s
    assert set(times) == {30, 40}
    assert read_provenance(out) == MADE


def test_a_gif_of_a_face_looks_like_it(tmp_path: Path) -> None:
    face = np.asarray(Image.open(FACE).convert("RGB").resize((64, 64)))
    with GifWriter(tmp_path / "a.gif", 25, comment="") as gif:
        gif.write(face)
        gif.write(np.roll(face, 1, axis=1))
    with Image.open(tmp_path / "a.gif") as image:
        image.seek(1)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - np.roll(face, 1, axis=1)).mean() < 6
    assert os.listdir(tmp_path) == ["a.gif"]


def test_a_gif_is_not_endless(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match=r"at most 120 s, not 121; take \.mp4"):
        outputs.check_seconds(f"{tmp_path}/a.gif", 121)
    outputs.check_seconds(f"{tmp_path}/a.gif", 120)
    outputs.check_seconds(f"{tmp_path}/a.mp4", 121)


def test_a_folder_holds_exact_frames_and_the_sound(tmp_path: Path) -> None:
    write_flashes(f"{tmp_path}/frames/")
    folder = tmp_path / "frames"
    names = sorted(os.listdir(folder))
    assert names == [f"{k:06d}.png" for k in range(50)] + ["sound.flac"]
    assert [float(np.asarray(Image.open(folder / names[k])).mean()) for k in (10, 11, 13, 14)] == [0, 255, 255, 0]
    assert odd.heard(media.read_audio(folder / "sound.flac", RATE), RATE)[0] == pytest.approx(0.5, abs=1e-3)
    assert read_provenance(folder) == read_provenance(folder / names[7]) == MADE


@pytest.mark.parametrize("out", ["a.mp4", "a/"])
def test_sound_may_come_in_pieces(tmp_path: Path, out: str) -> None:
    sound, asked = odd.clicking(2, [0.5, 1.5], RATE)[0], []

    def pieces() -> Iterator[NDArray[np.float32]]:
        for begin in range(0, len(sound), 7001):
            asked.append(begin)
            yield sound[begin : begin + 7001]

    def write(name: str, track: media.Sound) -> Path:
        with outputs.open_output(f"{tmp_path}/{name}{out}", 25, (64, 48), track, RATE, tags=TAGS, overwrite=True) as to:
            for k, frame in enumerate(odd.flashing(50, [11, 36], width=3)):
                to.write(frame)
                assert not asked or asked[-1] < (k + 1) / 25 * RATE  # none before it is needed
        return tmp_path / f"{name}{out}"

    whole, cut = write("whole", sound), write("cut", pieces())
    assert len(asked) == 14
    names = sorted(os.listdir(whole)) if whole.is_dir() else [""]
    assert all((whole / name).read_bytes() == (cut / name).read_bytes() for name in names)


def test_frames_take_only_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DheadsError, match=r"holds notes\.txt"):
        outputs.check_output(str(tmp_path), overwrite=True)
    with pytest.raises(DheadsError, match="does not exist"):
        outputs.check_output(f"{tmp_path}/none/frames/", overwrite=True)
    write_flashes(f"{tmp_path}/frames/", 50)
    with pytest.raises(DheadsError, match="holds frames already"):
        outputs.check_output(f"{tmp_path}/frames", overwrite=False)
    write_flashes(f"{tmp_path}/frames", 40)
    assert len(os.listdir(tmp_path / "frames")) == 41


def test_frames_that_were_broken_off_leave_no_trace(tmp_path: Path) -> None:
    black: NDArray[np.uint8] = np.zeros((16, 16, 3), np.uint8)
    kept = tmp_path / "kept"
    kept.mkdir()
    for folder in (tmp_path / "new", kept):
        with contextlib.suppress(KeyboardInterrupt), PngWriter(folder, texts={}) as frames:
            frames.write(black)
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(kept) == []


def test_a_process_that_ends_while_it_moves_frames_leaves_no_folder_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(n_frames: int, level: int) -> None:
        with PngWriter(tmp_path / "frames", texts={}, overwrite=True) as frames:
            for _ in range(n_frames):
                frames.write(np.full((16, 16, 3), level, np.uint8))

    def broken(source: Path, target: Path) -> None:
        if target.name == "000001.png":
            raise KeyboardInterrupt
        shutil.move(source, target)

    write(3, 10)
    assert outputs.is_whole(f"{tmp_path}/frames/")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", broken)
        with pytest.raises(KeyboardInterrupt):
            write(4, 20)
    assert "000000.png" in os.listdir(tmp_path / "frames")
    assert not outputs.is_whole(f"{tmp_path}/frames/")
    outputs.check_output(f"{tmp_path}/frames/", overwrite=False)  # what was moved may be replaced
    write(2, 30)
    assert sorted(os.listdir(tmp_path / "frames")) == ["000000.png", "000001.png"]
    assert outputs.is_whole(f"{tmp_path}/frames/")


def test_a_stream_can_be_shown_while_it_is_made(tmp_path: Path) -> None:
    pipe, path = io.BytesIO(), tmp_path / "a.mp4"
    with VideoStream(pipe, 25, (64, 48), odd.clicking(2, [0.5, 1.5], RATE)[0], RATE, metadata=TAGS) as video:
        for k, frame in enumerate(odd.flashing(50, [11, 36], width=3)):
            video.write(frame)
            if k == 30:
                path.write_bytes(pipe.getvalue())
                assert len(_decoded(path)) >= 12  # what came in the first 1.2 s shows the first half second
    path.write_bytes(pipe.getvalue())
    check_flashes(path)


def _decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_a_reader_that_goes_away_ends_the_stream() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as file, pytest.raises(BrokenPipeError):
        write_black(file)


def test_why_a_stream_can_not_be_written_is_told() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(DheadsError, match="No space left on device"):
        write_black(file)


def test_a_closed_standard_output_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(DheadsError, match="standard output is closed"):
        outputs.check_output("-", overwrite=False)


def write_black(file: BinaryIO) -> None:
    with VideoStream(file, 25, (32, 32)) as video:
        for frame in odd.flashing(50, [], size=(32, 32)):
            video.write(frame)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_picture_and_sound_stay_together_for_an_hour(tmp_path: Path, suffix: str) -> None:
    """No more than 1 ms apart after three minutes, that is half a frame after an hour (which has been tried too).

    Two frames a second, to be quick, at a rate that divides neither a second nor the sound's rate.
    """
    fps, n_frames, out, rate = 2000 / 1001, 360, tmp_path / f"a{suffix}", 8000
    clicks = [at / fps for at in (2, n_frames - 3)]
    sound = odd.clicking(n_frames / fps, clicks, rate)[0]
    with outputs.open_output(str(out), fps, (16, 16), sound, rate, tags=TAGS, overwrite=False) as video:
        for frame in odd.flashing(n_frames, [], size=(16, 16)):
            video.write(frame)
    with av.open(str(out)) as container:
        shown = sorted(float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.size)
    assert len(shown) == n_frames
    assert shown == pytest.approx([k / fps for k in range(n_frames)], abs=1e-3)
    assert odd.heard(media.read_audio(out, rate, shown[0]), rate) == pytest.approx(clicks, abs=1e-3)


# The commands


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors")


def test_doctor_tells_what_animate_wrote(model: Path, tmp_path: Path) -> None:
    speech = write_speech(tmp_path / "speech.flac", 0.12)
    for out in ("a.webm", "a.gif", "frames/"):
        assert dheads("animate", FACE, speech, "--model", model, "-o", f"{tmp_path}/{out}", "--size", "64").code == 0
        told = json.loads(dheads("doctor", f"{tmp_path}/{out}", "--json").stdout)
        assert (told["says_synthetic"], told["model"], told["seed"]) == (True, "small", 3)
        assert told["version"] == made_here("", 0).version
        assert told["inputs"]["face"] == sha256_of(FACE)[:12]
        assert list(told["inputs"]) == ["face", "speech", "weights", "settings"]
    shown = dheads("doctor", FACE)
    assert shown.code == 0
    assert "does not say that dheads made it" in shown.stdout
    (tmp_path / "a.txt").write_text("no picture")
    assert dheads("doctor", tmp_path / "a.txt").code == 2
    assert dheads("doctor", tmp_path / "none.mp4").code == 2


def test_the_mark_is_in_the_corner_and_only_there(model: Path, tmp_path: Path) -> None:
    speech = write_speech(tmp_path / "speech.flac", 0.12)
    for out, more in (("plain/", ()), ("marked/", ("--mark",))):
        assert dheads("animate", FACE, speech, "--model", model, "-o", f"{tmp_path}/{out}", *more).code == 0
    plain, marked = (np.asarray(Image.open(tmp_path / name / "000002.png")).astype(int) for name in ("plain", "marked"))
    changed = np.abs(marked - plain).max(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert rows.min() > 256 * 0.9
    assert columns.max() < 256 * 0.5
    assert changed.sum() > 300


def test_unknown_suffixes_are_told_before_any_work(tmp_path: Path) -> None:
    ended = dheads("animate", FACE, tmp_path / "none.wav", "-o", tmp_path / "a.avi")
    assert ended.code == 2
    assert "must end in .mp4, .m4v, .mov, .webm, .gif, or in / for a folder of PNGs." in ended.stderr


def test_a_killed_process_of_the_same_number_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container every run may have the same one."""
    left = tmp_path / "frames" / f".{os.getpid()}.part"
    left.mkdir(parents=True)
    (left / "000007.png").touch()
    with PngWriter(tmp_path / "frames", texts={}) as frames:
        frames.write(np.zeros((16, 16, 3), np.uint8))
    assert os.listdir(tmp_path / "frames") == ["000000.png"]
