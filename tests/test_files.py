"""Atomic writes."""

import pytest

from dheads_cli.errors import DheadsError
from dheads_cli.files import remove_parts, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / "file.part").mkdir()  # the temporary file can't be made
    with pytest.raises(DheadsError, match="can't be written"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


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
