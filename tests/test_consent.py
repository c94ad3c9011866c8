"""The note on consent is shown once for each user, and never under --quiet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dheads_cli import console
from dheads_cli.run import consent


def test_it_is_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    console.configure(quiet=True)
    consent.remind()
    console.configure()
    assert capsys.readouterr().err == ""
    consent.remind()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("note: use faces and voices of people who agreed")
    consent.remind()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, where nobody can make files")
def test_a_home_that_cant_be_written_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", f"/proc/{os.getpid()}")
    consent.remind()
    consent.remind()
    assert capsys.readouterr().err.count("note: ") == 2
