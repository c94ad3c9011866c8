"""Written videos hold what was written, and a failure leaves the old file as it was."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import odd_media as odd
import pytest
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.encoder import add_h264, mux_frames
from dheads_cli.data.video_writer import VideoWriter
from dheads_cli.errors import DheadsError


def sine(seconds: float) -> NDArray[np.float32]:
    """440 Hz at 16 kHz."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 16000)) / 16000)).astype(np.float32)


def test_a_written_video_holds_its_frames_and_sound(tmp_path: Path) -> None:
    wave, path = sine(1.0), tmp_path / "a.mp4"
    with VideoWriter(path, 25, (48, 32), wave, metadata={"title": "a face"}) as writer:
        for k in range(25):
            writer.write(np.full((32, 48, 3), 20 * (k % 10), np.uint8))
    frames = media.read_video(path, 25).frames
    assert [round(float(frame.mean()) / 20) for frame in frames] == [k % 10 for k in range(25)]
    heard = media.read_audio(path, 16000)[:16000]
    assert np.corrcoef(heard, wave)[0, 1] > 0.99
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")  # plays while it loads
    assert b"a face" in path.read_bytes()
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_an_existing_video_is_kept_without_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(DheadsError, match=r"a\.mp4 exists.*--overwrite"):
        VideoWriter(path, 25, (32, 32))
    assert path.read_bytes() == b"old"


def test_a_break_while_writing_keeps_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    writer = VideoWriter(path, 25, (32, 32), sine(1), overwrite=True)
    with contextlib.suppress(KeyboardInterrupt), writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_the_same_frames_give_the_same_bytes_whatever_lay_in_memory() -> None:
    """Where the CPU has AVX-512, x264 else gives other bytes for one in fifteen of such small clips."""
    frames = np.stack([cv2.resize(frame, (32, 32)) for frame in odd.flashing(50, [11, 36], width=3)])
    rng, encoded = np.random.default_rng(0), set()
    for _ in range(100):
        stirred = [np.full(size, rng.integers(256), np.uint8) for size in rng.integers(20_000, 130_000, 100)]
        del stirred[::2]  # free again, with what was in it
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            mux_frames(container, add_h264(container, 25, (32, 32), 18, "yuv420p", "veryfast"), frames)
        encoded.add(file.getvalue())
    assert len(encoded) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_without_frames_says_so_and_keeps_the_old_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(DheadsError, match="no frame"), VideoWriter(path, 25, (48, 32), sine(0.2), overwrite=True):
        pass
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def test_places_that_take_no_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="does not exist"):
        VideoWriter(tmp_path / "none" / "a.mp4", 25, (32, 32))
    with pytest.raises(DheadsError, match=r"must end in \.mp4"):
        VideoWriter(tmp_path / "a.avi", 25, (32, 32))
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(DheadsError, match="is a folder"):
        VideoWriter(tmp_path / "b.mp4", 25, (32, 32), overwrite=True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_folder_that_cant_be_written_says_so() -> None:
    with pytest.raises(DheadsError, match="can't be written"):
        VideoWriter(Path("/proc/self/a.mp4"), 25, (32, 32))


FILL_UP = """
import os, resource, sys
from pathlib import Path
import numpy as np
from dheads_cli.data.video_writer import VideoWriter
from dheads_cli.errors import DheadsError

path = Path(sys.argv[1])

def write():
    rng = np.random.default_rng(0)
    with VideoWriter(path, 25, (64, 64), rng.random(16000, "f4"), overwrite=True) as writer:
        for _ in range(25):
            writer.write(rng.integers(0, 255, (64, 64, 3), np.uint8))

write()
size = path.stat().st_size
path.write_bytes(b"old")
for limit in (0, size // 2, size - 2000, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write()
    except DheadsError as error:
        print(path.read_bytes(), os.listdir(path.parent), error)
"""


def test_a_full_disk_keeps_the_old_video(tmp_path: Path) -> None:
    run = [sys.executable, "-c", FILL_UP, str(tmp_path / "a.mp4")]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(told) == 4
    assert all(line.startswith("b'old' ['a.mp4'] ") and "a.mp4 can't be written: " in line for line in told)
