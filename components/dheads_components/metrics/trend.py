"""A straight line through values of successive seconds, and what its slope may be when the seconds hang together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from dheads_cli.data.over_time import CONFIDENCE

MIN_POINTS = 4
EXACT = 1e-18  # squared residuals, of values scaled to a range of 1, that are rounding
RHOS = np.linspace(0, 0.98, 50)  # autocorrelations considered
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Slope:
    """A slope a step and its 95 % interval: not distinguishable from zero where that holds 0."""

    value: float
    low: float
    high: float


def slope_of(values: Array) -> Slope:
    """The slope of values [N >= MIN_POINTS] a step, with an interval that honours their autocorrelation.

    Model: y_k = a + b k + e_k, e_k = rho e_{k-1} + noise (Zellner and Tiao 1964, "Bayesian analysis of the regression
    model with autocorrelated errors"), uniform priors on a, b, log sigma and on rho in 0 ... 0.98. For one rho the
    whitened line gives b a Student distribution with N - 2 degrees of freedom; the interval holds the middle 95 % of
    their mixture by the posterior of rho, and the value is the mixture's mean. So rho need not be estimated, which few
    points don't allow: plain least squares, or an effective number of points from the sample's own autocorrelation,
    call trendless drifting values a trend too often (docs/METRICS.md has the numbers).
    """
    if len(values) < MIN_POINTS:
        raise ValueError(f"a slope takes {MIN_POINTS} values, not {len(values)}")
    level = float(values.mean())
    spread = float(np.ptp(values))
    if spread <= 1e-9 * max(1.0, abs(level)):  # no noise to estimate
        return Slope(0.0, 0.0, 0.0)
    slopes, squares, scales, log_norms = _lines((values - level) / spread)
    n_free = len(values) - 2
    log_weights = log_norms - n_free / 2 * np.log(squares)
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    widths = np.sqrt(squares / n_free) * scales
    tail = (1 - CONFIDENCE) / 2
    low, high = (_quantile(share, slopes, widths, weights, n_free) for share in (tail, 1 - tail))
    return Slope(float(weights @ slopes) * spread, low * spread, high * spread)


def _lines(values: Array) -> tuple[Array, Array, Array, Array]:
    """For each rho the least squares line of whitened values: its slope, its summed squared residuals, the slope's
    standard error for unit noise, and the logarithm of what the likelihood has besides the residuals; [R] each."""
    n = len(values)
    steps = np.arange(n, dtype=np.float64) - (n - 1) / 2
    ones, times, y = _whitened(np.ones(n)), _whitened(steps), _whitened(values)  # [R, N]
    normal = np.array([[(a * b).sum(axis=1) for b in (ones, times)] for a in (ones, times)])  # [2, 2, R]
    right = np.array([(a * y).sum(axis=1) for a in (ones, times)])  # [2, R]
    determinant = normal[0, 0] * normal[1, 1] - normal[0, 1] ** 2
    level = (normal[1, 1] * right[0] - normal[0, 1] * right[1]) / determinant
    slopes = (normal[0, 0] * right[1] - normal[0, 1] * right[0]) / determinant
    residuals = y - level[:, None] * ones - slopes[:, None] * times
    squares = np.maximum((residuals**2).sum(axis=1), EXACT)
    log_norms = 0.5 * np.log(1 - RHOS**2) - 0.5 * np.log(determinant)
    return slopes, squares, np.sqrt(normal[0, 0] / determinant), log_norms


def _whitened(values: Array) -> Array:
    """[N] -> [R, N]: what each value has beyond rho times the one before; the first as in a stationary series."""
    white = np.empty((len(RHOS), len(values)))
    white[:, 0] = np.sqrt(1 - RHOS**2) * values[0]
    white[:, 1:] = values[1:] - RHOS[:, None] * values[:-1]
    return white


def _quantile(share: float, means: Array, widths: Array, weights: Array, n_free: int) -> float:
    """Where a mixture of Student distributions has a share of its probability below, by bisection."""
    each = means + widths * stdtrit(n_free, share)
    low, high = float(each.min()), float(each.max())  # the mixture's quantile lies between its parts'
    for _ in range(60):
        middle = (low + high) / 2
        below = float(weights @ stdtr(n_free, (middle - means) / widths)) < share
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2
