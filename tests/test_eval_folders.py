"""Folders of videos by any tool beside real ones: paired by name, brought to the reference's rate, size and length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import dheads
from numpy.typing import NDArray
from sample_folder import write_film

from dheads_cli.data.media import source_fps_of
from dheads_cli.data.samples import partners
from dheads_cli.errors import DheadsError
from dheads_cli.run.eval_folders import match_folders, named_groups
from dheads_cli.run.eval_pairs import Kept, Pair
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH, OTHER_REAL


class NoDetector:
    """Finds no face, and counts how often it is asked."""

    n_clips = 0

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.n_clips += 1
        return np.full((len(frames), 68, 2), np.nan, np.float32)

    def all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return []


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two clips; the generated ones differ from the real in rate, size, length, and one in its suffix."""
    real, ours = tmp_path / "real", tmp_path / "ours"
    write_film(real / "s1" / "a.mp4", list(range(0, 200, 10)))
    write_film(real / "s1" / "b.mp4", list(range(200, 0, -10)))
    write_film(real / "s1" / "unused.mp4", [0] * 5)
    write_film(ours / "s1" / "a.mov", list(range(0, 200, 5)), fps=50, size=(64, 64))
    write_film(ours / "s1" / "b.mp4", list(range(200, 60, -10)), size=(64, 32))
    return ours, real


def read_all(folders: tuple[Path, Path], detector: NoDetector) -> list[Pair]:
    kept = Kept()
    groups = named_groups(match_folders(*folders), ground_truth=True)
    return [pair for group in groups for pair in group.read(detector, kept)]


def test_videos_are_brought_to_the_reference_s_rate_size_and_length(folders: tuple[Path, Path]) -> None:
    pairs = read_all(folders, NoDetector())
    assert [pair.row for pair in pairs] == [GENERATED, GROUND_TRUTH, OTHER_REAL] * 2
    a, b = (pair for pair in pairs if pair.row == GENERATED)
    for pair in pairs:
        assert pair.clip.frames.shape == pair.reference.frames.shape
    assert a.clip.fps == 25
    assert len(a.clip.frames) == 20
    apart = np.abs(a.clip.frames.astype(int) - a.reference.frames)
    assert apart.mean() < 4  # frame k is the one shown at k / 25 s: half a step of 10 at most, and the coding
    assert a.facts["changed"] == "50 to 25 frames/s; 64 x 64 to 32 x 32 px"
    assert len(b.clip.frames) == 14
    assert b.facts["changed"] == "the reference cut to the shorter's length; 64 x 32 to 32 x 32 px, which stretches it"
    assert (a.clip.speaker, a.clip.id) == ("s1", "s1/a")


def test_a_real_clip_is_detected_once(folders: tuple[Path, Path]) -> None:
    detector = NoDetector()
    for pair in read_all(folders, detector):
        assert len(pair.clip.landmarks) == len(pair.reference.landmarks) == len(pair.clip.frames)
    assert detector.n_clips == 4


def test_the_command_tells_what_was_changed(folders: tuple[Path, Path]) -> None:
    ours, real = folders
    ended = dheads("eval", ours, "--reference", real, "--metrics", "psnr,mse,wer")
    assert ended.code == 0
    assert "1 clip: 50 to 25 frames/s; 64 x 64 to 32 x 32 px" in ended.stdout
    assert "1 video of" in ended.stderr
    report = json.loads((ours / "eval.json").read_text())
    assert report["reference"] == str(real)
    assert "generated 2 clips, another real clip 2 clips, ground truth 2 clips: it is not known" in ended.stdout
    assert report["rows"][GENERATED]["values"]["MSE"] < 50 < report["rows"][OTHER_REAL]["values"]["MSE"]


def test_what_can_t_be_paired_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    ours, real = folders
    write_film(ours / "c.mp4", [0])
    with pytest.raises(DheadsError, match=r"no video of the name of c in"):
        match_folders(ours, real)
    write_film(real / "C.mp4", [0])
    with pytest.raises(DheadsError, match=r"of the name of c \(it has C\) in"):
        match_folders(ours, real)
    with pytest.raises(DheadsError, match="its own reference"):
        match_folders(ours, ours)
    with pytest.raises(DheadsError, match="no such folder"):
        match_folders(ours, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DheadsError, match="holds no video"):
        match_folders(tmp_path / "empty", real)
    write_film(ours / "s1" / "b.mov", [0])
    with pytest.raises(DheadsError, match="share a name"):
        match_folders(ours, real)


def test_all_that_can_t_be_opened_is_told_before_anything_is_measured(folders: tuple[Path, Path]) -> None:
    ours, real = folders
    (ours / "s1" / "a.mov").write_bytes(b"")
    (real / "s1" / "b.mp4").write_bytes(b"no video")
    with pytest.raises(DheadsError, match=r"2 videos can't be read: .*a\.mov: .*; .*b\.mp4: .*\. Mend or remove them"):
        match_folders(ours, real)


def test_videos_of_any_tool_without_a_reference_are_told_what_they_need(folders: tuple[Path, Path]) -> None:
    ended = dheads("eval", folders[0], "--metrics", "psnr")
    assert ended.code == 2
    assert "is no samples folder" in ended.stderr
    assert "--reference DIR" in ended.stderr


def test_a_partner_is_another_clip_of_the_speaker() -> None:
    found = partners({"a1": "a", "b1": "b", "a2": "a", "a3": "a", "a4": "a"})
    assert found == {"a1": "a3", "a2": "a4", "a3": "a1", "a4": "a2"}


def test_the_frame_rate_is_the_one_the_file_states(tmp_path: Path) -> None:
    assert source_fps_of(write_film(tmp_path / "a.mp4", [0] * 9, fps=12.5)) == pytest.approx(12.5)
