"""The samples manifest: what is written is read, and a wrong row is told with its place."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dheads_cli.data.samples import (
    SampleRow,
    read_samples,
    read_settings,
    write_samples,
    write_settings,
)
from dheads_cli.errors import DheadsError

ROW = SampleRow(
    id="s1_bbaf2n",
    file="s1_bbaf2n.mp4",
    speaker="s1",
    split="test",
    corpus="data/grid-64",
    clip_id="s1_bbaf2n",
    audio_clip_id="s1_bbaf2n",
    identity_frame=3,
    seed=0,
    kind="synced",
)


def test_rows_come_back(tmp_path: Path) -> None:
    other = replace(ROW, id="x", file="x.shuffled.mp4", audio_clip_id="s1_bbaf3s", kind="shuffled")
    write_samples(tmp_path, [ROW])
    write_samples(tmp_path, [ROW, other])
    assert read_samples(tmp_path) == [ROW, other]
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]


def test_every_wrong_row_is_told_with_its_line(tmp_path: Path) -> None:
    bad = [
        {**asdict(ROW), "kind": "loud"},
        {**asdict(ROW), "identity_frame": "3"},
        {**asdict(ROW), "file": "../x.mp4"},
        {"id": "x"},
    ]
    lines = [json.dumps(asdict(ROW)), *map(json.dumps, bad), "{"]
    (tmp_path / "samples.jsonl").write_text("\n".join(lines))
    with pytest.raises(DheadsError) as caught:
        read_samples(tmp_path)
    told = str(caught.value).splitlines()
    assert len(told) == 5
    assert "samples.jsonl:2: kind is 'loud'" in told[0]
    assert "identity_frame" in told[1]
    assert "leaves the samples folder" in told[2]
    assert "lacks file" in told[3]
    assert "samples.jsonl:6: not JSON" in told[4]


def test_a_folder_without_manifest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="dheads sample"):
        read_samples(tmp_path)
    (tmp_path / "samples.jsonl").write_text("\n")
    with pytest.raises(DheadsError, match="lists no clip"):
        read_samples(tmp_path)


def test_settings_come_back(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == {}
    write_settings(tmp_path, {"recipe": "tiny", "step": 400})
    assert read_settings(tmp_path) == {"recipe": "tiny", "step": 400}
