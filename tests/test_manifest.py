"""The manifest: rows come back, and a line that is none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dheads_cli.data.manifest import ManifestRow, read_manifest, write_rows
from dheads_cli.errors import DheadsError


def test_rows_survive_the_manifest(tmp_path: Path) -> None:
    rows = [
        ManifestRow(
            "s1/a", "s1_a", "train", "s1", "s1/a.mpg", "ok", "", "", "train-000000.tar", 75, {"mp4": (512, 9)}, "ab"
        ),
        ManifestRow("s1/b", "s1_b", "train", "s1", "s1/b.mpg", "skipped", "no face", "in any of 75 frames"),
    ]
    write_rows(tmp_path / "manifest.jsonl", rows)
    assert read_manifest(tmp_path) == rows
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"id": "s1/c"}\n')
    with pytest.raises(DheadsError, match=r"manifest\.jsonl:3: no manifest row"):
        read_manifest(tmp_path)
