"""Features of videos that were seen just before are remembered by their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dheads_components.metrics.seen import Seen


class MeanLevel:
    """Embeds a video as its mean level; counts how often."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.n += 1
        return frames.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]


def video(level: int, shape: tuple[int, ...] = (2, 4, 4, 3)) -> NDArray[np.uint8]:
    return np.full(shape, level, np.uint8)


def test_a_video_is_embedded_once_whatever_array_holds_it() -> None:
    embed = MeanLevel()
    seen = Seen(embed)
    every_second = np.repeat(video(7), 2, axis=0)[::2]
    assert [seen(frames)[0, 0] for frames in (video(7), every_second, video(9))] == [7, 7, 9]
    assert embed.n == 2


def test_videos_of_other_shape_are_others_though_their_bytes_are_the_same() -> None:
    embed = MeanLevel()
    seen = Seen(embed)
    assert len(seen(video(7))) == 2
    assert len(seen(video(7, (4, 4, 2, 3)))) == 4
    assert embed.n == 2


def test_the_video_seen_longest_ago_is_forgotten() -> None:
    embed = MeanLevel()
    seen = Seen(embed, kept=2)
    for level in (1, 2, 1, 3, 1):  # 2 is forgotten for 3
        seen(video(level))
    assert embed.n == 3
    seen(video(2))
    assert embed.n == 4
