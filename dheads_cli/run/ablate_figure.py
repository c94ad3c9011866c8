"""The paper's motion-frame figure: consecutive frames of each model, and how much they move."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.media import read_video
from dheads_cli.data.samples import read_samples
from dheads_cli.data.shards import Corpus
from dheads_cli.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dheads_cli.protocols import Frames

FIGURE = "motion-frames.png"
REAL = "real clip"
N_SHOWN = 10  # consecutive frames in a row
FLOW_SIZE = 128  # px that flow is measured at, as the paper's metrics are
WIDTH_IN, DPI = 7.2, 200
LEGEND_COLUMNS = 2


@dataclass(frozen=True)
class Strip:
    """One clip of the figure.

    Attributes:
        label: what made it.
        clip_id: the real clip it stands for.
        frames: uint8 RGB [F, H, W, 3].
        fps: frames a second.
        flow_px: mean optical-flow magnitude from each frame to the next [F - 1], px a frame at 128 px.
    """

    label: str
    clip_id: str
    frames: Frames
    fps: float
    flow_px: NDArray[np.float64]


def flow_magnitude(frames: Frames) -> NDArray[np.float64]:
    """Mean magnitude of Farneback's optical flow from each frame to the next, px a frame at 128 px.

    Args:
        frames: uint8 RGB [F, H, W, 3]; scaled to 128 x 128 px first.

    Returns:
        [F - 1].
    """
    gray = [
        cv2.cvtColor(cv2.resize(frame, (FLOW_SIZE, FLOW_SIZE), interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY)
        for frame in frames
    ]
    magnitudes = []
    for before, after in itertools.pairwise(gray):
        start = np.zeros((FLOW_SIZE, FLOW_SIZE, 2), np.float32)
        flow = cv2.calcOpticalFlowFarneback(before, after, start, 0.5, 7, 5, 15, 5, 1.2, 0)
        magnitudes.append(float(np.linalg.norm(flow, axis=-1).mean()))
    return np.array(magnitudes)


def read_strips(samples: Mapping[str, Path]) -> list[Strip]:
    """The real clip and every model's for the same face and sound: the first one that all models made.

    Args:
        samples: label -> samples folder.

    Returns:
        The real clip's strip first; empty where the models have no clip in common.
    """
    synced = {
        label: {(row.corpus, row.clip_id): folder / row.file for row in read_samples(folder) if row.kind == "synced"}
        for label, folder in samples.items()
    }
    common = sorted(set.intersection(*(set(files) for files in synced.values())))
    if not common:
        return []
    corpus, clip_id = common[0]
    opened = Corpus(corpus)
    real = opened.load(opened.clip(clip_id))
    strips = [Strip(REAL, clip_id, real.frames, real.fps, flow_magnitude(real.frames))]
    for label, files in synced.items():
        frames = read_video(files[corpus, clip_id], real.fps).frames
        strips.append(Strip(label, clip_id, frames, real.fps, flow_magnitude(frames)))
    return strips


def liveliest(flow_px: NDArray[np.float64], n_frames: int) -> int:
    """First of the n_frames consecutive frames between which there is most motion."""
    n_steps = min(n_frames - 1, len(flow_px))
    sums = np.convolve(flow_px, np.ones(n_steps), mode="valid")
    return int(sums.argmax())


def draw_figure(strips: Sequence[Strip], path: Path) -> None:
    """Draw rows of consecutive frames, from where the first strip moves most, above the flow over time, as PNG."""
    from matplotlib.figure import Figure

    n_shown = min(N_SHOWN, *(len(strip.frames) for strip in strips))
    begin = min(liveliest(strips[0].flow_px, n_shown), min(len(strip.frames) for strip in strips) - n_shown)
    label_in, plot_in = 1.15, 2.1
    row_in = (WIDTH_IN - label_in) / n_shown
    height_in = row_in * len(strips) + plot_in + 0.55
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI)
    for number, strip in enumerate(strips):
        bottom = 1 - (number + 1) * row_in / height_in
        axes = figure.add_axes((label_in / WIDTH_IN, bottom, 1 - label_in / WIDTH_IN, row_in / height_in))
        axes.imshow(np.concatenate(list(strip.frames[begin : begin + n_shown]), axis=1), interpolation="lanczos")
        axes.axis("off")
        middle = bottom + row_in / height_in / 2
        figure.text(0.006, middle, strip.label.replace(", ", "\n"), va="center", fontsize=7.5, linespacing=1.25)
    plot = figure.add_axes((0.075, 0.42 / height_in, 0.905, plot_in / height_in))
    _plot_flow(plot, strips, begin, n_shown)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, png.getvalue())


def _plot_flow(axes: Axes, strips: Sequence[Strip], begin: int, n_shown: int) -> None:
    """Flow of every strip over time, the real clip's in black; the time of the frames shown is shaded."""
    fps = strips[0].fps
    axes.axvspan(begin / fps, (begin + n_shown - 1) / fps, color="0.93", zorder=0, linewidth=0)
    for strip in strips:
        seconds = (np.arange(len(strip.flow_px)) + 0.5) / fps
        style = {"color": "black", "linewidth": 1.4} if strip.label == REAL else {"linewidth": 1.1}
        axes.plot(seconds, strip.flow_px, label=f"{strip.label}: mean {strip.flow_px.mean():.2f}", **style)
    axes.set_xlim(0, max(len(strip.frames) for strip in strips) / fps)
    legend_rows = -(-len(strips) // LEGEND_COLUMNS)
    highest = max(float(strip.flow_px.max()) for strip in strips)
    axes.set_ylim(0, max(highest, 0.01) * (1.06 + 0.1 * legend_rows))  # room for the legend above the curves
    axes.set_xlabel("time [s]", fontsize=7.5, labelpad=1)
    axes.set_ylabel("mean flow [px/frame]", fontsize=7.5)
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=6.5, frameon=False, ncols=LEGEND_COLUMNS, loc="upper right")
