"""Many videos at once: every row is checked before any is drawn, and each comes out as it would alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import FACE, OTHER_FACE, dheads, make_checkpoint, write_speech
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.picture_writer import MOVING
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_tensors, save_tensors
from dheads_cli.run.animate_jobs import read_jobs
from dheads_cli.run.kept_frames import STATE, folder_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors")


def write_jobs(folder: Path, *rows: str, header: str = "face,speech,out") -> Path:
    path = folder / "jobs.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def frames_in(folder: Path) -> NDArray[np.int64]:
    return np.stack([media.read_image(path).astype(np.int64) for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize("more", [(), ("--set", "sample.warm_start=0.5", "--set", "sample.stabilize_every=3")])
def test_each_video_is_the_one_that_is_made_alone(model: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    """Within one level: the network's sums round otherwise when it sees several frames at once."""
    lengths = {"a": 0.48, "b": 0.16, "c": 0.28, "d": 0.12}  # each place is taken again
    for name, seconds in lengths.items():
        write_speech(tmp_path / f"{name}.flac", seconds)
    rows = [f"{FACE},a.flac,a/,5,", f'"{OTHER_FACE}",b.flac,b/,,1', "", f"{FACE},c.flac,c/,,", f"{FACE}, d.flac, d/,9,"]
    path = write_jobs(tmp_path, *rows, header="face,speech,out,seed,face_index")
    words = ("--model", model, "--size", "32", *more)
    ended = dheads("animate", "--batch", path, *words, "--set", "sample.batch_size=2", "--json")
    assert ended.code == 0, ended.stderr
    made = json.loads(ended.stdout)
    assert [(job["line"], job["done"]) for job in made["jobs"]] == [(2, True), (3, True), (5, True), (6, True)]
    assert made["frames"] == 26
    for name, face, seed in (("a", FACE, 5), ("b", OTHER_FACE, 3), ("c", FACE, 3), ("d", FACE, 9)):
        alone = f"{tmp_path}/alone-{name}/"
        arguments = ("animate", face, tmp_path / f"{name}.flac", "-o", alone, "--seed", str(seed), *words)
        assert dheads(*arguments).code == 0
        together = frames_in(tmp_path / name)
        assert len(together) == round(lengths[name] * 25)
        assert np.abs(together - frames_in(Path(alone))).max() <= 1
        assert (tmp_path / name / "sound.flac").read_bytes() == (Path(alone) / "sound.flac").read_bytes()


def test_all_that_is_wrong_is_said_and_nothing_is_drawn(model: Path, tmp_path: Path) -> None:
    write_speech(tmp_path / "a.flac", 0.2)
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    (tmp_path / "there.mp4").write_bytes(b"old")
    rows = [
        f"{FACE},a.flac,a.mp4", f"{FACE},none.flac,b.mp4", "no.jpg,a.flac,c.mp4", f"{FACE},a.flac,a.mp4",
        f"{FACE},a.flac,none/d.mp4", f"{FACE},a.flac,there.mp4",
    ]  # fmt: skip
    before = sorted(tmp_path.iterdir())
    ended = dheads("animate", "--batch", write_jobs(tmp_path, *rows), "--model", model, "--quiet")
    assert ended.code == 2
    lines = ended.stderr.splitlines()
    assert lines[0].endswith("jobs.csv: 5 rows can't be used, so nothing is drawn:")
    expected = [(3, "none.flac"), (4, "no.jpg"), (5, "line 2 too"), (6, "does not exist"), (7, "exists")]
    for line, (number, text) in zip(lines[1:], expected, strict=True):
        assert f"line {number}: " in line
        assert text in line
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "jobs.csv"])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", r"jobs\.csv:1: no column face, speech, out"),
        ("face;speech;out\na;b;c.mp4\n", r"must be face,speech,out, and is 'face;speech;out'\.$"),
        ("\udcfface,speech,out\n", r"no CSV in UTF-8 .*; spreadsheets save one as 'CSV UTF-8'"),
        ("face,speech\na,b\n", r"no column out"),
        ("face,speech,out,sed\n", r"column 'sed' is not known"),
        ("face,speech,out\n", r"no jobs in it"),
        ("face,speech,out\na,b\n", r"line 2: 2 values for 3 columns"),
        ("face,speech,out\na,,c.mp4\n", r"line 2: no speech"),
        ("face,speech,out\na,-,c.mp4\n", r"line 2: standard input and output are for a single video"),
        ("face,speech,out,seed\na,b,c.mp4,-1\nx,y,z.mp4,x\n", r"(?s)line 2: seed '-1' is no .*line 3: seed 'x' is no"),
        ('face,speech,out\n"a,b,c.mp4\n', r"is no CSV"),
    ],
)
def test_a_file_that_can_not_be_read_is_told_why(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "jobs.csv").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DheadsError, match=text):
        read_jobs(tmp_path / "jobs.csv")


def test_paths_begin_at_the_file_s_folder(tmp_path: Path) -> None:
    path = write_jobs(tmp_path, '"my face.jpg",/data/a.wav,"out, 1/"')
    job = read_jobs(path)[0]
    assert (job.face, job.speech, job.out) == (tmp_path / "my face.jpg", Path("/data/a.wav"), f"{tmp_path}/out, 1/")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("a.jpg,a.wav,a.mp4,4294967296", "seed '4294967296' is no whole number from 0 to 4294967295"),
        (f"a.jpg,a.wav,a.mp4,{'9' * 5000}", "is no whole number from 0 to"),
        ("a.jpg,a.wav,a\0.mp4,", "holds a character NUL"),
    ],
)
def test_odd_values_are_told_by_line(tmp_path: Path, row: str, text: str) -> None:
    with pytest.raises(DheadsError, match="line 2: ") as caught:
        read_jobs(write_jobs(tmp_path, row, header="face,speech,out,seed"))
    assert text in str(caught.value)


def test_a_job_that_fails_does_not_stop_the_others_and_done_ones_are_left_out(model: Path, tmp_path: Path) -> None:
    write_speech(tmp_path / "a.flac", 0.2)
    path = write_jobs(tmp_path, *(f"{FACE},a.flac,{name}.mp4" for name in "abc"))
    damaged = folder_of(f"{tmp_path}/b.mp4")
    damaged.mkdir()
    (damaged / STATE).write_bytes(b"no state")
    words = ("animate", "--batch", path, "--model", model, "--size", "32", "--set", "sample.batch_size=2")
    ended = dheads(*words, "--resume")
    assert ended.code == 2
    assert "1 of 3 jobs failed" in ended.stderr
    assert [(tmp_path / f"{name}.mp4").exists() for name in "abc"] == [True, False, True]
    (damaged / STATE).unlink()
    times = [(tmp_path / f"{name}.mp4").stat().st_mtime_ns for name in "ac"]
    ended = dheads(*words, "--resume")
    assert ended.code == 0
    assert ended.stdout.count("was there already") == 2
    assert [(tmp_path / f"{name}.mp4").stat().st_mtime_ns for name in "ac"] == times
    assert (tmp_path / "b.mp4").exists()


def changed(folder: Path, what: str) -> tuple[str | Path, ...]:
    """Change one of the things that a job is made from; returns what to add to the command."""
    if what == "face":
        shutil.copy(OTHER_FACE, folder / "face.jpg")
    elif what == "speech":
        write_speech(folder / "a.flac", 0.16)
    elif what == "weights":
        tensors, info = load_tensors(folder / "m.safetensors")
        save_tensors(folder / "m.safetensors", tensors, {**info, "step": 8})
    return {"seed": ("--seed", "8"), "settings": ("--quality", "best")}.get(what, ())


@pytest.mark.parametrize("what", ["face", "speech", "weights", "seed", "settings"])
def test_a_job_of_which_something_has_changed_is_told_and_made_anew_by_overwrite(
    model: Path, tmp_path: Path, what: str
) -> None:
    for source, name in ((FACE, "face.jpg"), (model, "m.safetensors")):
        shutil.copy(source, tmp_path / name)
    write_speech(tmp_path / "a.flac", 0.12)
    path = write_jobs(tmp_path, "face.jpg,a.flac,a.mp4", "face.jpg,a.flac,b/")
    words = ("animate", "--batch", path, "--model", tmp_path / "m.safetensors", "--resume", "--size", "32")
    assert dheads(*words).code == 0
    first = (tmp_path / "a.mp4").read_bytes()
    assert dheads(*words, "--set", "sample.batch_size=3").stdout.count("was there already") == 2
    more = changed(tmp_path, what)
    ended = dheads(*words, *more)
    named = "other settings" if what == "settings" else f"another {what}"
    assert ended.code == 2
    assert ended.stderr.count(f" was made with {named}; --overwrite makes it anew") == 2
    assert ended.stderr.count("line ") == 2
    assert (tmp_path / "a.mp4").read_bytes() == first
    ended = dheads(*words, *more, "--overwrite")
    assert ended.code == 0
    assert ended.stderr.count(f"was made with {named}, and is made anew") == 2
    assert (tmp_path / "a.mp4").read_bytes() != first
    assert dheads(*words, *more, "--overwrite").stdout.count("was there already") == 2


def test_a_folder_that_was_killed_while_its_frames_were_moved_is_made_anew(model: Path, tmp_path: Path) -> None:
    write_speech(tmp_path / "a.flac", 0.12)
    path = write_jobs(tmp_path, f"{FACE},a.flac,a/")
    words = ("animate", "--batch", path, "--model", model, "--size", "32", "--resume")
    assert dheads(*words).code == 0
    whole = frames_in(tmp_path / "a")
    moving = tmp_path / "a" / f".1{MOVING}"
    moving.mkdir()
    (tmp_path / "a" / "000002.png").rename(moving / "000002.png")
    ended = dheads(*words)
    assert (ended.code, ended.stdout.count("was there already")) == (0, 0)
    assert np.array_equal(frames_in(tmp_path / "a"), whole)
    assert not moving.exists()


def test_a_video_that_is_not_ours_stays(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"mine")
    write_speech(tmp_path / "a.flac", 0.12)
    ended = dheads("animate", "--batch", write_jobs(tmp_path, f"{FACE},a.flac,a.mp4"), "--model", model, "--resume")
    assert ended.code == 2
    assert "a.mp4 does not say that dheads made it; --overwrite makes it anew" in ended.stderr
    assert (tmp_path / "a.mp4").read_bytes() == b"mine"


def test_what_is_of_a_single_video_is_refused(tmp_path: Path) -> None:
    path = write_jobs(tmp_path, "a,b,c.mp4")
    assert "-o is of a single video" in dheads("animate", "--batch", path, "-o", "a.mp4").stderr
    assert "FACE is of a single video" in dheads("animate", FACE, "--batch", path).stderr
    assert "FACE and SPEECH are missing" in dheads("animate", FACE).stderr
