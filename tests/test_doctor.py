"""`dheads doctor`: what it finds on a sound machine, and what it says where something is missing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from dheads_cli import console
from dheads_cli.errors import DheadsError
from dheads_cli.run.doctor import CHECKSUMS, Check, components_folder, disk, doctor, report, speed, weights


def test_a_sound_machine_passes_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor()
    assert found["ok"]
    assert all(check["ok"] for check in found["checks"] if check["needed"])
    shown = capsys.readouterr().out
    names = ("Python", "torch, torchaudio", "device", "codecs", "landmark detector", "shipped weights", "disk", "speed")
    for name in names:
        assert name in shown


def test_how_long_a_clip_takes_is_measured(tmp_path: Path) -> None:
    check = speed()
    assert check.ok
    assert check.found.startswith(f"a 3 s clip takes about {check.numbers['takes_s']:.0f} s with small on ")
    assert check.numbers["takes_s"] >= 74 * check.numbers["frame_s"] > 0


def test_too_little_room_is_a_warning_that_names_the_folder(tmp_path: Path) -> None:
    assert disk(tmp_path, tmp_path / "not" / "there").ok
    check = disk(tmp_path, tmp_path / "not" / "there", least_gb=1e9)
    assert not check.ok
    assert not check.needed
    assert f"{tmp_path}: videos are written there; {tmp_path / 'not' / 'there'}: networks" in check.remedy
    assert set(check.numbers["free_gb"]) == {str(tmp_path), str(tmp_path / "not" / "there")}


def test_json_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(json=True)
    try:
        found = report([Check("disk", "5 GiB free", needed=False)])
    finally:
        console.configure()
    assert json.loads(capsys.readouterr().out) == found
    assert found["checks"][0]["ok"]


def test_what_animate_needs_and_is_missing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DheadsError, match="codecs"):
        report([Check("codecs", "no libx264", "install PyAV"), Check("disk", "5 GiB")])
    shown = capsys.readouterr().out
    assert "missing" in shown
    assert "codecs: install PyAV" in shown


def test_what_animate_does_not_need_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([Check("disk", "0 GiB free", "free some", needed=False)])["ok"]
    shown = capsys.readouterr().out
    assert "missing" not in shown
    assert shown.rstrip().endswith("disk: free some\nAll that `dheads animate` needs is here.")


def test_shipped_weights_have_their_checksums() -> None:
    assert weights(components_folder()).ok


def test_damaged_and_missing_weights_are_named(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"whole").hexdigest()
    (tmp_path / CHECKSUMS).write_text(f"{digest}  whole.task\n{digest}  cut.task\n{digest}  gone.task\n")
    (tmp_path / "whole.task").write_bytes(b"whole")
    (tmp_path / "cut.task").write_bytes(b"wh")
    check = weights(tmp_path)
    assert not check.ok
    assert "cut.task is damaged" in check.found
    assert "gone.task is not there" in check.found
    assert "whole.task" not in check.found


def test_an_installation_without_checksums_is_no_sound_one(tmp_path: Path) -> None:
    assert not weights(tmp_path).ok
    assert not weights(None).ok
