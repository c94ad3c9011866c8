"""Series of controls for a video: blinks and head motion drawn from a seed, or given frame by frame.

Each series goes on without end, one value a frame, and follows from the seed alone. So a video that is drawn in several
parts has the same blinks as one that is drawn at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count, repeat
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli.data.controls import HEAD_UNIT

Blinks: TypeAlias = str | float | Sequence[Sequence[float]]
Head: TypeAlias = str | Sequence[Sequence[float]]

NATURAL_RATE = 0.3  # blinks a second; real people's are 0.24 to 0.53
SHORTEST_S, LONGEST_S = 0.28, 0.40  # from the lids' first movement to their last
CLOSING_S, CLOSED_S = 0.10, 0.05  # opening takes the rest
CLOSED = 0.0  # openness of shut eyes, see EyesAndHead
REFRACTORY_S = 1.0  # least time between two blinks, where the rate leaves as much
TURN_SD = (3.0, 2.0, 1.0)  # yaw, pitch, roll, degrees
TURN_HZ, N_WAVES = (0.08, 0.35), 3  # slowest and fastest of the waves that a turn is made of
TURN_BEGINS_S = 2.0  # from the identity frame's pose to the full motion
BLINK_STREAM, HEAD_STREAM = 1, 2  # after the seed: the streams of random draws


def control_series(names: Sequence[str], blinks: Blinks, head: Head, fps: float, seed: int) -> Iterator[Tensor]:
    """Each frame's controls, float32 [n_controls], in the order of their names.

    Args:
        names: the model's controls: "eyes", "head".
        blinks: "natural", "none", blinks a second, or each frame's openness of the eyes on the picture's left and
            right; the last one holds.
        head: "still", "natural", or each frame's yaw, pitch and roll against the identity frame, degrees; the last
            one holds.
        fps: frames a second.
        seed: of the random draws.
    """
    series = {"eyes": eyes(blinks, fps, seed), "head": turns(head, fps, seed)}
    for values in zip(*(series[name] for name in names), strict=True):
        yield torch.from_numpy(np.concatenate(values).astype(np.float32))


def eyes(blinks: Blinks, fps: float, seed: int) -> Iterator[NDArray[np.float64]]:
    """Openness of the eyes on the picture's left and right in each frame [2]; see control_series."""
    if isinstance(blinks, Sequence) and not isinstance(blinks, str):
        return _held(blinks)
    rate = {"natural": NATURAL_RATE, "none": 0.0}[blinks] if isinstance(blinks, str) else blinks
    return (np.full(2, openness) for openness in blinking(rate, fps, np.random.default_rng([seed, BLINK_STREAM])))


def turns(head: Head, fps: float, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yaw, pitch and roll against the identity frame in each frame [3], in HEAD_UNIT; see control_series."""
    if not isinstance(head, str):
        degrees = _held(head)
    elif head == "still":
        degrees = repeat(np.zeros(3))
    else:
        assert head == "natural"
        degrees = turning(fps, np.random.default_rng([seed, HEAD_STREAM]))
    return (each / HEAD_UNIT for each in degrees)


def blinking(rate: float, fps: float, rng: np.random.Generator) -> Iterator[float]:
    """Openness of both eyes in each frame: CLOSED ... 1.

    Pauses between blinks are REFRACTORY_S, or half the mean pause where that is less, and a gamma-distributed rest of
    shape 2. The first is a random share of one, as if the video began at any moment.

    Args:
        rate: blinks a second; below 1 / LONGEST_S.
        fps: frames a second.
        rng: source of the draws.
    """
    if not rate:
        yield from repeat(1.0)
    mean_pause = 1 / rate - (SHORTEST_S + LONGEST_S) / 2
    least = min(REFRACTORY_S, mean_pause / 2)

    def pause() -> float:
        return least + float(rng.gamma(2, (mean_pause - least) / 2))

    begin, duration = float(rng.random()) * pause(), float(rng.uniform(SHORTEST_S, LONGEST_S))
    for frame in count():
        while frame / fps >= begin + duration:
            begin, duration = begin + duration + pause(), float(rng.uniform(SHORTEST_S, LONGEST_S))
        yield openness_in_blink(frame / fps - begin, duration)


def openness_in_blink(at_s: float, duration_s: float) -> float:
    """How open an eye is so many seconds after a blink began: it closes fast, stays closed shortly, opens slowly."""
    opening_s = duration_s - CLOSING_S - CLOSED_S
    closed = min(at_s / CLOSING_S, (duration_s - at_s) / opening_s)  # 1 and more: closed; 0 and less: open
    share = min(max(closed, 0.0), 1.0)
    return float(1 - (1 - CLOSED) * (1 - np.cos(np.pi * share)) / 2)


def turning(fps: float, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yaw, pitch and roll in each frame [3], degrees: slow waves of the standard deviations TURN_SD, from 0 on.

    Args:
        fps: frames a second.
        rng: source of the draws.
    """
    pulsations = 2 * np.pi * rng.uniform(*TURN_HZ, (3, N_WAVES))
    phases = rng.uniform(0, 2 * np.pi, (3, N_WAVES))
    for frame in count():
        begun = min(frame / fps / TURN_BEGINS_S, 1.0)
        waves = np.sin(pulsations * frame / fps + phases).sum(axis=1)  # of the variance N_WAVES / 2
        yield begun**2 * (3 - 2 * begun) * np.asarray(TURN_SD) * waves / (N_WAVES / 2) ** 0.5


def _held(values: Sequence[Sequence[float]]) -> Iterator[NDArray[np.float64]]:
    """The values, then the last of them without end."""
    return (np.asarray(each, np.float64) for each in chain(values, repeat(values[-1])))
