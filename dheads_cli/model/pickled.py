"""Tensors out of strangers' checkpoints. Of a file of torch.save no class or function that it names is run.

A file is a zip archive with a pickle and one entry for each storage or, from before torch 1.6, pickles and storages one
after another. Pickles are read by an unpickler that makes tensors and ordered dicts and nothing else (unpickler.py).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dheads_cli import trust
from dheads_cli.errors import DheadsError
from dheads_cli.model.pickled_stream import is_stream, read_stream
from dheads_cli.model.unpickler import FAILURES, MAX_NAMES, Reader, Sealed

MAX_PICKLE_BYTES = 64 * 2**20  # names, shapes and settings; weights lie beside it


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which holds code; it is not opened for that."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:  # no archive, or a damaged one, as read_pickled will say
        return False


def read_pickled(path: Path) -> Any:
    """What torch.save wrote, with a placeholder for everything that is neither data nor a tensor.

    Returns:
        The dicts, lists and tuples of the file; tensors in them are sealed, for `tensors_in` to take out.

    Raises:
        DheadsError: no such file, no file of torch.save, damaged, or larger inside than it may be.
    """
    if not path.is_file():
        raise DheadsError(f"{path}: no such file")
    try:
        if is_stream(path):
            return read_stream(path)
        if not zipfile.is_zipfile(path):
            raise DheadsError(
                f"{path}: neither a file of torch.save nor TorchScript: load it where you trust it, and write its "
                "state_dict with torch.save or safetensors"
            )
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.split("/")[-1] == "data.pkl"]
            if len(pickles) != 1:
                raise DheadsError(f"{path}: a zip archive, but not one of torch.save: it holds {len(pickles)} data.pkl")
            if pickles[0].file_size > MAX_PICKLE_BYTES:
                raise DheadsError(f"{path}: its pickle is {pickles[0].file_size >> 20} MiB: too much for names alone")
            content = archive.read(pickles[0])
            return _ZipReader(content, archive, pickles[0].filename.removesuffix("data.pkl")).load()
    except DheadsError as error:
        raise DheadsError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    except (zipfile.BadZipFile, *FAILURES) as error:
        raise DheadsError(f"{path}: can't be read, damaged or made to harm: {type(error).__name__}: {error}") from error


class _ZipReader(Reader):
    """The pickle in a zip archive; each storage is an entry of it."""

    def __init__(self, content: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(content))
        self.archive, self.folder = archive, folder

    def persistent_load(self, pid: Any) -> Sealed:
        """A storage, as a flat tensor."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise DheadsError(f"holds a storage of a kind that is not known: {kind!r} of {dtype!r}")
        if key not in self.storages:
            if len(self.storages) >= MAX_NAMES:
                raise DheadsError(f"holds more than {MAX_NAMES} storages")
            entry = self.archive.getinfo(f"{self.folder}data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != count * dtype.itemsize:
                raise DheadsError(f"{entry.filename} is not the {count} numbers that the pickle says it is")
            content = bytearray(self.archive.read(entry))
            self.storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return Sealed(self.storages[key])


def tensors_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict of a file that read_pickled read: its entry `state_dict` (Lightning), or the whole.

    Raises:
        DheadsError: there is none.
    """
    for candidate in (content.get("state_dict") if isinstance(content, Mapping) else None, content):
        if isinstance(candidate, Mapping):
            tensors = {name: value.value for name, value in candidate.items() if isinstance(value, Sealed)}
            if tensors and all(isinstance(name, str) for name in tensors):
                return tensors
    raise DheadsError(f"{path}: holds no state dict: neither its entry `state_dict` nor the whole is tensors by name")


def plain_settings(content: Any) -> dict[str, Any]:
    """Those of a Lightning file's hyper-parameters that are plain numbers or truth values."""
    found = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    values = found if isinstance(found, Mapping) else {}
    return {name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, int)}


def read_state_dict(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors by name, plain hyper-parameters) of a file in any form that is known."""
    if not path.is_file():
        raise DheadsError(f"{path}: no such file; it should be {what}")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path)), {}
        except SafetensorError as error:
            raise DheadsError(f"{path}: not a whole safetensors file ({error})") from error
    if is_torchscript(path):
        return dict(trust.open_torchscript(path, what).state_dict()), {}
    content = read_pickled(path)
    return tensors_in(content, path), plain_settings(content)
