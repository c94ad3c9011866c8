"""The paper's table of metrics, with its numbers beside ours: `dheads eval --metrics paper`; and `--metrics all`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dheads_cli import console, downloads, registry
from dheads_cli.errors import DheadsError
from dheads_cli.recipe_section import Component


@dataclass(frozen=True)
class Column:
    """A column of the paper's table.

    Attributes:
        head: as it is shown; short, so that the table fits a terminal.
        metric: the component that measures it.
        value: that component's value for it; its unit, in brackets at the end, may be left out.
        places: decimal places, those of the paper.
    """

    head: str
    metric: str
    value: str
    places: int = 2


# In the paper's order. OFM and F-MSE are the authors' scripts' (METRICS.md): only these compare with its numbers.
COLUMNS = (
    Column("FVD", "fvd", "FVD"),
    Column("FID", "fid", "FID"),
    Column("blinks/s", "blinks", "blinks [1/s]"),
    Column("blink s", "blinks", "blink duration [s]"),
    Column("OFM", "smoothness", "OFM as released"),
    Column("F-MSE", "smoothness", "F-MSE as released"),
    Column("offset", "sync", "AV offset", 0),
    Column("conf.", "sync", "AV confidence"),
    Column("WER", "wer", "WER"),
)
# Diffused Heads (arXiv 2301.03396 v2): corpus -> method -> the columns above; None where the paper has "-".
PAPER: Mapping[str, Mapping[str, tuple[float | None, ...]]] = {
    "LRW": {
        "SDA": (198.84, 61.95, 0.52, 0.28, 73.82, 18.94, 1, 7.40, 0.77),
        "MakeItTalk": (269.29, 7.57, 0.09, 0.28, 57.21, 3.44, -3, 3.16, 0.99),
        "Wav2Lip": (366.14, 2.83, 0.03, 0.16, 47.12, 1.45, -2, 6.58, 0.51),
        "PC-AVS": (153.12, 11.96, 0.20, 0.16, 69.59, 17.13, -3, 6.24, 0.64),
        "EAMM": (172.18, 9.28, 0.03, 0.16, 58.46, 4.39, -3, 3.83, 0.95),
        "Diffused Heads": (71.88, 3.94, 0.35, 0.28, 70.71, 19.69, -2, 4.61, 0.77),
        "ground truth": (None, None, 0.53, 0.28, 72.02, 27.34, -2, 5.83, None),
    },
    "CREMA-D": {
        "SDA": (376.48, 79.82, 0.25, 0.26, 68.21, 6.83, 2, 5.50, None),
        "MakeItTalk": (256.88, 17.26, 0.02, 0.80, 62.36, 2.07, -3, 3.75, None),
        "Wav2Lip": (193.32, 12.57, 0, None, 46.87, 1.07, -2, 6.68, None),
        "PC-AVS": (333.94, 22.53, 0.02, 0.20, 70.36, 6.93, -3, 6.17, None),
        "EAMM": (196.82, 19.40, 0, None, 58.91, 1.65, -2, 4.26, None),
        "Diffused Heads": (88.61, 12.45, 0.28, 0.36, 64.30, 6.99, 1, 4.52, None),
        "ground truth": (None, None, 0.24, 0.40, 68.76, 7.76, 1, 5.14, None),
    },
}
# Set distances over a network that can't be had here -> one over a network that installs with a package.
STAND_INS = {"fid": "frechet", "fvd": "frechet"}
STAND_IN_IS = "a distance over another network's view of single frames; it is no"
# Metrics that measure with a network of their own where the paper's is not here -> what takes the paper's.
AS_IN_THE_PAPER = {"sync": Component(use="sync", network="syncnet")}
NEEDS_READER = (
    "the lip-reader would have to be one whose values compare with published ones, and none ships: one of another "
    "package is taken by `--metrics '{use: wer, reader: NAME}'` (docs/METRICS.md)"
)
CAUTION = "the paper's numbers are of its own corpora, crops and clip lengths: only like compares with like"


@dataclass(frozen=True)
class Choice:
    """The metrics that a word stands for.

    Attributes:
        metrics: those that can be built here.
        missing: the others -> why they can't.
    """

    metrics: list[Component]
    missing: dict[str, str]


def all_metrics(weights: Mapping[str, str] = MappingProxyType({})) -> Choice:
    """Every metric of every installed package. `weights`: files of networks by metric."""
    return _buildable(list(registry.entries("metrics")), weights)


def paper_metrics(weights: Mapping[str, str] = MappingProxyType({})) -> Choice:
    """The metrics of the paper's columns, and what stands in for those that can't be built. `weights` as above."""
    return _buildable(list(dict.fromkeys(column.metric for column in COLUMNS)), weights)


def _buildable(names: Sequence[str], weights: Mapping[str, str]) -> Choice:
    wanted = with_weights([Component(use=name) for name in names], weights)
    choice = Choice([], {})
    for metric in wanted:
        if why := hindrance_of(metric):
            choice.missing[metric.use] = why
        else:
            choice.metrics.append(metric)
    for name in [name for name in choice.missing if name in STAND_INS]:
        stand_in = Component(use=STAND_INS[name])
        if stand_in not in choice.metrics:
            if why := hindrance_of(stand_in):
                choice.missing[name] += f". {stand_in.use} could stand in, but {why}"
                continue
            choice.metrics.append(stand_in)
        choice.missing[name] += f". In its place: {stand_in.use}, {STAND_IN_IS} {name}"
    return choice


def hindrance_of(metric: Component) -> str:
    """Why a metric can't be built; "" where it can."""
    if metric.use not in registry.entries("metrics"):
        return f"no metric called {metric.use} is installed"
    try:
        registry.build("metrics", metric.use, metric.options)
    except DheadsError as error:
        return str(error)
    return ""


def with_weights(metrics: Sequence[Component], weights: Mapping[str, str]) -> list[Component]:
    """Metrics with the files of networks that --weights names as their option `weights`.

    Raises:
        DheadsError: a file for a metric that is not among them, or that takes none.
    """
    names = [metric.use for metric in metrics]
    for name, file in weights.items():
        if name not in names:
            near, asked = registry.nearest(name, names), ", ".join(names)
            raise DheadsError(f"--weights {name}={file}: no metric {name} is asked for{near} Metrics: {asked}.")
        if wrong := registry.option_errors("metrics", name, {"weights": file}):
            raise DheadsError(f"--weights {name}={file}: {next(iter(wrong.values()))}")
    return [
        Component(use=metric.use, **metric.options | {"weights": weights[metric.use]})
        if metric.use in weights
        else metric
        for metric in metrics
    ]


def paper_table(
    rows: Mapping[str, Mapping[str, float]], missing: Mapping[str, str], weights: Mapping[str, str]
) -> dict[str, Any]:
    """The table as plain values.

    Args:
        rows: of `dheads eval` -> name of a value -> value.
        missing: metrics that can't be built -> why.
        weights: metrics that measured -> their network and weights, "" without: `sync` may have another network than
            the paper's.

    Returns:
        "columns": their heads; "ours": row -> values, None where there is none; "paper": corpus -> method -> values;
        "not_measured": head -> why nobody measured it.
    """
    ours = {row: [_value(values, column) for column in COLUMNS] for row, values in rows.items()}
    not_measured = {}
    for place, column in enumerate(COLUMNS):
        if all(values[place] is None for values in ours.values()):
            not_measured[column.head] = missing.get(column.metric) or _no_value(column, weights.get(column.metric, ""))
    return {
        "columns": [column.head for column in COLUMNS],
        "ours": ours,
        "paper": {corpus: {method: list(row) for method, row in table.items()} for corpus, table in PAPER.items()},
        "not_measured": not_measured,
    }


def _no_value(column: Column, network: str) -> str:
    """Why a metric that measured gave a column no value, and what to do."""
    said = f"metric {column.metric} gave no value {column.value!r}" + (f"; it looked with {network}" if network else "")
    if column.metric in AS_IN_THE_PAPER:
        with downloads.none():
            hindrance = hindrance_of(AS_IN_THE_PAPER[column.metric])
        return f"{said}. The paper's network is another: {hindrance}" if hindrance else said
    if column.metric == "wer":
        return f"{said}: {NEEDS_READER}"
    return said


def _value(values: Mapping[str, float], column: Column) -> float | None:
    """A row's value for a column."""
    return next((value for name, value in values.items() if column.value in (name, name.partition(" [")[0])), None)


def paper_cells(table: Mapping[str, Any], corpus: str) -> list[list[str]]:
    """Our rows, then the paper's on a corpus, as they are shown."""
    ours = [[row, *_shown(values)] for row, values in table["ours"].items()]
    return ours + [[f"paper: {method}", *_shown(values)] for method, values in table["paper"][corpus].items()]


def _shown(values: list[float | None]) -> list[str]:
    return [
        "-" if value is None else f"{value:.{column.places}f}" for value, column in zip(values, COLUMNS, strict=True)
    ]


def show_paper(table: Mapping[str, Any]) -> None:
    """Print our rows beside the paper's, a table for each of its corpora."""
    for corpus in table["paper"]:
        console.table(f"Beside the paper's {corpus}", ["", *table["columns"]], paper_cells(table, corpus))
    for head, why in table["not_measured"].items():
        console.text(f"{head} is not measured: {why}")
    console.text(CAUTION)
