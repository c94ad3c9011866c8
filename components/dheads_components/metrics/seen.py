"""What a network made of pictures it saw just before: each row of the table asks for the same real clip again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames

Features = NDArray[np.float32]
KEPT = 8  # videos; at 75 frames of 2048 features each, 5 MB


class Remembered:
    """Embeds pictures or videos, and remembers the last ones by their pixels.

    Args:
        embed: those that are new, uint8 arrays -> an embedding of each.
        kept: how many are remembered; what is asked for at once is there whatever its number.
    """

    def __init__(self, embed: Callable[[list[NDArray[np.uint8]]], Iterable[NDArray[Any]]], kept: int) -> None:
        self._embed, self._kept = embed, kept
        self._known: OrderedDict[tuple[bytes, tuple[int, ...]], NDArray[Any]] = OrderedDict()

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """An embedding of each, in their order."""
        keys = [(hashlib.blake2b(each.tobytes(), digest_size=16).digest(), each.shape) for each in pictures]
        new = {key: each for key, each in zip(keys, pictures, strict=True) if key not in self._known}
        if new:
            self._known |= zip(new, self._embed(list(new.values())), strict=True)
        for key in keys:
            self._known.move_to_end(key)
        embeddings = [self._known[key] for key in keys]
        while len(self._known) > self._kept:
            self._known.popitem(last=False)
        return embeddings


class Seen:
    """Embeds videos, and remembers the last ones by their pixels.

    Args:
        embed: uint8 RGB [F, H, W, 3] -> features [N, D].
        kept: how many videos are remembered.
    """

    def __init__(self, embed: Callable[[Frames], Features], kept: int = KEPT) -> None:
        self._remembered = Remembered(lambda videos: map(embed, videos), kept)

    def __call__(self, frames: Frames) -> Features:
        """Features of a video [N, D]."""
        return self._remembered([frames])[0]
