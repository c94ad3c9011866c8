"""The figures on the page of `dheads eval`, each drawn on axes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dheads_cli.run.eval_curves import Curve
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH, OTHER_REAL, SHUFFLED
from dheads_cli.run.page_parts import BLUE, GRAY, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {GENERATED: ORANGE, SHUFFLED: GRAY, OTHER_REAL: "#8a63b5", GROUND_TRUTH: BLUE}
MOST_DOTS = 80  # clips of one row; more become a box


def draw_distribution(axes: Axes, name: str, rows: Mapping[str, Sequence[float]]) -> None:
    """Each row's clips on a line of their own; a bar at the mean. Infinite values are counted in the label.

    Args:
        axes: to draw on.
        name: of the value.
        rows: row of the table -> values of its clips.
    """
    labels = []
    for place, (row, values) in enumerate(rows.items()):
        known = np.array([value for value in values if np.isfinite(value)])
        labels.append(row if len(known) == len(values) else f"{row} ({len(values) - len(known)} infinite)")
        if not len(known):
            continue
        if len(known) > MOST_DOTS:
            axes.boxplot(
                known, positions=[place], orientation="horizontal", widths=0.5, showfliers=True, manage_ticks=False,
                medianprops={"color": COLOURS[row]}, boxprops={"color": COLOURS[row]},
                whiskerprops={"color": COLOURS[row]}, capprops={"color": COLOURS[row]},
                flierprops={"marker": ".", "markersize": 2, "markeredgecolor": COLOURS[row]},
            )  # fmt: skip
        else:
            jitter = np.random.default_rng(0).uniform(-0.22, 0.22, len(known))
            axes.plot(known, place + jitter, ".", color=COLOURS[row], markersize=6, alpha=0.75, markeredgewidth=0)
        axes.plot([known.mean()] * 2, [place - 0.36, place + 0.36], color=INK, linewidth=1.3)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(textwrap.fill(name, 40))


def draw_curve(axes: Axes, measure: str, rows: Mapping[str, Curve]) -> None:
    """Means over clips along the seconds, with their 95 % bands."""
    for row, curve in rows.items():
        axes.plot(curve.times, curve.means, color=COLOURS[row], linewidth=1.4, label=f"{row}, {curve.n_clips} clips")
        low, high = curve.means - curve.halves, curve.means + curve.halves
        axes.fill_between(curve.times, low, high, color=COLOURS[row], alpha=0.18, linewidth=0)
    axes.set_xlabel("s")
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    means = np.concatenate([curve.means for curve in rows.values()])
    room = max(float(np.ptp(means)), 0.1 * float(np.abs(means).max()))  # bands of two or three clips are wide
    bottom, top = axes.get_ylim()
    least, most = float(means.min()), float(means.max())
    axes.set_ylim(max(bottom, least - room, 0.0 if least >= 0 else bottom), min(top, most + room) or 1)
    axes.set_title(textwrap.fill(measure, 48))
    axes.legend(fontsize=6.5, frameon=False, labelcolor=INK)
