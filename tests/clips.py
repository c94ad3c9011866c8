"""Clips with faces in known places, as metrics see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from dheads_cli.data.align import MEAN_FACE
from dheads_cli.errors import DheadsError

AnyMetric = TypeVar("AnyMetric")

N_FRAMES = 75
INTEROCULAR = float(MEAN_FACE[42:48, 0].mean() - MEAN_FACE[36:42, 0].mean())


@dataclass
class FakeClip:
    """A clip of given frames and landmarks."""

    landmarks: NDArray[np.float32] = field(default_factory=lambda: face(np.zeros(N_FRAMES)))
    frames: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((N_FRAMES, 32, 32, 3), np.uint8))
    id: str = "clip"
    speaker: str = "s1"
    fps: float = 25.0
    sound: tuple[NDArray[np.float32], int] | None = None
    words: list[str] | None = None

    @property
    def identity(self) -> NDArray[np.uint8]:
        return self.frames[0]


def face(opening: NDArray[np.float64], size_px: float = 40.0) -> NDArray[np.float32]:
    """Mean faces [F, 68, 2] whose inner lips stand open by `opening` interocular distances."""
    points = np.repeat(MEAN_FACE[None], len(opening), axis=0)
    points[:, [67, 66, 65], 1] = points[:, [61, 62, 63], 1] + (opening * INTEROCULAR)[:, None]
    return (points * size_px + 12).astype(np.float32)


def built_or_skip(build: Callable[[], AnyMetric]) -> AnyMetric:
    """A metric, or a skip that says what it lacks."""
    try:
        return build()
    except DheadsError as error:
        pytest.skip(str(error))
