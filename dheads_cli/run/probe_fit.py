"""The linear probe itself: ridge regression by normal equations, and how its traces are scored.

Everything is plain numpy on embeddings that are there already; probe.py makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.mouth import pearson, shifted
from dheads_cli.model.speech import window_indices

STRENGTHS = tuple(10.0**power for power in range(-4, 4))  # of the ridge, tried on the split `val`
MAX_LAG = 5  # frames
N_OTHERS = 10  # clips whose sound stands in for a clip's own, for the shuffled floor
CLIPS_AT_ONCE = 8  # in one product of matrices


@dataclass(frozen=True)
class HeardClip:
    """A clip that an encoder has heard.

    Attributes:
        id, speaker: as in the corpus.
        embeddings: float32 [F, D].
        opening: of the mouth, float64 [F], NaN where there is no face.
    """

    id: str
    speaker: str
    embeddings: NDArray[np.float32]
    opening: NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """The probe's input for each frame: the embeddings around it, standardised.

    Attributes:
        audio_context: m_y.
        mean, deviation: of each dimension of the embeddings that are fitted, float32 [D].
    """

    audio_context: int
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def of(cls, clips: Sequence[HeardClip], audio_context: int) -> Window:
        """The window for a probe that is fitted on these clips."""
        embeddings = np.concatenate([clip.embeddings for clip in clips])
        mean, deviation = embeddings.mean(axis=0, dtype=np.float64), embeddings.std(axis=0, dtype=np.float64)
        return cls(audio_context, mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32))

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames k - m_y ... k + m_y, oldest to newest, the ends repeated: [F, D] -> [F, (2 m_y + 1) D]."""
        n_frames = len(embeddings)
        places = [window_indices(k, n_frames, self.audio_context) for k in range(n_frames)]
        return ((embeddings - self.mean) / self.deviation)[places].reshape(n_frames, -1)


@dataclass(frozen=True)
class Moments:
    """Sums over frames, which are all that a ridge regression takes; those of parts of a set add up.

    Attributes:
        n: frames.
        x: sum of the inputs, float64 [P].
        y: sum of the targets.
        xx: sum of their outer products, float64 [P, P].
        xy: sum of input times target, float64 [P].
    """

    n: int
    x: NDArray[np.float64]
    y: float
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]

    def without(self, part: Moments) -> Moments:
        """The rest of a set of which `part` is a part."""
        return Moments(self.n - part.n, self.x - part.x, self.y - part.y, self.xx - part.xx, self.xy - part.xy)


@dataclass(frozen=True)
class Probe:
    """A linear map from an audio window to the mouth's opening.

    Attributes:
        weights: float64 [(2 m_y + 1) D].
        window: what they multiply.
        strength: of the ridge, relative to an input's variance.
    """

    weights: NDArray[np.float64]
    window: Window
    strength: float

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """float32 [F, D] -> the trace [F], up to a constant, to which no score listens."""
        trace: NDArray[np.float64] = self.window(embeddings) @ self.weights
        return trace


@dataclass(frozen=True)
class Score:
    """How well a probe's traces follow the mouths of some clips.

    Attributes:
        r: Pearson r of each clip, by id.
        shuffled: mean r of each clip where the probe hears other clips' sound instead, by id; empty if not asked for.
        lag: frames the trace comes after the mouth, where the mean r is highest.
    """

    r: dict[str, float]
    shuffled: dict[str, float]
    lag: int


def targets(clips: Sequence[HeardClip]) -> list[NDArray[np.float64]]:
    """Each clip's opening, standardised over all clips of its speaker.

    How wide a person's mouth is at rest and at its widest cannot be heard, and no score asks for it (r is within a
    clip): what the probe should learn is the movement. Scoring needs no such statistics, so it takes speakers as they
    come. A mouth that never moves in any clip of its speaker gives zeros.
    """
    standard = {}
    for speaker in {clip.speaker for clip in clips}:
        known = np.concatenate([clip.opening[np.isfinite(clip.opening)] for clip in clips if clip.speaker == speaker])
        standard[speaker] = (known.mean(), known.std() or 1.0) if len(known) else (0.0, 1.0)
    return [(clip.opening - standard[clip.speaker][0]) / standard[clip.speaker][1] for clip in clips]


def moments(
    clips: Sequence[HeardClip],
    wanted: Sequence[NDArray[np.float64]],
    window: Window,
) -> Moments:
    """The sums over the frames of clips whose targets `wanted` are known."""
    size = (2 * window.audio_context + 1) * len(window.mean)
    n, x, y, xx, xy = 0, np.zeros(size), 0.0, np.zeros((size, size)), np.zeros(size)
    for begin in range(0, len(clips), CLIPS_AT_ONCE):
        part = slice(begin, begin + CLIPS_AT_ONCE)
        target = np.concatenate(wanted[part])
        seen = np.isfinite(target)
        inputs = np.concatenate([window(clip.embeddings) for clip in clips[part]])[seen]
        target = target[seen]
        n, y = n + len(target), y + float(target.sum())
        x += inputs.sum(axis=0, dtype=np.float64)
        xx += inputs.T @ inputs  # a product of a few hundred rows in float32, the sum in float64
        xy += target @ inputs
    return Moments(n, x, y, xx, xy)


def ridge(sums: Moments, strengths: Iterable[float]) -> list[NDArray[np.float64]]:
    """Weights that minimise the mean squared error + strength * |weights of the inputs at variance 1|^2.

    Args:
        sums: over the frames to fit.
        strengths: of the ridge, each above 0.

    Returns:
        float64 [P] for each strength.
    """
    mean = sums.x / sums.n
    covariance = sums.xx / sums.n - np.outer(mean, mean)
    with_target = sums.xy / sums.n - mean * sums.y / sums.n
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
    scale = np.where(deviation > 1e-6, deviation, np.inf)  # an input that does not vary gets no weight
    correlation = covariance / np.outer(scale, scale)
    unit = np.eye(len(mean))
    return [np.linalg.solve(correlation + strength * unit, with_target / scale) / scale for strength in strengths]


def choose(
    sums: Moments,
    judges: Sequence[HeardClip],
    window: Window,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """The probe whose strength gives the highest mean r on the clips `judges`, which were not fitted."""
    probes = [
        Probe(weights, window, strength) for strength, weights in zip(strengths, ridge(sums, strengths), strict=True)
    ]
    return max(probes, key=lambda probe: float(np.mean([pearson(probe(c.embeddings), c.opening) for c in judges])))


def score(probe: Probe, clips: Sequence[HeardClip], *, floor: bool = True) -> Score:
    """Score the probe's traces of clips against their mouths, and where asked for against other clips' mouths."""
    traces = [probe(clip.embeddings) for clip in clips]
    r = {clip.id: pearson(trace, clip.opening) for clip, trace in zip(clips, traces, strict=True)}
    at_lag = {
        lag: np.mean([pearson(*shifted(t, c.opening, lag)) for c, t in zip(clips, traces, strict=True)])
        for lag in sorted(range(-MAX_LAG, MAX_LAG + 1), key=abs)  # ties go to the smallest
    }
    shuffled = {}
    for i, clip in enumerate(clips if floor and len(clips) > 1 else []):
        others = [traces[(i + step) % len(clips)] for step in range(1, min(N_OTHERS, len(clips) - 1) + 1)]
        both = [min(len(other), len(clip.opening)) for other in others]
        shuffled[clip.id] = float(
            np.mean([pearson(o[:n], clip.opening[:n]) for o, n in zip(others, both, strict=True)])
        )
    return Score(r, shuffled, max(at_lag, key=lambda lag: at_lag[lag]))
