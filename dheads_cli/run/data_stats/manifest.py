"""A manifest as columns, and the numbers that follow from it: half a million rows take seconds and tens of MB."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dheads_cli import console
from dheads_cli.data.manifest import ManifestRow, find_manifest, iterate_rows

LABELS = ("split", "speaker", "reason", "shard")
N_EXAMPLES = 3  # of skipped clips for each reason, and of whatever is in two splits
ROWS_A_STEP = 5_000  # of the progress bar


@dataclass(frozen=True)
class Columns:
    """One entry for each row of a manifest.

    Attributes:
        path: the manifest.
        offset: place of the row's line in the file, int64 [R] bytes.
        ok: whether the clip is stored [R].
        codes: split, speaker, reason and shard as indices into `names`, int32 [R].
        names: the texts those stand for.
        n_frames: int64 [R].
        n_bytes: of all members together, int64 [R].
        end: where in its shard the clip's last member ends, int64 [R] bytes.
        source: a 64-bit hash of the row's source [R].
        quality: measure -> float64 [R], NaN where a row does not have it.
    """

    path: Path
    offset: NDArray[np.int64]
    ok: NDArray[np.bool_]
    codes: Mapping[str, NDArray[np.int32]]
    names: Mapping[str, list[str]]
    n_frames: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    end: NDArray[np.int64]
    source: NDArray[np.uint64]
    quality: Mapping[str, NDArray[np.float64]]

    def row(self, index: int) -> ManifestRow:
        """A whole row, read again from the file."""
        with self.path.open("rb") as file:
            file.seek(int(self.offset[index]))
            return ManifestRow.from_json(file.readline().decode())


def read_columns(folder: Path) -> Columns:
    """Read a corpus's manifest in one pass.

    Raises:
        DheadsError: the folder is not a finished preprocessed corpus, or a line is no manifest row.
    """
    path = find_manifest(folder)
    numbers = {name: array("q") for name in ("offset", "ok", "n_frames", "n_bytes", "end")}
    codes, known = {label: array("i") for label in LABELS}, {label: dict[str, int]() for label in LABELS}
    source = array("Q")
    quality: dict[str, tuple[array[int], array[float]]] = {}
    with console.progress("manifest", total=_n_lines(path), unit="rows") as bar:
        for number, (at, row) in enumerate(iterate_rows(path)):
            places = row.members.values()
            numbers["offset"].append(at)
            numbers["ok"].append(row.status == "ok")
            numbers["n_frames"].append(row.n_frames)
            numbers["n_bytes"].append(sum(size for _, size in places))
            numbers["end"].append(max((begin + size for begin, size in places), default=0))
            for label in LABELS:
                codes[label].append(known[label].setdefault(getattr(row, label), len(known[label])))
            source.append(int.from_bytes(hashlib.blake2b(row.source.encode(), digest_size=8).digest()))
            for measure, value in numbers_in(row.quality).items():
                rows, values = quality.setdefault(measure, (array("q"), array("d")))
                rows.append(number)
                values.append(value)
            if (number + 1) % ROWS_A_STEP == 0:
                bar.advance(ROWS_A_STEP)
        bar.advance(len(source) % ROWS_A_STEP)
    columns = {name: np.array(values, np.int64) for name, values in numbers.items()}
    return Columns(
        path,
        ok=columns.pop("ok").astype(bool),
        codes={label: np.array(values, np.int32) for label, values in codes.items()},
        names={label: list(texts) for label, texts in known.items()},
        source=np.array(source, np.uint64),
        quality={measure: _spread(rows, values, len(source)) for measure, (rows, values) in sorted(quality.items())},
        **columns,
    )


def _n_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def numbers_in(quality: Mapping[str, Any]) -> dict[str, float]:
    """The measures of a clip that are numbers; those that are texts, flags or nothing are left out."""
    return {
        name: float(value)
        for name, value in quality.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _spread(rows: array[int], values: array[float], n_rows: int) -> NDArray[np.float64]:
    full = np.full(n_rows, np.nan)
    full[np.array(rows, np.int64)] = np.array(values)
    return full


def by_label(columns: Columns, label: str, fps: float | None) -> dict[str, dict[str, Any]]:
    """Clips, minutes, bytes, skipped clips and clips in each split for every split or speaker, in order of name."""
    n_names, n_splits = len(columns.names[label]), len(columns.names["split"])
    of, ok, split = columns.codes[label], columns.ok, columns.codes["split"]
    clips, skipped = np.bincount(of[ok], minlength=n_names), np.bincount(of[~ok], minlength=n_names)
    frames = np.bincount(of[ok], columns.n_frames[ok], n_names)
    n_bytes = np.bincount(of[ok], columns.n_bytes[ok], n_names)
    in_split = np.bincount(of[ok] * np.int64(n_splits) + split[ok], minlength=n_names * n_splits)
    table = {}
    for index, name in sorted(enumerate(columns.names[label]), key=lambda item: item[1]):
        splits = in_split[index * n_splits : (index + 1) * n_splits]
        table[name] = {
            "clips": int(clips[index]),
            "minutes": frames[index] / fps / 60 if fps else None,
            "bytes": int(n_bytes[index]),
            "skipped": int(skipped[index]),
            "splits": {s: int(n) for s, n in sorted(zip(columns.names["split"], splits, strict=True)) if n},
        }
    return table


def skipped_by_reason(columns: Columns) -> dict[str, dict[str, Any]]:
    """Reason -> number of clips and a few of them with the detail, most frequent first."""
    reasons = columns.codes["reason"]
    counts = Counter({int(code): int(n) for code, n in enumerate(np.bincount(reasons[~columns.ok])) if n})
    table = {}
    for code, n_clips in counts.most_common():
        rows = [columns.row(int(i)) for i in np.flatnonzero(~columns.ok & (reasons == code))[:N_EXAMPLES]]
        table[columns.names["reason"][code] or "no reason given"] = {
            "clips": n_clips,
            "examples": [{"id": row.id, "detail": row.detail} for row in rows],
        }
    return table


def sources_in_two_splits(columns: Columns) -> dict[str, Any]:
    """Videos with stored clips in more than one split: their number, and a few of them."""
    stored = np.flatnonzero(columns.ok)
    pairs = np.stack([columns.source[stored], columns.codes["split"][stored].astype(np.uint64)])
    unique, first = np.unique(pairs, axis=1, return_index=True)
    twice = np.flatnonzero(unique[0, 1:] == unique[0, :-1])
    _, begin = np.unique(unique[0, twice], return_index=True)
    examples = [columns.row(int(stored[first[twice[i]]])).source for i in begin[:N_EXAMPLES]]
    return {"count": len(begin), "examples": sorted(examples)}


def broken_shards(columns: Columns, folder: Path) -> dict[str, str]:
    """Shards that are missing, or end before the last clip that the manifest has in them: name -> what is wrong."""
    of, ok = columns.codes["shard"], columns.ok
    needed = np.zeros(len(columns.names["shard"]), np.int64)
    np.maximum.at(needed, of[ok], columns.end[ok])
    broken = {}
    for name, size in zip(columns.names["shard"], needed, strict=True):
        path = folder / name
        if size and not path.is_file():
            broken[name] = "missing"
        elif size and path.stat().st_size < size:
            broken[name] = f"cut short: {path.stat().st_size} bytes, at least {size} are needed"
    return dict(sorted(broken.items()))
