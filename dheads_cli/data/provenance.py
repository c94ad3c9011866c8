"""What a file that dheads made says of itself, in its metadata: written by every writer, read by `dheads doctor FILE`.

Metadata is lost wherever a file is encoded again or cleaned: without it a file may still be made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

import dheads_cli
from dheads_cli.data.media_file import open_media
from dheads_cli.errors import DheadsError, UnusableClip

STATEMENT = re.compile(
    r"Synthetic video made by dheads (\S+), model (\S+), seed (\d+)(?: \((\w+ [0-9a-f]+(?:, \w+ [0-9a-f]+)*)\))?"
)


@dataclass(frozen=True)
class Provenance:
    """Where a video comes from.

    Attributes:
        version: of dheads.
        model: its recipe's name.
        seed: of the random draws.
        inputs: checksum of what it was made from, hexadecimal, by name; empty where that is not known.
    """

    version: str
    model: str
    seed: int
    inputs: Mapping[str, str] = field(default_factory=dict)

    def statement(self) -> str:
        """The sentence that goes into the file."""
        inputs = ", ".join(f"{name} {checksum}" for name, checksum in self.inputs.items())
        made = f"Synthetic video made by dheads {self.version}, model {self.model}, seed {self.seed}"
        return f"{made} ({inputs})" if inputs else made

    def differences(self, other: Provenance) -> list[str]:
        """Names of what another video was made with instead."""

        def facts(made: Provenance) -> dict[str, str]:
            return {"version of dheads": made.version, "model": made.model, "seed": str(made.seed), **made.inputs}

        ours, theirs = facts(self), facts(other)
        return [name for name in ours if ours[name] != theirs.get(name)]

    def tags(self, title: str) -> dict[str, str]:
        """Metadata of a video file: title and comment."""
        return {"title": title, "comment": self.statement()}


def made_here(model: str, seed: int, inputs: Mapping[str, str] | None = None) -> Provenance:
    """Of what this release of dheads draws."""
    return Provenance(dheads_cli.__version__, model, seed, inputs or {})


def read_provenance(path: Path) -> Provenance | None:
    """What a video, GIF, PNG or folder of PNGs says; None where nothing says that dheads made it.

    Raises:
        DheadsError: there is no such file, or it is neither a video nor a picture.
    """
    if path.is_dir():
        pictures = sorted(path.glob("*.png"))
        if not pictures:
            raise DheadsError(f"{path}: no PNG in this folder; name a video or a folder of frames.")
        path = pictures[0]
    if not path.is_file():
        raise DheadsError(f"{path}: no such file.")
    texts = _picture_texts(path)
    for text in _media_texts(path) if texts is None else texts:
        if found := STATEMENT.search(text):
            inputs = dict(each.split(" ") for each in found[4].split(", ")) if found[4] else {}
            return Provenance(found[1], found[2], int(found[3]), inputs)
    return None


def _picture_texts(path: Path) -> list[str] | None:
    """Texts in a picture's metadata; None where it is no picture."""
    try:
        with Image.open(path) as image:
            values = list(image.info.values())
    except UnidentifiedImageError:
        return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DheadsError(f"{path} is a broken picture: {error}.") from error
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]


def _media_texts(path: Path) -> list[str]:
    try:
        with open_media(path) as container:
            sources = [container.metadata, *(stream.metadata for stream in container.streams)]
            return [str(value) for source in sources for value in source.values()]
    except UnusableClip as error:
        raise DheadsError(f"{path} is neither a video nor a picture that can be read ({error}).") from error
