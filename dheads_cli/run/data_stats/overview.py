"""The picture of `dheads data stats`: the whole corpus on one sheet."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dheads_cli.run.data_stats import figures
from dheads_cli.run.data_stats.table import SAID, by_size, facts
from dheads_cli.run.page_parts import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from dheads_cli.run.data_stats.stats import Stats

WIDTH_IN, DPI = 15.0, 120
N_COLUMNS, N_ROWS = 8, 4  # of the contact sheet
N_FACES, N_TRACES, N_BARS = 7, 3, 10
PLOTS_A_ROW = 5
COLOURS = {"good": "#2c8a57", "look": "#b57600", "bad": "#c73a2d", "unknown": "#7a838c"}


def draw_overview(found: Stats) -> bytes:
    """Checks, faces, mean faces, traces, lag and histograms as one PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    measures = {name: told for name, told in found.numbers["measures"].items() if told["n"]}
    n_plot_rows = -(-(len(measures) + 1) // PLOTS_A_ROW)
    faces_in, sound_in = (4.0, 2.1) if found.sample.looks else (0.5, 0.1)
    heights = [0.55 + 0.25 * len(found.checks), faces_in, sound_in, 1.9 * n_plot_rows]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, sum(heights)), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1))
        head, faces, sound, plots = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).flat
        _head(head, found, heights[0])
        _faces(faces, found)
        _sound(sound, found)
        grid = _empty(plots, n_plot_rows, PLOTS_A_ROW)
        grid[0].axis("on")
        speakers = dict(list(by_size(found.numbers["speakers"]).items())[:N_BARS])
        figures.draw_speakers(grid[0], speakers, list(found.numbers["splits"]))
        for axes, (name, told) in zip(grid[1:], measures.items(), strict=False):
            axes.axis("on")
            figures.draw_histogram(axes, name, told)
        png = io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _empty(part: SubFigure, n_rows: int, n_columns: int) -> list[Axes]:
    """A grid of axes that show nothing yet."""
    grid = list(part.subplots(n_rows, n_columns, squeeze=False).flat)
    for axes in grid:
        axes.axis("off")
    return grid


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
    """Contact sheet to the left, mean faces and the landmarks to the right."""
    looks, faces = found.sample.looks, found.sample.mean_faces
    left, right = part.subfigures(1, 2, squeeze=False, width_ratios=(1.06, 1)).flat
    (sheet,) = _empty(left, 1, 1)
    if not looks:
        sheet.text(0.5, 0.5, "no clip was decoded", ha="center")
        return
    shown = figures.tiles(looks, N_COLUMNS * N_ROWS)
    canvas = np.full((N_ROWS * figures.TILE_PX, N_COLUMNS * figures.TILE_PX, 3), 255, np.uint8)
    for number, (_, tile) in enumerate(shown):
        row, column = (place * figures.TILE_PX for place in divmod(number, N_COLUMNS))
        canvas[row : row + figures.TILE_PX, column : column + figures.TILE_PX] = tile
    sheet.imshow(canvas)
    sheet.set_title(f"Middle frames of {len(shown)} clips, every third with its landmarks")
    grid = _empty(right, 2, 4)
    for axes, face in zip(grid[:N_FACES], faces, strict=False):
        axes.imshow(face.picture, interpolation="bicubic")
        sharp = "" if face.sharpness is None else f", eyes {face.sharpness:.0%}"
        axes.set_title(f"mean of {face.name}\n{face.n_clips} clips{sharp}")
    figures.draw_scatter(grid[-1], faces[0], looks)
    grid[-1].set_title("landmarks of\nall these clips")


def _sound(part: SubFigure, found: Stats) -> None:
    """The lag curve, and a few clips' mouth opening over their waveform."""
    if not found.sample.looks:
        return
    lag, *traces = _empty(part, 1, N_TRACES + 1)
    if found.curve is not None:
        lag.axis("on")
        figures.draw_lag(lag, found.curve)
    for axes, look in zip(traces, figures.traced(found.sample.looks, N_TRACES), strict=False):
        axes.axis("on")
        figures.draw_trace(axes, look)
