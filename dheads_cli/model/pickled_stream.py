"""Files of torch.save from before torch 1.6: pickles one after another, then the storages' numbers.

Three pickles of plain values (a magic number, the protocol, the machine), the content, the keys of the storages in the
order in which they follow; of each its count, int64, and its numbers, all little-endian.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dheads_cli.errors import DheadsError
from dheads_cli.model.unpickler import MAX_NAMES, Reader, Sealed

MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # the first pickle after its protocol byte: 0x1950a86a20f9469cfc6c
PROTOCOL = 1001


def is_stream(path: Path) -> bool:
    """Whether a file begins as these do."""
    with path.open("rb") as file:
        return file.read(2 + len(MAGIC))[2:] == MAGIC


def read_stream(path: Path) -> Any:
    """What torch.save wrote, as `pickled.read_pickled` gives it; a damaged file fails with one of its FAILURES.

    Raises:
        DheadsError: the file is of another protocol or byte order, or does not hold the numbers it says it does.
    """
    content = path.read_bytes()
    file = io.BytesIO(content)
    _, protocol, machine = (Reader(file).load() for _ in range(3))
    if protocol != PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise DheadsError("is of a protocol or a byte order that is not known")
    reader = _StreamReader(file, len(content))
    found = reader.load()
    keys = Reader(file).load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(reader.storages):
        raise DheadsError("names other storages than its tensors have")
    for key in keys:
        _fill(reader.storages[key], file)
    return found


class _StreamReader(Reader):
    """The pickle of the content; its storages get their numbers later."""

    def __init__(self, file: io.BytesIO, room: int) -> None:
        super().__init__(file)
        self.room = room  # bytes that storages may take: no more than the file has

    def persistent_load(self, pid: Any) -> Sealed:
        """A storage, or a part of one, as a flat tensor of zeros."""
        kind, dtype, key, _, count, *view = pid
        known = kind == "storage" and isinstance(dtype, torch.dtype)
        if not known or not isinstance(key, str) or type(count) is not int:
            raise DheadsError(f"holds a storage of a kind that is not known: {kind!r} of {dtype!r}")
        if key not in self.storages:
            self.room -= count * dtype.itemsize
            if len(self.storages) >= MAX_NAMES or count < 0 or self.room < 0:
                raise DheadsError("says it holds more numbers than it has bytes")
            self.storages[key] = torch.zeros(count, dtype=dtype)
        storage = self.storages[key]
        if view and view[0] is not None:
            _, first, length = view[0]
            if not (type(first) is type(length) is int and 0 <= first <= first + length <= len(storage)):
                raise DheadsError("holds a part of a storage that is not in it")
            storage = storage[first : first + length]
        return Sealed(storage)


def _fill(storage: Tensor, file: io.BytesIO) -> None:
    """Give a storage the numbers that come next."""
    count = int.from_bytes(file.read(8), "little", signed=True)
    numbers = bytearray(file.read(storage.nbytes))
    if count != len(storage) or len(numbers) != storage.nbytes:
        raise DheadsError(f"is cut short, or holds {count} numbers where its pickle says {len(storage)}")
    if numbers:
        storage.copy_(torch.frombuffer(numbers, dtype=storage.dtype))
