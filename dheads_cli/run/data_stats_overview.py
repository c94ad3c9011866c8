"""The picture of `dheads data stats`: the whole corpus on one sheet."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dheads_cli.run import data_stats_figures as figures
from dheads_cli.run.data_stats_table import SAID, by_size, facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from dheads_cli.run.data_stats import Stats

WIDTH_IN, DPI = 15.0, 120
N_COLUMNS, N_ROWS = 8, 4  # of the contact sheet
N_FACES, N_TRACES, N_BARS = 5, 3, 14
HISTOGRAMS_A_ROW = 5
COLOURS = {"good": "#2c8a57", "look": "#b57600", "bad": "#c73a2d", "unknown": "#7a838c"}


def draw_overview(found: Stats) -> bytes:
    """Checks, faces, mean faces, traces, lag and histograms as one PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    measures = {name: told for name, told in found.numbers["measures"].items() if told["n"]}
    n_histogram_rows = -(-len(measures) // HISTOGRAMS_A_ROW)
    heights = [0.55 + 0.25 * len(found.checks), 4.0, 2.1, *([1.9 * n_histogram_rows] if measures else [])]
    with rc_context(figures.STYLE):
        figure = Figure(figsize=(WIDTH_IN, sum(heights)), dpi=DPI, layout="constrained")
        parts = figure.subfigures(len(heights), 1, height_ratios=heights)
        _head(parts[0], found, heights[0])
        _faces(parts[1], found)
        _sound(parts[2], found)
        if measures:
            grid = parts[3].subplots(n_histogram_rows, HISTOGRAMS_A_ROW, squeeze=False)
            for axes in grid.flat:
                axes.axis("off")
            for axes, (name, told) in zip(grid.flat, measures.items(), strict=False):
                axes.axis("on")
                figures.draw_histogram(axes, name, told)
        png = io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _head(part: SubFigure, found: Stats, height_in: float) -> None:
    """The corpus in a line, and the checks."""
    name = Path(found.numbers["corpus"]).resolve().name
    part.text(0.008, 1 - 0.1 / height_in, name, fontsize=15, weight="bold", va="top")
    part.text(0.008, 1 - 0.4 / height_in, ", ".join(facts(found.numbers)), fontsize=10, va="top")
    for number, check in enumerate(found.checks):
        y = 1 - (0.68 + 0.23 * number) / height_in
        colour = COLOURS[check.state]
        part.text(0.008, y, check.name, fontsize=9.5, va="top")
        part.text(0.085, y, SAID[check.state], fontsize=9.5, va="top", color=colour, weight="bold")
        part.text(0.15, y, textwrap.shorten(check.text, 150, placeholder=" ..."), fontsize=9.5, va="top")


def _faces(part: SubFigure, found: Stats) -> None:
    """Contact sheet to the left; mean faces, landmarks and the clips by speaker to the right."""
    looks, faces = found.sample.looks, found.sample.mean_faces
    left, right = part.subfigures(1, 2, width_ratios=(1.16, 1))
    sheet = left.subplots()
    sheet.axis("off")
    if not looks:
        sheet.text(0.5, 0.5, "no clip could be decoded", ha="center")
        return
    shown = figures.tiles(looks, N_COLUMNS * N_ROWS)
    canvas = np.full((N_ROWS * figures.TILE_PX, N_COLUMNS * figures.TILE_PX, 3), 255, np.uint8)
    for number, (_, tile) in enumerate(shown):
        row, column = (place * figures.TILE_PX for place in divmod(number, N_COLUMNS))
        canvas[row : row + figures.TILE_PX, column : column + figures.TILE_PX] = tile
    sheet.imshow(canvas)
    sheet.set_title(f"Middle frames of {len(shown)} clips, every third with its landmarks")
    grid = right.subplots(2, 3)
    for axes in grid.flat:
        axes.axis("off")
    for axes, face in zip(grid.flat[: N_FACES - 1], faces, strict=False):
        axes.imshow(face.picture, interpolation="bicubic")
        sharp = "" if face.sharpness is None else f", eyes {face.sharpness:.0%}"
        axes.set_title(f"mean of {face.name}: {face.n_clips}{sharp}", fontsize=7.5)
    figures.draw_scatter(grid[1, 1], faces[0], looks)
    grid[1, 1].set_title("landmarks of all", fontsize=7.5)
    bars = grid[1, 2]
    bars.axis("on")
    speakers = dict(list(by_size(found.numbers["speakers"]).items())[:N_BARS])
    figures.draw_minutes(bars, speakers, list(found.numbers["splits"]))


def _sound(part: SubFigure | Figure, found: Stats) -> None:
    """The lag curve, and a few clips' mouth opening over their waveform."""
    grid = part.subplots(1, N_TRACES + 1)
    for axes in grid:
        axes.axis("off")
    if found.curve is not None:
        grid[0].axis("on")
        figures.draw_lag(grid[0], found.curve)
        grid[0].set_title(grid[0].get_title(loc="left").replace(": ", "\n"))
    for axes, look in zip(grid[1:], figures.traced(found.sample.looks, N_TRACES), strict=False):
        axes.axis("on")
        figures.draw_trace(axes, look)
