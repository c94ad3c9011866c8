"""The clips that the page of `dheads eval` shows: which are the best and the worst, and how they look."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.run.eval_pairs import SAMPLE_RATE, Pair
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH
from dheads_cli.run.page_parts import film

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames

N_NAMED = 3  # clips named at each end of a value
SIDE_PX, SHOWN_S, CRF = 256, 10.0, 23  # of one of the three pictures; of a film on the page
GAIN = 2  # of the difference, so that it is seen


@dataclass(frozen=True)
class Ranked:
    """One clip's place in the order of a value; `real` is what its real clip scores, None where that is not known."""

    id: str
    value: float
    real: float | None


@dataclass(frozen=True)
class Extremes:
    """The generated clips at both ends of a value.

    Attributes:
        worst: farthest from what their real clips score, the farthest first; the lowest where that is not known.
        best: nearest to it, the nearest first; the highest where that is not known.
        by_real: whether it is known.
    """

    worst: list[Ranked]
    best: list[Ranked]
    by_real: bool


def extremes(clips: Sequence[Mapping[str, Any]]) -> dict[str, Extremes]:
    """Best and worst generated clips by each value that tells them apart.

    A metric does not say whether more is better, so the measure is the real clip: what it scores, measured as the
    generated one is, is what the generated one should score.

    Args:
        clips: records of all rows, as in eval.json before infinite values are replaced.
    """
    own = [clip for clip in clips if clip["row"] == GENERATED]
    real = {clip["clip_id"]: clip["values"] for clip in clips if clip["row"] == GROUND_TRUTH}
    found = {}
    for name in dict.fromkeys(name for clip in own for name in clip["values"]):
        ranked = [
            Ranked(clip["id"], clip["values"][name], real.get(clip["clip_id"], {}).get(name))
            for clip in own
            if isinstance(clip["values"].get(name), int | float)
        ]
        by_real = bool(real) and all(each.real is not None for each in ranked)
        ordered = sorted(ranked, key=_off if by_real else lambda each: -each.value)  # the best first
        if len(ordered) > 1 and (_off if by_real else _value)(ordered[0]) != (_off if by_real else _value)(ordered[-1]):
            n_named = min(N_NAMED, len(ordered) // 2)
            found[name] = Extremes(ordered[::-1][:n_named], ordered[:n_named], by_real)
    return found


def _value(clip: Ranked) -> float:
    return clip.value


def _off(clip: Ranked) -> float:
    """How far a clip is from its real one; where that scores infinity (PSNR of itself), how far below."""
    assert clip.real is not None
    if clip.value == clip.real:
        return -math.inf if math.isinf(clip.real) else 0.0
    return -math.copysign(clip.value, clip.real) if math.isinf(clip.real) else abs(clip.value - clip.real)


def chosen_ids(found: Mapping[str, Extremes], most: int) -> dict[str, list[str]]:
    """Clips to show -> why, in the order of values: each value's worst and best one, `most` clips at most."""
    reasons: dict[str, list[str]] = {}
    for name, ends in found.items():
        words = ("worst", "best") if ends.by_real else ("lowest", "highest")
        for word, clip in zip(words, (ends.worst[0], ends.best[0]), strict=True):
            if clip.id in reasons or len(reasons) < most:
                reasons.setdefault(clip.id, []).append(f"{word} {name} {clip.value:.3g}")
    return reasons


def films_of(pairs: Iterable[Pair]) -> dict[str, str]:
    """Addresses of films that hold the whole film, by the id of the generated clip."""
    return {pair.clip.id: film_address(pair) for pair in pairs if pair.row == GENERATED}


def film_address(pair: Pair) -> str:
    """The real clip, the generated one and their difference side by side, with the generated one's sound: a data URI.

    At most SHOWN_S long, each picture at most SIDE_PX wide and high.
    """
    n_frames = min(len(pair.clip.frames), round(SHOWN_S * pair.clip.fps))
    ours, real = (_small(clip.frames[:n_frames]) for clip in (pair.clip, pair.reference))
    shown = np.concatenate([real, ours, difference(ours, real)], axis=2)
    encoded = film(shown, pair.clip.fps, _sound(pair), SAMPLE_RATE, CRF)
    return f"data:video/mp4;base64,{base64.b64encode(encoded).decode()}"


def difference(ours: Frames, real: Frames) -> Frames:
    """GAIN times the absolute difference, clipped to 0 ... 255; uint8 [F, H, W, 3] each."""
    return np.stack([cv2.convertScaleAbs(cv2.absdiff(a, b), alpha=GAIN) for a, b in zip(ours, real, strict=True)])


def _small(frames: Frames) -> Frames:
    """Frames of even sides, at most SIDE_PX."""
    height, width = frames.shape[1:3]
    scale = min(1.0, SIDE_PX / max(height, width))
    size = tuple(max(2, round(side * scale / 2) * 2) for side in (width, height))
    if size == (width, height):
        return frames
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def _sound(pair: Pair) -> NDArray[np.float32] | None:
    found = pair.clip.sound
    return found[0] if found else None
