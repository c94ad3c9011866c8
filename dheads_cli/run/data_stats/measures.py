"""How a measure is distributed over clips, and which clips stand far outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_BINS = 40  # of a histogram, at most
N_OUTLIERS = 6  # listed for each measure
# Tukey's outer fences: so many interquartile ranges beyond the quartiles, or standard deviations where most are alike.
FENCE = 3.0
PERCENTILES = {"min": 0, "p1": 1, "p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "p99": 99, "max": 100}
UNITS = ("px", "s", "ms", "hz", "db", "dbfs", "lufs", "deg", "frames", "share", "fps", "percent", "r", "iod")


def distribution(values: NDArray[np.float64], rows: NDArray[np.int64], id_of: Callable[[int], str]) -> dict[str, Any]:
    """Numbers, histogram and outliers of one measure.

    Args:
        values: [N], NaN where a clip does not have it.
        rows: the clips' rows of the manifest [N].
        id_of: gives the id of a row.

    Returns:
        n, missing, mean, std and percentiles; the fences and how many clips lie outside; the outliers farthest outside
        as {id, line of the manifest, value}; the histogram as edges [bins + 1] and counts [bins], of clips inside.
    """
    known = np.flatnonzero(np.isfinite(values))
    numbers: dict[str, Any] = {"n": len(known), "missing": len(values) - len(known)}
    if not len(known):
        return numbers
    there = values[known]
    marks = np.percentile(there, list(PERCENTILES.values()))
    numbers |= {"mean": float(there.mean()), "std": float(there.std())}
    numbers |= {name: float(mark) for name, mark in zip(PERCENTILES, marks, strict=True)}
    spread = (numbers["p75"] - numbers["p25"]) or numbers["std"]
    low, high = numbers["p25"] - FENCE * spread, numbers["p75"] + FENCE * spread
    beyond = np.maximum(low - there, there - high)
    outside = np.flatnonzero(beyond > 1e-9 * max(abs(low), abs(high), 1e-300))
    farthest = known[outside[np.argsort(-beyond[outside], kind="stable")[:N_OUTLIERS]]]
    numbers["fences"] = [low, high]
    numbers["n_outside"] = len(outside)
    numbers["outliers"] = [
        {"id": id_of(int(rows[i])), "line": int(rows[i]) + 1, "value": float(values[i])} for i in farthest
    ]
    edges = _edges(there, low, high)
    numbers["histogram"] = {"edges": edges.tolist(), "counts": np.histogram(there, edges)[0].tolist()}
    return numbers


def _edges(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Bins over the values inside the fences; one for each whole number where there are only few of them."""
    if low < high:
        values = values[(values >= low) & (values <= high)]
    first, last = float(values.min()), float(values.max())
    if last - first <= 1e-9 * max(abs(first), abs(last)):  # all alike: one narrow bar
        return np.linspace(first - 0.5, first + 0.5, N_BINS + 2)
    if last - first < N_BINS and np.array_equal(values, np.round(values)):
        return np.arange(first - 0.5, last + 1)
    n_bins = min(N_BINS, max(8, round(2 * len(values) ** 0.5)))  # few clips in many bins show nothing but gaps
    return np.linspace(first, last, n_bins + 1)


def in_words(measure: str) -> str:
    """A measure's name for people: "face_height_px" is "face height [px]"."""
    *words, last = measure.split("_")
    if words and last in UNITS:
        unit = {
            "hz": "Hz",
            "db": "dB",
            "dbfs": "dBFS",
            "lufs": "LUFS",
            "deg": "°",
            "percent": "%",
            "iod": "eye distances",
        }.get(last, last)
        return f"{' '.join(words)} [{unit}]"
    return measure.replace("_", " ")
