"""`dheads preprocess --verify`: re-read a preprocessed corpus against its manifest and its record."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import yaml

from dheads_cli import console
from dheads_cli.data.manifest import MANIFEST, SETTINGS, ManifestRow, read_manifest
from dheads_cli.data.shard_writer import member_header
from dheads_cli.data.shards import Corpus, damaged_clips, members_in
from dheads_cli.errors import DheadsError


def verify(out: Path) -> dict[str, Any]:
    """Compare every byte of every shard, and the manifest's rows with the clips that there should be.

    Returns:
        The folder, its number of clips, and 0 damaged ones.

    Raises:
        DheadsError: something is damaged, missing or too much, or there is no finished corpus.
    """
    rows, corpus = read_manifest(out), Corpus(out)
    wrong = _wrong_rows(out, rows)
    n_clips = sum(row.status == "ok" for row in rows)
    names = sorted({row.shard for row in rows if row.shard})
    damaged: dict[str, str] = {}
    broken: list[str] = []
    with console.progress("verify", total=len(names), unit="shards") as bar:
        for name in names:
            members = [row for row in rows if row.shard == name]
            found = damaged_clips(corpus, members)
            if not found and not _is_exact(out / name, members):
                wrong.append(f"{out / name} is not what is written of its clips: bytes are too many, too few or others")
                broken.append(name)
            elif found:
                broken.append(name)
            damaged |= found
            bar.advance(1)
    if damaged:
        for clip, what in damaged.items():
            console.warn(f"{clip}: {what}")
        wrong.insert(0, f"{len(damaged)} of {n_clips} clips damaged")
    if wrong:
        there = ", ".join(name for name in broken if (out / name).is_file())
        raise DheadsError(
            f"{out}: {'; '.join(wrong)}. {f'Remove {there}' if there else 'Repair that'} and call the same `dheads "
            "preprocess` again: it makes what is missing."
        )
    console.info(f"{out}: {n_clips} clips in {len(names)} shards are whole")
    summary = {"out": str(out), "clips": n_clips, "damaged": 0}
    console.result(summary)
    return summary


def _wrong_rows(out: Path, rows: Sequence[ManifestRow]) -> list[str]:
    """What the manifest's rows have too many or too few of, beside the record of the corpus and the shards there."""
    wrong = []
    if twice := [clip for clip, count in Counter(row.id for row in rows).items() if count > 1]:
        wrong.append(f"{MANIFEST} has {len(twice)} clips more than once, first {twice[0]}")
    record = _record(out / SETTINGS)
    if not {"clips", "clips_sha256"} <= record.keys():
        wrong.append(f"{SETTINGS}, the record of how the corpus was made, is missing or damaged")
    elif len(rows) != record["clips"]:
        wrong.append(f"{MANIFEST} has {len(rows)} rows for {record['clips']} clips")
    elif clips_digest([(row.split, row.id) for row in rows]) != record["clips_sha256"]:
        wrong.append(f"{MANIFEST} is of other clips than {SETTINGS}")
    expected = {row.shard for row in rows}
    if strange := sorted(path.name for path in out.glob("*.tar") if path.name not in expected):
        wrong.append(f"{', '.join(strange)}: no clip of {MANIFEST} is in it")
    return wrong


def _record(path: Path) -> dict[str, Any]:
    """What is recorded of a corpus; nothing where that is not there or no YAML."""
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return record if isinstance(record, dict) else {}


def clips_digest(clips: Sequence[tuple[str, str]]) -> str:
    """sha256 over clips (split, id) in order of their ids: which clips a corpus has, and how they are split."""
    lines = [f"{split} {clip_id}" for split, clip_id in sorted(clips, key=lambda clip: clip[1])]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class _Compared:
    """A file to write to that only compares what is written with what another holds."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.same = True

    def write(self, data: bytes) -> int:
        self.same = self.same and self._file.read(len(data)) == data
        return len(data)

    def tell(self) -> int:
        return self._file.tell()


def _is_exact(path: Path, rows: Sequence[ManifestRow]) -> bool:
    """Whether a shard is, byte for byte, the one that is written of its clips: headers, gaps and end included."""
    with path.open("rb") as file:
        compared = _Compared(file)
        with tarfile.TarFile(fileobj=cast("IO[bytes]", compared), mode="w", format=tarfile.GNU_FORMAT) as tar:
            for row in rows:
                for extension, data in members_in(path, row).items():
                    tar.addfile(member_header(row.key, extension, len(data)), io.BytesIO(data))
        return compared.same and not file.read(1)
