"""Files of the networks that some metrics look with: where they lie, what they must be, how they are had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dheads_cli import downloads, trust
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_cli.model.pickled import read_state_dict

CACHE = Path("~/.cache/dheads")


@dataclass(frozen=True)
class NetworkFile:
    """A published file of weights.

    Attributes:
        metric: the component that reads it.
        network: what it is, as the footer of a table says it.
        names: of the file; the first is the one it is published under at `url`.
        url: https.
        sha256: of the file, hexadecimal.
        size_mb: how much a download is.
        licence: of the weights.
        runs_code: whether it is TorchScript, which is fetched and opened only with --trust.
        asked: how `--metrics` asks for it, where the metric's name alone does not.
    """

    metric: str
    network: str
    names: tuple[str, ...]
    url: str
    sha256: str
    size_mb: int
    licence: str
    runs_code: bool = False
    asked: str = ""

    @property
    def places(self) -> list[Path]:
        """Where it is looked for: dheads' cache, then torch.hub's, where other tools keep the same file."""
        folders = (CACHE.expanduser(), Path(torch.hub.get_dir()) / "checkpoints")
        return [folder / name for folder in folders for name in self.names]

    def how_to_get(self) -> str:
        """What to do where it is missing."""
        asked = (self.asked or self.metric) + (" --trust" if self.runs_code else "")
        return (
            f"`dheads eval --metrics {asked}` fetches it from {self.url} ({self.size_mb} MB); or put it into {CACHE}, "
            f"or name a copy: --weights {self.metric}=FILE"
        )


@dataclass(frozen=True)
class Weights:
    """A file that is there.

    Attributes:
        path: of it.
        sha256: of it.
        published: whether it is the one that values under the metric's own name take.
    """

    path: Path
    sha256: str
    published: bool

    def in_words(self, file: NetworkFile) -> str:
        """Network, file, checksum and licence, in a line."""
        if self.published:
            return f"{file.network}, {self.path.name} sha256 {self.sha256[:12]}, {file.licence}"
        return f"NOT the published {file.network}: {self.path} sha256 {self.sha256[:12]}"


def find(file: NetworkFile, option: str | None) -> Weights:
    """The file of weights: as given, in a cache, or fetched into dheads' cache.

    Args:
        file: which.
        option: path that the user gave. That file is taken whatever it is; one out of a cache must be the published.

    Raises:
        DheadsError: it is nowhere, can't or may not be fetched, or a cache holds another file under its name.
    """
    if option is not None:
        path = Path(option).expanduser()
        if not path.is_file():
            raise DheadsError(f"{path}: no such file; it should be the weights of metric {file.metric!r}, {file.url}")
        sha256 = sha256_of(path)
        return Weights(path, sha256, sha256 == file.sha256)
    found = next((place for place in file.places if place.is_file()), None)
    if found is None:
        if not downloads.settings.allowed or (file.runs_code and not trust.settings.trust):
            raise DheadsError(f"metric {file.metric!r} needs {file.names[0]}, which is not here: {file.how_to_get()}")
        found = file.places[0]
        option = f"`weights: FILE` beside `use`, or --weights {file.metric}=FILE"
        downloads.fetch(file.url, found, f"metric {file.metric!r}", option)
    if (sha256 := sha256_of(found)) != file.sha256:
        raise DheadsError(
            f"{found} is not {file.network}: its sha256 is {sha256}, not {file.sha256}. Remove it, or replace it by "
            f"{file.url}"
        )
    return Weights(found, sha256, published=True)


def read_tensors(weights: Weights, file: NetworkFile) -> dict[str, Tensor]:
    """The state dict in a file of any form that `model/pickled.py` knows; nothing in it is run.

    Raises:
        DheadsError: the file changed since its checksum was taken, or holds something else.
    """
    state, _ = read_state_dict(weights.path, f"the weights of {file.network}")
    if sha256_of(weights.path) != weights.sha256:
        raise DheadsError(f"{weights.path} changed while it was read: try again")
    return state
