"""Tensors out of strangers' checkpoints. Of a file of torch.save no class or function that it names is run.

A file is a zip archive with a pickle and one entry for each storage. The pickle is read by an unpickler that knows how
to make tensors and ordered dicts and nothing else: every other name in it, be it `os.system`, becomes an inert
placeholder that is neither looked up nor imported.
"""

from __future__ import annotations

import io
import pickle  # noqa: TID251  (only as the base of the restricted reader below)
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dheads_cli import trust
from dheads_cli.errors import DheadsError

MAX_PICKLE_BYTES = 64 * 2**20  # names, shapes and settings; weights lie beside it
MAX_NAMES = 1_000_000  # tensors in a file
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


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
        DheadsError: no such file, no archive of torch.save, damaged, or larger inside than it may be.
    """
    if not path.is_file():
        raise DheadsError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise DheadsError(
            f"{path}: neither a zip archive of torch.save nor TorchScript (torch before 1.6 wrote another form): "
            "load it where you trust it, and write its state_dict with torch.save or safetensors"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.split("/")[-1] == "data.pkl"]
            if len(pickles) != 1:
                raise DheadsError(f"{path}: a zip archive, but not one of torch.save: it holds {len(pickles)} data.pkl")
            if pickles[0].file_size > MAX_PICKLE_BYTES:
                raise DheadsError(f"{path}: its pickle is {pickles[0].file_size >> 20} MiB: too much for names alone")
            content = archive.read(pickles[0])
            return _Reader(content, archive, pickles[0].filename.removesuffix("data.pkl")).load()
    except DheadsError as error:
        raise DheadsError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    except (
        pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError, IndexError, ValueError, TypeError,
        AttributeError, RuntimeError, OverflowError, MemoryError, OSError, NotImplementedError,
    ) as error:  # fmt: skip  (a damaged or hostile pickle fails in any of these ways)
        raise DheadsError(f"{path}: can't be read, damaged or made to harm: {type(error).__name__}: {error}") from error


class Placeholder:
    """Stands for an object that is not made: takes any arguments, state, items and keys, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass


class _Sealed:
    """A tensor inside the pickle, out of its reach: nothing in there can call a method of it or change it."""

    __slots__ = ("value",)

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        raise DheadsError("gives a tensor a state, which none needs")


class _Rebuild:
    """torch._utils._rebuild_tensor_v2 and _rebuild_parameter, as far as a pickle may use them: by calling."""

    __slots__ = ("parameter",)

    def __init__(self, parameter: bool) -> None:
        self.parameter = parameter

    def __call__(self, data: Any, *arguments: Any) -> _Sealed:
        if not isinstance(data, _Sealed):
            raise DheadsError("makes a tensor of something that is no storage")
        return data if self.parameter else _Sealed(_tensor(data.value, *arguments[:3]))

    def __setstate__(self, state: Any) -> None:
        raise DheadsError("gives a function a state")


class _Reader(pickle.Unpickler):
    """An unpickler for which sealed tensors and ordered dicts are all that can be made."""

    def __init__(self, content: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(content))
        self.archive, self.folder = archive, folder
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _Rebuild(parameter=name == "_rebuild_parameter")
        return Placeholder

    def persistent_load(self, pid: Any) -> _Sealed:
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
        return _Sealed(self.storages[key])


def _tensor(storage: Tensor, offset: Any, size: Any, stride: Any) -> Tensor:
    """A tensor of a storage's numbers; it never has more of them than the storage."""
    sensible = len(size) == len(stride) and all(type(n) is int and n >= 0 for n in (offset, *size, *stride))
    if not sensible:
        raise DheadsError("holds a tensor whose shape makes no sense")
    count = 1
    for n in size:
        count *= n
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
    if count > len(storage) or last >= max(len(storage), 1):
        raise DheadsError(f"holds a tensor of {count} numbers in a storage of {len(storage)}")
    return torch.as_strided(storage, size, stride, offset)


def tensors_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict of a file that read_pickled read: its entry `state_dict` (Lightning), or the whole.

    Raises:
        DheadsError: there is none.
    """
    for candidate in (content.get("state_dict") if isinstance(content, Mapping) else None, content):
        if isinstance(candidate, Mapping):
            tensors = {name: value.value for name, value in candidate.items() if isinstance(value, _Sealed)}
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
