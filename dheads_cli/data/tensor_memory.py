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
        self.most_bytes, self.n_bytes, self.lock = most_bytes, 0, Lock()
        self.held: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What is held under a key; where nothing is, what `make` gives."""
        with self.lock:
            if key in self.held:
                self.held.move_to_end(key)
                return self.held[key]
        made = make()
        with self.lock:
            if key not in self.held:  # else another thread was faster
                self.held[key] = made
                self.n_bytes += made.nbytes
            while self.n_bytes > self.most_bytes and len(self.held) > 1:
                self.n_bytes -= self.held.popitem(last=False)[1].nbytes
        return made
