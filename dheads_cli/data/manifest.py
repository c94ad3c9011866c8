"""A preprocessed corpus on disk, and its manifest: a row for each clip, with where its bytes lie.

<split>-000000.tar   samples of one clip each: <key>.mp4, <key>.flac, <key>.landmarks.npy, <key>.json;
                     of a synthetic speaker also <key>.photo.png, the photo as an identity frame
manifest.jsonl       one row a clip, skipped ones too, in the order of the shards
preprocess.yaml      settings, layout, detector and versions
embeddings/          what frozen audio encoders make of it, once a training asked (embedding_cache.py)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically

MANIFEST = "manifest.jsonl"
SETTINGS = "preprocess.yaml"
EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class ManifestRow:
    """What became of one clip.

    Attributes:
        id, key, split, speaker: as in the corpus.
        source: path of the video below the corpus.
        status: "ok" or "skipped".
        reason, detail: why it was skipped.
        shard: tar file that holds it.
        n_frames: F.
        members: extension -> (offset of its bytes in the shard, size).
        sha256: of the members' bytes, one after another.
        quality: measures of the clip, named with their unit, such as face_height_px.
        synthetic: of a synthetic speaker, the photo's file and the id of the clip that moved it; else empty.
    """

    id: str
    key: str
    split: str
    speaker: str
    source: str
    status: str
    reason: str = ""
    detail: str = ""
    shard: str = ""
    n_frames: int = 0
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    sha256: str = ""
    quality: dict[str, float] = field(default_factory=dict)
    synthetic: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of the manifest; empty fields are left out."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ManifestRow:
        """Inverse of to_json."""
        values = json.loads(text)
        values["members"] = {name: (int(at), int(size)) for name, (at, size) in values.get("members", {}).items()}
        return cls(**values)


def write_rows(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest whole or not at all."""
    write_atomically(path, "".join(row.to_json() + "\n" for row in rows))


def read_rows(path: Path) -> list[ManifestRow]:
    """Read a manifest file.

    Raises:
        DheadsError: a line is no manifest row.
    """
    return [row for _, row in iterate_rows(path)]


def iterate_rows(path: Path) -> Iterator[tuple[int, ManifestRow]]:
    """Read a manifest file row by row, each with the place of its line in the file, bytes.

    Raises:
        DheadsError: a line is no manifest row.
    """
    at = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = ManifestRow.from_json(line.decode())
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DheadsError(
                    f"{path}:{number}: no manifest row ({error}). Preprocess the corpus again."
                ) from error
            yield at, row
            at += len(line)


def read_manifest(folder: Path | str) -> list[ManifestRow]:
    """All rows of a preprocessed corpus.

    Raises:
        DheadsError: the folder is not a finished preprocessed corpus.
    """
    return read_rows(find_manifest(folder))


def find_manifest(folder: Path | str) -> Path:
    """The manifest of a preprocessed corpus.

    Raises:
        DheadsError: the folder is not a finished preprocessed corpus.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        begun = (Path(folder) / SETTINGS).is_file()
        hint = (
            "its preprocessing is not finished: run the same `dheads preprocess` again"
            if begun
            else "`dheads preprocess CORPUS -o FOLDER` makes such a folder"
        )
        raise DheadsError(f"{folder} is not a preprocessed corpus (no {MANIFEST}): {hint}.")
    return path
