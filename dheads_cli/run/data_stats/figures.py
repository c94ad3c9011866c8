"""The figures of `dheads data stats`, each drawn on axes: on the page they are SVG, in the picture side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.run.data_stats.checks import LAG_EARLY_S, LAG_LATE_S
from dheads_cli.run.data_stats.clips import Look, MeanFace
from dheads_cli.run.data_stats.measures import in_words
from dheads_cli.run.data_stats.sync import LagCurve
from dheads_cli.run.page_parts import BLUE, GRAY, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TILE_PX = 128  # of a contact sheet
POINT_GROUPS = ((0, 17), (17, 27), (27, 36), (36, 48), (48, 68))  # jaw, brows, nose, eyes, mouth


def draw_histogram(axes: Axes, name: str, told: Mapping[str, Any]) -> None:
    """How many clips have which value; the median marked, clips outside the range counted."""
    edges, counts = (np.array(told["histogram"][part]) for part in ("edges", "counts"))
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, linewidth=0)
    axes.axvline(told["median"], color=ORANGE, linewidth=1.3)
    if counts.max() > 50 * max(1, np.median(counts[counts > 0])):
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, counts.max() * 2)
    else:
        axes.locator_params(axis="y", integer=True)
    outside = told["n"] - int(counts.sum())
    beyond = f", {outside:,} outside" if outside else ""
    axes.set_title(f"{textwrap.fill(in_words(name), 36)}\n{told['n']:,} clips, median {told['median']:.3g}{beyond}")
    axes.set_ylabel("clips")
    axes.margins(x=0.01)


def draw_speakers(axes: Axes, speakers: Mapping[str, Mapping[str, Any]], splits: Sequence[str]) -> None:
    """Clips of each speaker, by split."""
    colours = dict(zip(splits, (BLUE, ORANGE, "#4a9b6e", "#8a63b5", GRAY), strict=False))
    names = list(speakers)
    left = np.zeros(len(names))
    for split in splits:
        widths = np.array([speakers[name]["splits"].get(split, 0) for name in names])
        if widths.any():
            axes.barh(names, widths, left=left, height=0.75, label=split, color=colours.get(split, GRAY), linewidth=0)
        left += widths
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("clips")
    axes.set_title("Clips by speaker and split", pad=16)
    if left.any():
        spacing = {"handlelength": 1.0, "columnspacing": 1.0, "borderaxespad": 0.2}
        above: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 5, **spacing}
        axes.legend(fontsize=6.5, frameon=False, labelcolor=INK, **above)


def draw_lag(axes: Axes, curve: LagCurve) -> None:
    """Correlation of mouth opening and loudness by lag, with a band of two standard errors."""
    lags, best = curve.lags, curve.best
    axes.axvspan(LAG_EARLY_S * curve.fps, LAG_LATE_S * curve.fps, color="#4a9b6e", alpha=0.16, linewidth=0)
    axes.axhline(0, color=GRAY, linewidth=0.6)
    axes.fill_between(lags, curve.r - 2 * curve.error, curve.r + 2 * curve.error, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(lags, curve.r, color=BLUE, linewidth=1.5)
    axes.plot(lags[best], curve.r[best], "o", color=ORANGE, markersize=5)
    axes.set_ylim(min(-0.4, float(np.nanmin(curve.r)) - 0.05), max(0.5, float(np.nanmax(curve.r)) + 0.05))
    axes.set_xlim(lags[0], lags[-1])
    axes.set_title(f"Mouth opening and loudness\nr = {curve.r[best]:.2f} at lag {lags[best]}, {curve.n_clips} clips")
    axes.set_xlabel("lips behind the sound [frames]; shaded: in step")
    axes.set_ylabel("correlation r")


def draw_trace(axes: Axes, look: Look) -> None:
    """A clip's mouth opening over its waveform, with its words where their times are known."""
    seconds = len(look.opening) / look.fps
    at = np.linspace(0, len(look.opening) / look.fps, len(look.envelope))
    highest = max(float(np.abs(look.envelope).max()), 1e-6)
    axes.fill_between(at, *(look.envelope.T / highest), color=GRAY, alpha=0.55, linewidth=0)
    opening = look.opening - np.nanmin(look.opening)
    scaled = opening / max(float(np.nanmax(opening)), 1e-6) * 2 - 1
    axes.plot((np.arange(len(scaled)) + 0.5) / look.fps, scaled, color=ORANGE, linewidth=1.5)
    for number, (word, begin, end) in enumerate(look.words):  # neighbours on two lines: short words lie close
        axes.text((begin + end) / 2, 1.06 + 0.2 * (number % 2), word, ha="center", va="bottom", fontsize=6.5)
    axes.set_xlim(0, seconds)
    axes.set_ylim(-1.05, 1.5 if look.words else 1.05)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("time [s]", labelpad=1)
    axes.set_title(f"{look.id} ({look.split})")


def draw_scatter(axes: Axes, face: MeanFace, looks: Sequence[Look]) -> None:
    """Landmarks of all clips over the mean face."""
    size = len(face.picture)
    axes.imshow(face.picture, extent=(0, size, size, 0), interpolation="bicubic")
    points = np.concatenate([look.points for look in looks])
    for (begin, end), colour in zip(POINT_GROUPS, ("#59a5ff", "#ffb347", "#7be08a", "#ff6f6f", "#e08aff"), strict=True):
        shown = points[:, begin:end].reshape(-1, 2)
        axes.scatter(shown[:, 0], shown[:, 1], s=3, color=colour, alpha=0.25, linewidths=0, rasterized=True)
    axes.set_xlim(0, size)
    axes.set_ylim(size, 0)
    axes.axis("off")


def tile(frame: NDArray[np.uint8], points: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    """A frame [H, W, 3] as a tile [TILE_PX, TILE_PX, 3], with its landmarks [68, 2] px where they are given."""
    scale = TILE_PX / len(frame)
    drawn = cv2.resize(frame, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for x, y in [] if points is None else points * scale:
        cv2.circle(drawn, (round(16 * float(x)) - 8, round(16 * float(y)) - 8), 22, (80, 255, 120), -1, cv2.LINE_AA, 4)
    return drawn  # type: ignore[return-value]


def tiles(looks: Sequence[Look], n_tiles: int) -> list[tuple[Look, NDArray[np.uint8]]]:
    """The first clips' frames, every third with its landmarks."""
    return [
        (look, tile(look.frame, look.points[0] if number % 3 == 2 else None))
        for number, look in enumerate(looks[:n_tiles])
    ]


def traced(looks: Sequence[Look], n_clips: int) -> list[Look]:
    """A few clips to trace: those with known words first, as these tell most, each of another speaker if possible."""
    order = sorted(range(len(looks)), key=lambda place: (not looks[place].words, place))
    speakers: set[str] = set()
    fresh: list[int] = []
    others: list[int] = []
    for place in order:
        (others if looks[place].speaker in speakers else fresh).append(place)
        speakers.add(looks[place].speaker)
    return [looks[place] for place in [*fresh, *others][:n_clips]]
