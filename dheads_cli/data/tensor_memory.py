"""Tensors that were made once and are kept: the least recently used go first; several threads may ask."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

from torch import Tensor


class TensorMemory:
    """Tensors by key, made when they are first asked for.

    Args:
        most_bytes: memory for them; one stays whatever its size.
    """

    def __init__(self, most_bytes: float) -> None:
        self._most_bytes, self._n_bytes, self._lock = most_bytes, 0, Lock()
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What is held under a key; where nothing is, what `make` gives."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made = make()
        with self._lock:
            if key not in self._held:  # else another thread was faster
                self._held[key] = made
                self._n_bytes += made.nbytes
            while self._n_bytes > self._most_bytes and len(self._held) > 1:
                self._n_bytes -= self._held.popitem(last=False)[1].nbytes
        return made
