"""What `dheads eval` tells: the table on the terminal, eval.json and eval.csv in the samples folder."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dheads_cli import console, registry
from dheads_cli.data.samples import read_settings
from dheads_cli.files import write_atomically
from dheads_cli.recipe_section import Component
from dheads_cli.run.page_parts import count

GENERATED, SHUFFLED, OTHER_REAL, GROUND_TRUTH = "generated", "shuffled audio", "another real clip", "ground truth"
ROWS = (GENERATED, SHUFFLED, OTHER_REAL, GROUND_TRUTH)
INTERVAL = ", 95 %"  # a row of intervals is called as its row of values and this
NO_SPEAKER = "(in no folder)"  # videos by any tool whose speaker would be the folder they lie in
COLUMNS_AT_ONCE = 7  # values beside each other in one table: more don't fit in 80 characters
N_RESAMPLES = 2000  # of the bootstrap
PACKAGES = ("dheads", "torch", "torchmetrics", "numpy", "opencv-python", "mediapipe")


@dataclass(frozen=True)
class Scores:
    """What the metrics say.

    Attributes:
        totals: row of the table -> name of a value -> value over the row's clips.
        clips: for each clip its row, its facts, and "values": its own values and remarks (texts) by name.
    """

    totals: Mapping[str, Mapping[str, float]]
    clips: Sequence[Mapping[str, Any]]


def make_report(
    folder: Path,
    scores: Scores,
    metrics: Sequence[Component],
    weights: Mapping[str, str],
    detector: Component,
    detector_weights: str,
    *,
    missing: Mapping[str, str] | None = None,
    reference: Path | None = None,
) -> dict[str, Any]:
    """All of it for eval.json; values that JSON has no number for (infinite, undefined) are None.

    Args:
        folder: the samples.
        scores: of the clips in it.
        metrics: as asked for.
        weights: network and weights of each metric, by name.
        detector: of landmarks.
        detector_weights: its network and weights, "" where it doesn't say.
        missing: metrics that were wanted and can't be built -> why.
        reference: folder of the real clips, None where the samples point at theirs.
    """
    rows: dict[str, dict[str, Any]] = {}
    for row, values in scores.totals.items():
        clips = [clip for clip in scores.clips if clip["row"] == row]
        rows[row] = {"n_clips": len(clips), "values": values, "intervals": intervals(clips, values)}
        rows[row]["speakers"] = by_speaker(clips)
    report: dict[str, Any] = _finite({
        "samples": str(folder),
        "reference": None if reference is None else str(reference),
        "sample": read_settings(folder),
        "metrics": [_described("metrics", metric) | {"weights": weights[metric.use]} for metric in metrics],
        "metrics_missing": dict(missing or {}),
        "detector": _described("landmark_detectors", detector) | {"weights": detector_weights},
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "rows": rows,
        "clips": scores.clips,
    })  # fmt: skip
    return report


def intervals(clips: Sequence[Mapping[str, Any]], totals: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """95 % intervals of those values that are means over clips, by name: percentile bootstrap (Efron 1979) over clips.

    The clips are drawn anew, with replacement, N_RESAMPLES times from a fixed seed. Values that are no clip's mean (a
    lowest, a median, a distance of sets) have none, and a single clip has none.
    """
    found = {}
    for name, total in totals.items():
        values = np.array([clip["values"][name] for clip in clips if name in clip["values"]], dtype=np.float64)
        if len(values) < 2 or not np.isfinite(values).all() or not math.isclose(values.mean(), total, rel_tol=1e-9):
            continue
        drawn = np.random.default_rng(0).integers(0, len(values), (N_RESAMPLES, len(values)))
        low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
        found[name] = (float(low), float(high))
    return found


def by_speaker(clips: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Means of the clips' own values, and the number of clips, for each speaker."""
    means: dict[str, dict[str, float]] = {}
    for speaker in sorted({clip["speaker"] for clip in clips}):
        values = [_numbers(clip["values"]) for clip in clips if clip["speaker"] == speaker]
        names = dict.fromkeys(name for of_clip in values for name in of_clip)
        means[speaker] = {"n_clips": len(values)} | {
            name: float(np.mean([of_clip[name] for of_clip in values if name in of_clip])) for name in names
        }
    return means


def write_files(folder: Path, report: Mapping[str, Any], scores: Scores, csv_file: Path | None = None) -> None:
    """Write eval.json, and eval.csv with a line for each clip, into the samples folder; the CSV also where wanted."""
    write_atomically(folder / "eval.json", json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    flat = [{name: value for name, value in clip.items() if name != "values"} | clip["values"] for clip in scores.clips]
    columns = list(dict.fromkeys(name for line in flat for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    for path in (folder / "eval.csv", *([csv_file] if csv_file else [])):
        write_atomically(path, text.getvalue())


def show(report: Mapping[str, Any], scores: Scores, files: Sequence[Path] = ()) -> None:
    """Print the rows with the intervals of means, then the generated clips' speakers where there are several,
    then what the values depend on.

    `files` were written beside eval.json and eval.csv.
    """
    rows: dict[str, Mapping[str, float | tuple[float, float]]] = {}
    for row, values in scores.totals.items():
        rows[row] = values
        of_row = intervals([clip for clip in scores.clips if clip["row"] == row], values)
        rows |= {row + INTERVAL: of_row} if of_row else {}
    _table(f"Scores of {report['samples']}", rows)
    speakers = by_speaker([clip for clip in scores.clips if clip["row"] == GENERATED])
    if len(speakers) > 1:
        named = {speaker or NO_SPEAKER: values for speaker, values in speakers.items()}
        _table("Generated clips by speaker, means over clips", named)
    written = ", ".join(["eval.json, eval.csv in the samples folder", *map(str, files)])
    console.table("", ["what", "used"], [*used(report, scores), ["files", written]])


def _table(title: str, rows: Mapping[str, Mapping[str, float | tuple[float, float]]]) -> None:
    """Rows of values; many columns go into several tables below each other."""
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    n_tables = max(1, -(-len(names) // COLUMNS_AT_ONCE))
    for index in range(n_tables):
        shown = names[index * len(names) // n_tables : (index + 1) * len(names) // n_tables]
        cells = [
            [row, *(cell(values.get(name)) for name in shown)]
            for row, values in rows.items()
            if not row.endswith(INTERVAL) or any(name in values for name in shown)
        ]
        console.table("" if index else title, ["", *shown], cells)


def cell(value: float | tuple[float, float] | None) -> str:
    if isinstance(value, tuple):
        return " .. ".join(map(cell, value))
    if value is None or math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) or math.isinf(value) else f"{value:.{3 if abs(value) < 10 else 2}f}"


def used(report: Mapping[str, Any], scores: Scores) -> list[list[str]]:
    """What the values depend on, and what to know when reading them."""
    used = [[row, count(values["n_clips"], "clip")] for row, values in report["rows"].items()]
    made_by = ", ".join(f"{name} {value}" for name, value in report["sample"].items() if isinstance(value, str | int))
    used += [["samples", made_by]] if made_by else []
    used += [["reference", f"{report['reference']}, by name"]] if report["reference"] else []
    used += [["landmarks", in_words(report["detector"])]]
    used += [[f"metric {metric['use']}", in_words(metric)] for metric in report["metrics"] if metric["weights"]]
    said = [(clip["row"], value) for clip in scores.clips for value in clip["values"].values()]
    remarks = Counter((row, value) for row, value in said if isinstance(value, str))
    for remark in dict.fromkeys(text for _, text in remarks):
        rows = ", ".join(f"{row} {count(n, 'clip')}" for row in ROWS if (n := remarks[row, remark]))
        used += [["remark", f"{rows}: {remark}"]]
    changed = Counter(clip["changed"] for clip in scores.clips if clip.get("changed"))
    used += [["changed", f"{count(n, 'clip')}: {text}"] for text, n in changed.items()]
    if "paper" not in report:  # which tells it beside its columns
        used += [[f"no {name}", why] for name, why in report["metrics_missing"].items()]
    if GENERATED in scores.totals and SHUFFLED not in scores.totals and not report["reference"]:
        used += [["no floor", "no clips with shuffled audio: make them with `dheads sample RUN --shuffled`"]]
    if any(values["intervals"] for values in report["rows"].values()):
        used += [["95 %", f"of a mean over clips: {N_RESAMPLES} bootstrap draws of the clips"]]
    return used


def in_words(component: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name} {value}" for name, value in component["options"].items())
    name = f"{component['use']}{f' ({options})' if options else ''} of {component['package']} {component['version']}"
    return f"{name}: {component['weights']}" if component["weights"] else name


def _described(kind: str, component: Component) -> dict[str, Any]:
    entry = registry.find(kind, component.use)
    return {
        "use": component.use, "options": component.options, "package": entry.package, "version": entry.version
    }  # fmt: skip


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not isinstance(value, str)}


def _finite(value: Any) -> Any:
    """Plain JSON values; None for a number that JSON doesn't have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
