"""What `dheads ablate` tells: the paper's ablation table beside ours, as a table, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dheads_cli import console, registry
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_model import Model
from dheads_cli.recipe_section import Component
from dheads_cli.run.ablate_figure import FIGURE, REAL, Strip
from dheads_cli.run.eval_report import GENERATED

# Columns of the paper's ablation, with the format it prints them in. A metric component has its column's name.
COLUMNS = {"CPBD": ".4f", "MSE": ".0f", "SSIM": ".4f", "PSNR": ".2f", "LMD": ".3f", "WER": ".2f"}

# Diffused Heads (arXiv 2301.03396), ablation on LRW: (m_y, gray motion frames) -> the columns above; m_x = 2, AdaGN.
PAPER = {
    (0, False): (0.0857, 1194, 0.5767, 18.29, 3.028, 0.93),
    (0, True): (0.0858, 1148, 0.5890, 18.50, 2.847, 0.93),
    (1, False): (0.0872, 1228, 0.5782, 18.23, 2.879, 0.80),
    (1, True): (0.0856, 1131, 0.5996, 18.66, 2.671, 0.81),
    (2, False): (0.0831, 1275, 0.5658, 17.99, 3.021, 0.72),
    (2, True): (0.0925, 1025, 0.6225, 19.11, 2.530, 0.77),
    (3, False): (0.0882, 1266, 0.5678, 17.99, 2.925, 0.74),
    (3, True): (0.0882, 1184, 0.5851, 18.44, 2.759, 0.75),
}
PAPER_CONDITIONING, PAPER_MOTION_FRAMES, PAPER_CONTEXT = "adagn", 2, 2
# What the paper says of m_x, in words only.
PAPER_ON_MOTION_FRAMES = {0: "random faces", 2: "chosen", 3: "fails"}


@dataclass(frozen=True)
class Row:
    """One recipe of an ablation.

    Attributes:
        ref: as it was asked for.
        recipe: resolved.
        samples: folder of its clips, None where they could not be made.
        scores: row of `dheads eval` -> name of a value -> value; "n_clips" among them.
        error: why it failed, "" where it did not.
    """

    ref: str
    recipe: Recipe
    samples: Path | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    error: str = ""


def labels_of(rows: Sequence[Row]) -> list[str]:
    """What each recipe stands for, from its settings; with its name where another stands for the same."""
    labels = [label_of(row.recipe.model) for row in rows]
    return [
        f"{label} ({row.recipe.name})" if labels.count(label) > 1 else label
        for label, row in zip(labels, rows, strict=True)
    ]


def label_of(model: Model) -> str:
    """The settings that the paper varies, in words."""
    words = [f"m_x {model.n_motion_frames}", f"m_y {model.audio_context}"]
    words += ["gray"] if model.grayscale_motion and model.n_motion_frames else []
    words += [model.conditioning.use] if model.conditioning.use != PAPER_CONDITIONING else []
    return ", ".join(words)


def paper_values(model: Model) -> dict[str, float]:
    """The row of the paper's table that a model's settings stand for; empty where it has none."""
    if model.n_motion_frames != PAPER_MOTION_FRAMES or model.conditioning.use != PAPER_CONDITIONING:
        return {}
    values = PAPER.get((model.audio_context, model.grayscale_motion), ())
    return dict(zip(COLUMNS, values, strict=False))


def paper_remark(model: Model) -> str:
    """What the paper says of a model without a number."""
    chosen = model.audio_context == PAPER_CONTEXT and model.grayscale_motion
    as_paper = model.conditioning.use == PAPER_CONDITIONING and (chosen or not model.n_motion_frames)
    return PAPER_ON_MOTION_FRAMES.get(model.n_motion_frames, "") if as_paper else ""


def paper_metrics() -> tuple[list[Component], dict[str, str]]:
    """The metrics of the paper's columns that can be measured here, and why the others can't, by column."""
    metrics, missing = [], {}
    for column in COLUMNS:
        name = column.lower()
        if name not in registry.entries("metrics"):
            missing[column] = f"no metric called {name} is installed"
            continue
        try:
            registry.build("metrics", name)
        except DheadsError as error:
            missing[column] = str(error)
        else:
            metrics.append(Component(use=name))
    return metrics, missing


def make_report(rows: Sequence[Row], strips: Sequence[Strip], missing: Mapping[str, str]) -> dict[str, Any]:
    """All of it for ablation.json.

    Args:
        rows: the recipes.
        strips: of the figure; their label is the row's.
        missing: columns that can't be measured -> why.
    """
    flow = {strip.label: float(np.mean(strip.flow_px)) for strip in strips}
    return {
        "columns": list(COLUMNS),
        "not_measured": dict(missing),
        "figure": FIGURE if strips else None,
        "figure_clip": strips[0].clip_id if strips else None,
        "flow_of_the_real_clip": flow.get(REAL),
        "recipes": [_record(row, label, flow) for row, label in zip(rows, labels_of(rows), strict=True)],
    }


def _record(row: Row, label: str, flow: Mapping[str, float]) -> dict[str, Any]:
    model = row.recipe.model
    return {
        "recipe": row.ref,
        "label": label,
        "error": row.error or None,
        "name": row.recipe.name,
        "n_motion_frames": model.n_motion_frames,
        "audio_context": model.audio_context,
        "grayscale_motion": model.grayscale_motion,
        "conditioning": model.conditioning.model_dump(),
        "size": model.size,
        "steps": row.recipe.train.steps,
        "data": ", ".join(map(str, row.recipe.data.paths)),
        "samples": None if row.samples is None else str(row.samples),
        "paper": paper_values(model),
        "paper_says": paper_remark(model) or None,
        "ours": _in_columns(row.scores.get(GENERATED, {})),
        "flow_px": flow.get(label),
        "scores": row.scores,
    }


def _in_columns(values: Mapping[str, float | None]) -> dict[str, float]:
    """The values that are named as the paper's columns, whatever their unit: "PSNR [dB]" is PSNR."""
    named = {name.split(" [")[0]: value for name, value in values.items()}
    return {column: value for column in COLUMNS if (value := named.get(column)) is not None}


def table_of(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows of text: ours, with the paper's in brackets behind it."""
    heads = ["", *COLUMNS, "flow [px]", "the paper says"]
    rows = []
    for record in report["recipes"]:
        if record["error"]:
            rows.append([record["label"], *["-"] * (len(COLUMNS) + 1), "failed"])
            continue
        cells = [_cell(record["ours"].get(name), record["paper"].get(name), COLUMNS[name]) for name in COLUMNS]
        rows.append([record["label"], *cells, _cell(record["flow_px"], None, ".2f"), record["paper_says"] or ""])
    if (real := report["flow_of_the_real_clip"]) is not None:
        rows.append([REAL, *["-"] * len(COLUMNS), _cell(real, None, ".2f"), ""])
    return heads, rows


def _cell(ours: float | None, paper: float | None, form: str) -> str:
    text = "-" if ours is None else format(ours, form)
    return text if paper is None else f"{text} ({paper:{form}})"


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """What to know when reading the table."""
    done = [record for record in report["recipes"] if not record["error"]]
    notes = ["ours, the paper's in brackets (LRW, 128 px)"]
    for size, steps, data in dict.fromkeys((each["size"], each["steps"], each["data"]) for each in done):
        same = [each for each in done if (each["size"], each["steps"], each["data"]) == (size, steps, data)]
        n_clips = sorted({each["scores"][GENERATED]["n_clips"] for each in same})
        clips = " or ".join(map(str, n_clips))
        which = "ours" if len(same) == len(done) else ", ".join(each["label"] for each in same)
        notes.append(f"{which}: {size} px, {steps} steps, {clips} clips of {data}; LMD in px of that size")
    if report["figure_clip"]:
        notes.append(f"flow: mean optical-flow magnitude in the clip {report['figure_clip']}, px a frame at 128 px")
    notes += [f"{column} is not measured: {why}" for column, why in report["not_measured"].items()]
    return notes


def show(out: Path, report: Mapping[str, Any]) -> None:
    """Print the table with its notes and the files."""
    files = ["ablation.json", "ablation.md", *([report["figure"]] if report["figure"] else [])]
    heads, rows = table_of(report)
    console.table("Ablation", heads, rows, footer="\n".join([*notes_of(report), f"{', '.join(files)} in {out}"]))


def write_files(out: Path, report: Mapping[str, Any]) -> None:
    """Write ablation.json and ablation.md."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DheadsError(f"{out}: can't make the folder: {error.strerror}") from error
    write_atomically(out / "ablation.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    heads, rows = table_of(report)
    lines = [heads, ["---"] * len(heads), *rows]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    text += "\n" + "".join(f"- {note}\n" for note in notes_of(report))
    if report["figure"]:
        text += f"\n![consecutive frames and optical flow]({report['figure']})\n"
    write_atomically(out / "ablation.md", text)
