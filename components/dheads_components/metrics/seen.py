"""Features of videos that were seen just before: each row of the table asks for the same real clip's again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames

Features = NDArray[np.float32]
KEPT = 8  # videos; at 75 frames of 2048 features each, 5 MB


class Seen:
    """Embeds videos, and remembers the last ones by their pixels.

    Args:
        embed: uint8 RGB [F, H, W, 3] -> features [N, D].
        kept: how many videos are remembered.
    """

    def __init__(self, embed: Callable[[Frames], Features], kept: int = KEPT) -> None:
        self._embed, self._kept = embed, kept
        self._known: OrderedDict[tuple[bytes, tuple[int, ...]], Features] = OrderedDict()

    def __call__(self, frames: Frames) -> Features:
        """Features of a video [N, D]."""
        key = hashlib.blake2b(frames.tobytes(), digest_size=16).digest(), frames.shape
        if key not in self._known:
            self._known[key] = self._embed(frames)
        self._known.move_to_end(key)
        if len(self._known) > self._kept:
            self._known.popitem(last=False)
        return self._known[key]
