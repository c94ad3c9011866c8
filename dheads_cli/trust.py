"""Files that can run code on this machine are opened only after the user said on the command line that they may be."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dheads_cli.errors import DheadsError

if TYPE_CHECKING:
    import torch


@dataclass
class Settings:
    trust: bool = False


settings = Settings()


class Untrusted(DheadsError):
    """A file is there that may not be opened without --trust."""


def allow(trust: bool = True) -> None:
    """Choose for this process: whether such files may be opened. The command line's --trust says so, nothing else."""
    settings.trust = trust


def require(path: Path, what: str) -> None:
    """Refuse a file that can run code, unless the user allowed it.

    Args:
        path: the file.
        what: what it is, such as "a TorchScript archive (the audio encoder)".

    Raises:
        Untrusted: not allowed.
    """
    if not settings.trust:
        raise Untrusted(
            f"{path}: {what}, which can run any code on this machine once it is opened: "
            "add --trust if you trust its maker, and only then"
        )


def open_torchscript(path: Path, what: str, sha256: str | None = None) -> torch.jit.ScriptModule:
    """Open a TorchScript archive on the CPU, if the user allowed it; it is read once: what is checked is opened.

    Args:
        path: the archive.
        what: what it is for, such as "the audio encoder".
        sha256: its checksum, hexadecimal; None where it is not known.

    Raises:
        DheadsError: no such file, not allowed, another checksum, or no TorchScript archive.
    """
    import torch

    if not path.is_file():
        raise DheadsError(f"{path}: no such file; it should be {what}, a TorchScript archive")
    require(path, f"a TorchScript archive ({what})")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DheadsError(f"{path}: can't read {what}: {error.strerror}") from error
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256.lower():
        raise DheadsError(
            f"{path}: not the file that is wanted as {what}: its sha256 is {found}, not {sha256.lower()}; "
            "find that file, or import again with this one"
        )
    try:
        buffer = io.BytesIO(content)
        module: torch.jit.ScriptModule = torch.jit.load(buffer, map_location="cpu")  # type: ignore[no-untyped-call]  # noqa: TID251
    except (RuntimeError, ValueError, EOFError) as error:
        raise DheadsError(f"{path}: not a TorchScript archive: {str(error).splitlines()[0]}") from error
    return module
