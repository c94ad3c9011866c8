"""What every metric must do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dheads_cli.errors import DheadsError
from dheads_cli.protocols import MetricInParts


@dataclass(frozen=True)
class KnownClip:
    """A clip for tests: a drawn face whose mouth opens and closes."""

    id: str
    frames: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    fps: float = 25
    sample_rate: int = 16000
    silent: bool = False

    @property
    def speaker(self) -> str:
        """Each clip is of a speaker of its own."""
        return self.id

    @property
    def identity(self) -> NDArray[np.uint8]:
        """The first frame."""
        first: NDArray[np.uint8] = self.frames[0]
        return first

    @property
    def sound(self) -> tuple[NDArray[np.float32], int] | None:
        """Noise that swells and fades, another for each name; None where the clip is silent."""
        if self.silent:
            return None
        rng = np.random.default_rng(sum(map(ord, self.id)))
        time = np.arange(round(len(self.frames) / self.fps * self.sample_rate)) / self.sample_rate
        noise = rng.uniform(-0.5, 0.5, len(time)) * np.sin(2 * np.pi * rng.uniform(2, 4) * time)
        return noise.astype(np.float32), self.sample_rate

    @property
    def words(self) -> list[str]:
        """A sentence of GRID."""
        return ["bin", "blue", "at", "f", "two", "now"]


def talking_clip(name: str = "a", n_frames: int = 20, size: int = 64, *, face: bool = True) -> KnownClip:
    """A small clip with smooth pictures, and landmarks (NaN where face is False) whose lips open in a sine."""
    rng = np.random.default_rng(sum(map(ord, name)))
    y, x = np.mgrid[0:size, 0:size] / size
    phase = np.arange(n_frames)[:, None, None, None] / 4
    tints = rng.uniform(1, 6, 3)
    waves = np.sin(tints * x[..., None] * 3 + tints[::-1] * y[..., None] * 2 + phase)
    frames = (127 + 120 * waves).astype(np.uint8)
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([0.5 + 0.35 * np.cos(angle), 0.5 + 0.4 * np.sin(angle)], axis=1)
    for part, centre in ((slice(36, 42), (0.35, 0.4)), (slice(42, 48), (0.65, 0.4)), (slice(48, 68), (0.5, 0.7))):
        turn = np.linspace(np.pi, 3 * np.pi, part.stop - part.start, endpoint=False)
        points[part] = np.stack([centre[0] + 0.08 * np.cos(turn), centre[1] + 0.04 * np.sin(turn)], axis=1)
    landmarks = np.repeat(points[None], n_frames, axis=0) * size
    opening = 0.03 * size * (1 + np.sin(np.arange(n_frames) + len(name)))[:, None]
    landmarks[:, 61:64, 1] = 0.7 * size - opening
    landmarks[:, 65:68, 1] = 0.7 * size + opening
    if not face:
        landmarks[:] = np.nan
    return KnownClip(name, frames, landmarks.astype(np.float32))


def _values(method: str, values: Any, *, itself: bool, texts: bool = False) -> Iterator[str]:
    """Values are named and plain; infinite only for a clip against itself, as PSNR is; texts only where allowed."""
    where = f"{method}, {'a clip against itself' if itself else 'two clips that differ'}:"
    if not isinstance(values, Mapping):
        yield f"{where} must return a mapping, not {type(values).__name__}"
        return
    for name, value in values.items():
        if not isinstance(name, str) or not name:
            yield f"{where} {name!r} is no name: a name is text"
        if isinstance(value, str) and texts:
            continue
        if isinstance(value, bool) or not isinstance(value, float | int):
            yield f"{where} {name!r} is {type(value).__name__}, not a plain float"
        elif np.isnan(value) or (np.isinf(value) and not itself):
            yield f"{where} {name!r} is {value}"


def metric_gives_named_numbers(metric: Any) -> Iterator[str]:
    """Without clips compute gives nothing; against itself and another a clip gives numbers, the same each time."""
    if not isinstance(metric.weights, str):
        yield f"weights must be text, not {type(metric.weights).__name__}"
    try:
        if metric.compute():
            yield "compute before the first update must be empty, or a DheadsError"
    except DheadsError:
        pass
    real, other = talking_clip("a"), talking_clip("bb")
    kept = real.frames.copy(), real.landmarks.copy()
    for clip in (real, other):
        yield from _values("update", metric.update(clip, real), itself=clip is real, texts=True)
        values = metric.compute()
        yield from _values("compute", values, itself=True)
        if not values:
            yield "compute gives no value after an update"
        elif dict(values) != dict(metric.compute()):
            yield "compute called twice gives different values"
    if not (np.array_equal(real.frames, kept[0]) and np.array_equal(real.landmarks, kept[1])):
        yield "it changes the clip it is given"


def metric_takes_a_clip_without_a_face(metric: Any) -> Iterator[str]:
    """A generated clip in which no face is found is scored or left out, not an error."""
    metric.update(talking_clip("c", face=False), talking_clip("c"))
    if not isinstance(metric.compute(), Mapping):
        yield "compute must return a mapping"


def metric_takes_a_clip_without_sound(metric: Any) -> Iterator[str]:
    """A clip without sound is scored or left out, not an error."""
    clip = talking_clip("d")
    metric.update(replace(clip, silent=True), clip)
    if not isinstance(metric.compute(), Mapping):
        yield "compute must return a mapping"


def metric_in_parts_gives_the_same(metric: Any) -> Iterator[str]:
    """Where update is in two parts, these give what it gives; what is between them can go to another process."""
    in_parts = isinstance(metric, MetricInParts)
    if not in_parts:
        return
    clip, real = talking_clip("bb"), talking_clip("a")
    whole, values = dict(metric.update(clip, real)), dict(metric.compute())
    measured = metric.measure(clip, real)
    if dict(metric.compute()) != values:
        yield "measure changes the values; only add may"
    try:
        ForkingPickler.dumps(measured)
    except (TypeError, AttributeError, ValueError) as error:
        yield f"what measure returns can't be pickled: {error}"
    if dict(metric.add(measured)) != whole:
        yield "add gives other values for what was measured than update for the clip"


TESTS = (
    metric_gives_named_numbers,
    metric_takes_a_clip_without_a_face,
    metric_takes_a_clip_without_sound,
    metric_in_parts_gives_the_same,
)
