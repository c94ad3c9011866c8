"""The Fréchet distance of two normal distributions, and the moments of features that come in bit by bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MIN_SAMPLES = 2  # of which a covariance is


class Moments:
    """Mean and covariance of samples, in memory that does not grow with their number: sums, in float64."""

    def __init__(self) -> None:
        self.n = 0
        self._sum: Array = np.zeros(0)
        self._outer: Array = np.zeros((0, 0))

    def add(self, samples: NDArray[np.floating]) -> None:
        """Take in samples [N, D]."""
        exact = np.asarray(samples, dtype=np.float64)
        if not self.n:
            self._sum, self._outer = np.zeros(exact.shape[1]), np.zeros((exact.shape[1],) * 2)
        self.n += len(exact)
        self._sum += exact.sum(axis=0)
        self._outer += exact.T @ exact

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of samples together."""
        if not (self.n and other.n):
            return self if self.n else other
        both = Moments()
        both.n, both._sum, both._outer = self.n + other.n, self._sum + other._sum, self._outer + other._outer
        return both

    @property
    def mean(self) -> Array:
        """[D]."""
        return self._sum / self.n

    @property
    def covariance(self) -> Array:
        """[D, D], over n - 1; of MIN_SAMPLES samples at least."""
        return (self._outer - self.n * np.outer(self.mean, self.mean)) / (self.n - 1)


class SetDistance:
    """Fréchet distance of all generated samples to all real ones, and its floor, between halves of the clips.

    Each speaker's clips go to the two halves in turns.
    """

    def __init__(self) -> None:
        self._generated, self._real = (Moments(), Moments()), (Moments(), Moments())
        self._half: dict[str, int] = {}  # of each speaker's next clip

    def add(self, speaker: str, generated: NDArray[np.floating], real: NDArray[np.floating]) -> None:
        """Take in a clip's samples, [N, D] each."""
        half = self._half.setdefault(speaker, len(self._half) % 2)
        self._generated[half].add(generated)
        self._real[half].add(real)
        self._half[speaker] = 1 - half

    def values(self, name: str, samples: str) -> dict[str, float]:
        """The distances, as far as there are samples for them; nothing without samples.

        Args:
            name: of the distance; "... of halves" is of one half's generated samples to the other's real ones, "... of
                real halves" of real to real: they have the same numbers of samples, and so the same bias.
            samples: what "name samples", how many there are, calls them.
        """
        generated, real = sum(self._generated, Moments()), sum(self._real, Moments())
        if not generated.n:
            return {}
        values = {name: frechet_of_moments(generated, real)} if generated.n >= MIN_SAMPLES else {}
        if min(each.n for each in self._real) >= MIN_SAMPLES:
            for which, one in ((f"{name} of halves", self._generated[0]), (f"{name} of real halves", self._real[0])):
                values[which] = frechet_of_moments(one, self._real[1])
        return values | {f"{name} {samples}": float(generated.n)}


def frechet_of_moments(a: Moments, b: Moments) -> float:
    """Fréchet distance of the normal distributions with these moments: see `frechet_of`."""
    return frechet_of(a.mean, a.covariance, b.mean, b.covariance)


def frechet_of(mean_1: Array, covariance_1: Array, mean_2: Array, covariance_2: Array) -> float:
    """|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)) of normal distributions, means [D], covariances [D, D].

    Dowson and Landau 1982 ("The Fréchet distance between multivariate normal distributions"). Never below zero.
    """
    values, vectors = np.linalg.eigh(covariance_1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # tr (C_1 C_2)^(1/2) by the eigenvalues of C_1^(1/2) C_2 C_1^(1/2), which are the same and not negative.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_2 @ root), 0)).sum()
    apart = float(np.square(mean_1 - mean_2).sum())
    return max(0.0, apart + float(np.trace(covariance_1) + np.trace(covariance_2) - 2 * cross))
