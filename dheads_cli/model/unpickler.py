"""An unpickler that makes tensors and ordered dicts and nothing else, whatever a pickle names.

Every other name in it, be it `os.system`, becomes an inert placeholder that is neither looked up nor imported.
"""

from __future__ import annotations

import pickle  # noqa: TID251  (only as the base of the restricted reader below)
from collections import OrderedDict
from typing import Any, BinaryIO

import torch
from torch import Tensor

from dheads_cli.errors import DheadsError

MAX_NAMES = 1_000_000  # tensors in a file
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
FAILURES = (
    pickle.UnpicklingError, EOFError, KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError,
    OverflowError, MemoryError, OSError, NotImplementedError,
)  # fmt: skip  (a damaged or hostile pickle fails in any of these ways)


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


class Sealed:
    """A tensor inside the pickle, out of its reach: nothing in there can call a method of it or change it."""

    __slots__ = ("value",)

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        raise DheadsError("gives a tensor a state, which none needs")


class _Rebuild:
    """torch._utils._rebuild_tensor, its v2, and _rebuild_parameter, as far as a pickle may use them: by calling."""

    __slots__ = ("parameter",)

    def __init__(self, parameter: bool) -> None:
        self.parameter = parameter

    def __call__(self, data: Any, *arguments: Any) -> Sealed:
        if not isinstance(data, Sealed):
            raise DheadsError("makes a tensor of something that is no storage")
        return data if self.parameter else Sealed(_tensor(data.value, *arguments[:3]))

    def __setstate__(self, state: Any) -> None:
        raise DheadsError("gives a function a state")


class Reader(pickle.Unpickler):
    """An unpickler for which sealed tensors and ordered dicts are all that can be made.

    Where the numbers of storages lie, it is told by the class of each file form: `persistent_load`.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
            return _Rebuild(parameter=name == "_rebuild_parameter")
        return Placeholder


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
    return torch.as_strided(storage, size, stride, storage.storage_offset() + offset)
