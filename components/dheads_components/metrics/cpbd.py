"""CPBD: how sharp a picture looks, without another to compare it with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip

BLOCK_PX = 64
MIN_EDGES = 0.002  # share of a block's pixels that are edges, above which its blur is looked at
LOW_CONTRAST = 50.0  # highest less lowest gray value of a block, up to which more blur goes unnoticed
WIDTH_LOW, WIDTH_HIGH = 5.0, 3.0  # px: the just noticeable width of an edge in a block of low, of high contrast
BETA = 3.6
NOTICED = float(1 - np.exp(-1))  # 63 %, the probability that blur of the just noticeable width is noticed
STRONG = 4.0  # an edge's squared gradient is more than so many times the picture's mean


class CPBD:
    """Cumulative probability of blur detection (Narvekar and Karam 2011) of a clip's frames; no unit.

    The share of edges whose blur is not noticed: P(P_blur <= 63 %) with P_blur = 1 - exp(-(w / w_JNB)^3.6), w an edge's
    width by Marziliano et al. 2002 and w_JNB 5 px in blocks of 64 x 64 px whose contrast is 50 at most, else 3 px. Only
    vertical edges, found by Sobel's operator, in blocks of which more than 0.2 % are edges. 1: sharp; 0: blurred, or
    nothing to see. Sharpness of small pictures comes out low: 0.25 for real GRID crops of 128 px.

    A clip's value is the mean over its frames at the size they have, the set's the mean over clips. It is of the clip
    by itself: read a row against the ground-truth row. Written from the papers, which leave open how edges are chosen;
    docs/METRICS.md has how far it is from the authors' program.

    Args:
        stride: every how many frames one is measured.
    """

    weights = ""

    def __init__(self, stride: int = 1) -> None:
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        self.stride = stride
        self._clips: list[float] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """CPBD of one clip."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> float | None:
        """Mean over the frames; None where they are smaller than a block."""
        if min(clip.frames.shape[1:3]) < BLOCK_PX:
            return None
        grays = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames[:: self.stride])
        return float(np.mean([cpbd(np.asarray(gray, dtype=np.float64)) for gray in grays]))

    def add(self, measured: float | None) -> dict[str, float | str]:
        """Take a clip's value in."""
        if measured is None:
            return {"CPBD note": f"frames smaller than a block of {BLOCK_PX} px: left out of CPBD"}
        self._clips.append(measured)
        return {"CPBD": measured}

    def compute(self) -> dict[str, float]:
        """Mean over clips."""
        return {"CPBD": float(np.mean(self._clips))} if self._clips else {}


def cpbd(gray: NDArray[np.float64]) -> float:
    """CPBD of a picture [H, W] of 0 ... 255; 0 where no block has edges."""
    edges = vertical_edges(gray)
    widths = edge_widths(gray)
    n_unnoticed = n_edges = 0
    for top in range(0, gray.shape[0] - BLOCK_PX + 1, BLOCK_PX):
        for left in range(0, gray.shape[1] - BLOCK_PX + 1, BLOCK_PX):
            block = (slice(top, top + BLOCK_PX), slice(left, left + BLOCK_PX))
            found = edges[block]
            if found.sum() <= MIN_EDGES * found.size:
                continue
            just_noticed = WIDTH_LOW if np.ptp(gray[block]) <= LOW_CONTRAST else WIDTH_HIGH
            probability = 1 - np.exp(-((widths[block][found] / just_noticed) ** BETA))
            n_unnoticed += int((probability <= NOTICED).sum())
            n_edges += int(found.sum())
    return n_unnoticed / n_edges if n_edges else 0.0


def vertical_edges(gray: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels [H, W] on vertical edges: where Sobel's gradient along the row is high, and highest among neighbours."""
    strength = cv2.Sobel(gray, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REPLICATE) ** 2
    beside = np.pad(strength, ((0, 0), (1, 1)))
    highest = (strength >= beside[:, :-2]) & (strength > beside[:, 2:])
    return np.asarray(highest & (strength > STRONG * strength.mean()))


def edge_widths(gray: NDArray[np.float64]) -> NDArray[np.float64]:
    """Px from the extremum left of each pixel to that right of it, along its row, as an edge there would rise or fall.

    A pixel where gray rises lies between the nearest minimum to its left and the nearest maximum to its right; where it
    falls, the other way round (Marziliano et al. 2002). Rising or falling: by the neighbours on its sides.
    """
    rising = np.pad(gray, ((0, 0), (1, 1)), mode="edge")
    rises = rising[:, 2:] >= rising[:, :-2]
    widths = [_run_lengths(sign * gray) for sign in (1, -1)]
    return np.where(rises, *widths)


def _run_lengths(gray: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each pixel the length, in px, of the strictly rising run of its row that it is in; 0 where there is none."""
    n = gray.shape[1]
    columns = np.arange(n)
    steps = np.diff(gray, axis=1) > 0  # from each pixel to the next
    starts = np.where(np.pad(steps, ((0, 0), (1, 0))), 0, columns)  # a pixel that no step leads up to begins a run
    ends = np.where(np.pad(steps, ((0, 0), (0, 1))), n - 1, columns)  # one that no step leads up from ends it
    first = np.maximum.accumulate(starts, axis=1)
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    return (last - first).astype(np.float64)
