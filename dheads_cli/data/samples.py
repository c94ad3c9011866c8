"""The samples folder: generated videos, and a manifest that points each at the real clip it stands for.

    <id>.mp4            a generated clip with its sound
    samples.jsonl       one row for each video (SampleRow)
    sample.yaml         what made them: model, checkpoint, step, sampler
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args

import yaml

from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically

MANIFEST = "samples.jsonl"
PHOTO = -1  # as `identity_frame`: the photo of a synthetic speaker
SETTINGS = "sample.yaml"

Kind = Literal["synced", "shuffled"]
Key = TypeVar("Key")


@dataclass(frozen=True)
class SampleRow:
    """One generated clip.

    Attributes:
        id: name of the generated clip.
        file: video, relative to the samples folder.
        speaker: whose face it shows.
        split: split of the corpus that `clip_id` is from.
        corpus: preprocessed folder of the reference, absolute or relative to the working directory.
        clip_id: real clip that lent the identity frame, and that the generated one is compared with.
        audio_clip_id: real clip whose speech was heard; another than `clip_id` where the audio was shuffled.
        identity_frame: index of the identity frame in `clip_id`; PHOTO: the photo of a synthetic speaker.
        seed: of the random draws.
        kind: "synced" with the clip's own speech, "shuffled" with another's.
    """

    id: str
    file: str
    speaker: str
    split: str
    corpus: str
    clip_id: str
    audio_clip_id: str
    identity_frame: int
    seed: int
    kind: Kind


_TYPES = {field.name: int if field.type == "int" else str for field in fields(SampleRow)}


def read_samples(folder: Path) -> list[SampleRow]:
    """Read a samples folder's manifest.

    Raises:
        DheadsError: there is none, it is empty, or rows are wrong (every one of them, with file:line).
    """
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DheadsError(
            f"{folder} is no samples folder: {path} can't be read ({error.strerror}). Make one with `dheads sample`, "
            "or, where these are videos of any tool, name the folder of the real ones: --reference DIR"
        ) from error
    rows, wrong = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_parse(line))
        except ValueError as error:
            wrong.append(f"{path}:{number}: {error}")
    if wrong:
        raise DheadsError("\n".join(wrong))
    if not rows:
        raise DheadsError(f"{path} lists no clip. Make some with `dheads sample`.")
    return rows


def write_samples(folder: Path, rows: Iterable[SampleRow]) -> None:
    """Replace the manifest by these rows; it is whole at every moment."""
    write_atomically(folder / MANIFEST, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write what made the samples to sample.yaml."""
    write_atomically(folder / SETTINGS, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def read_settings(folder: Path) -> dict[str, Any]:
    """Read sample.yaml; empty where there is none.

    Raises:
        DheadsError: it is there and can't be read.
    """
    path = folder / SETTINGS
    if not path.exists():
        return {}
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DheadsError(f"{path} can't be read: {error}") from error
    if not isinstance(settings, dict):
        raise DheadsError(f"{path} must hold settings by name, not {type(settings).__name__}.")
    return settings


def _parse(line: str) -> SampleRow:
    """One manifest line; ValueError says what is wrong with it."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError("not an object with a row's fields")
    if missing := [name for name in _TYPES if name not in values]:
        raise ValueError(f"lacks {', '.join(missing)}")
    if unknown := [name for name in values if name not in _TYPES]:
        raise ValueError(f"has unknown fields: {', '.join(unknown)}")
    for name, kind in _TYPES.items():
        if type(values[name]) is not kind:
            raise ValueError(f"{name} is {values[name]!r}, which is no {'whole number' if kind is int else 'text'}")
    if values["kind"] not in get_args(Kind):
        raise ValueError(f"kind is {values['kind']!r}, not one of {', '.join(get_args(Kind))}")
    if PurePosixPath(values["file"]).is_absolute() or ".." in PurePosixPath(values["file"]).parts:
        raise ValueError(f"file {values['file']!r} leaves the samples folder")
    return SampleRow(**values)


def partners(speakers: Mapping[Key, Hashable]) -> dict[Key, Key]:
    """For each clip another one of its speaker: half way round the list of them. A speaker's only clip has none."""
    of_speaker: dict[Hashable, list[Key]] = defaultdict(list)
    for clip, speaker in speakers.items():
        of_speaker[speaker].append(clip)
    several = [clips for clips in of_speaker.values() if len(clips) > 1]
    return {clip: clips[(i + len(clips) // 2) % len(clips)] for clips in several for i, clip in enumerate(clips)}
