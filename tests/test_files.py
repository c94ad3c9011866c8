"""Atomic writes."""

import os
from pathlib import Path

import pytest

from dheads_cli.errors import DheadsError
from dheads_cli.files import remove_parts, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / f".file.{os.getpid()}.part").mkdir()  # the temporary file can't be made
    with pytest.raises(DheadsError, match="can't be written"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_writer_disturbs_no_other_process_s(tmp_path: Path) -> None:
    theirs = (tmp_path / ".file.1.part", tmp_path / "file.part")
    for part in theirs:
        part.write_bytes(b"half of what another process wri")
    write_atomically(tmp_path / "file", b"ours")
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert {part.read_bytes() for part in theirs} == {b"half of what another process wri"}


def test_parts_of_one_file_are_removed(tmp_path: Path) -> None:
    for name in (".file.1.part", ".other.1.part", "file.part", "file"):
        (tmp_path / name).touch()
    remove_parts(tmp_path, "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.1.part", "file", "file.part"]


def test_text_and_bytes_are_written(tmp_path):
    write_atomically(tmp_path / "text", "Gesicht: ä")
    write_atomically(tmp_path / "text", b"new")
    assert (tmp_path / "text").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_parts_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    for name in (".clip.mp4.123.part", "file.part", "clip.mp4", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "folder.part").mkdir()
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "clip.mp4", "folder.part"]


def test_a_text_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(DheadsError, match="can't be written"):
        write_atomically(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
