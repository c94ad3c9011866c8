"""A Fréchet distance over face embeddings; under its own name, because FID means Inception's features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dheads_components.metrics.csim import CSIM
from dheads_components.metrics.face_box import mean_place
from dheads_components.metrics.gaussian import frechet_of

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip

N_SPLITS = 20
Array = NDArray[np.float64]


class Frechet:
    """Fréchet distance of generated to real frames over dlib's face embeddings (as `csim` has them), x 1000.

    FD = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)) (Heusel et al. 2017), which is biased upwards, the more the
    fewer frames there are. So both distances are taken between halves of the clips, split within each speaker, mean
    over 20 splits: `face FD` between generated frames of one half and real ones of the other,
    `face FD of real halves` between the real frames of the two: the floor, with the same numbers of frames and the
    same bias. Their difference is what the generated frames are off by; equal: not to be told from real. The bias is
    small once a half has some 500 frames (five times the dimensions) of many clips. The network looks at faces and
    forgives blur: `sharpness` is for that. With a single clip, both are the distance to that clip's real frames.

    Args:
        weights, stride: see CSIM.
    """

    def __init__(self, weights: str | None = None, stride: int = 5) -> None:
        self._csim = CSIM(weights, stride)
        self._clips: list[tuple[str, Array, Array]] = []  # speaker, generated and real embeddings [N, 128]

    @property
    def weights(self) -> str:
        """Network, file and checksum."""
        return self._csim.weights

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """Take a clip in; a distance is only of a set."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> tuple[str, Array, Array] | None:
        """Speaker, generated and real embeddings [N, 128]; None without a face or a second frame."""
        place = mean_place(reference.landmarks)
        stride = self._csim.stride
        if place is None or len(clip.frames) <= stride:
            return None
        ours, real = (self._csim.embed(each.frames[::stride], place) for each in (clip, reference))
        return clip.speaker, ours, real

    def add(self, measured: tuple[str, Array, Array] | None) -> dict[str, float | str]:
        """Take a clip's embeddings in."""
        if measured is None:
            return {"face FD note": "no face in the real clip, or fewer than two frames: left out of face FD"}
        self._clips.append(measured)
        return {}

    def compute(self) -> dict[str, float]:
        """Mean distances over the splits."""
        if not self._clips:
            return {}
        distances = []
        for first, second in halves([speaker for speaker, _, _ in self._clips]):
            real = np.concatenate([self._clips[index][2] for index in second])
            distances.append(
                [frechet_distance(np.concatenate([self._clips[index][which] for index in first]), real)
                 for which in (1, 2)]
            )  # fmt: skip
        ours, floor = 1000 * np.mean(distances, axis=0)
        return {"face FD": float(ours), "face FD of real halves": float(floor)}


def halves(speakers: list[str]) -> list[tuple[list[int], list[int]]]:
    """N_SPLITS random splits of clips in two, each speaker's clips in two; one clip stands on both sides."""
    if len(speakers) == 1:
        return [([0], [0])]
    rng = np.random.default_rng(0)
    splits = []
    for _ in range(N_SPLITS):
        shuffled = rng.permutation(len(speakers))
        by_speaker = [int(index) for index in sorted(shuffled, key=lambda index: speakers[index])]
        splits.append((by_speaker[::2], by_speaker[1::2]))
    return splits


def frechet_distance(a: Array, b: Array) -> float:
    """Fréchet distance of the normal distributions fitted to samples [N, D] and [M, D]."""
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b)]
    return frechet_of(a.mean(axis=0), covariances[0], b.mean(axis=0), covariances[1])
