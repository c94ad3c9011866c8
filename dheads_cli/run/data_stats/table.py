"""What `dheads data stats` prints in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dheads_cli import console
from dheads_cli.run.data_stats.measures import in_words

if TYPE_CHECKING:
    from dheads_cli.run.data_stats.stats import Stats

N_SPEAKERS = 12  # in the terminal; the page has more, JSON has all
SAID = {"good": "good", "look": "look at it", "bad": "BAD", "unknown": "-"}


def show(found: Stats) -> None:
    """Print what there is, by split and by speaker, what was skipped, the measures, and the checks last."""
    numbers = found.numbers
    console.table(headline(numbers), ["split", "clips", "minutes", "MB", "skipped"], _rows(numbers["splits"]))
    speakers = by_size(numbers["speakers"])
    more = len(speakers) - N_SPEAKERS
    console.table(
        "By speaker",
        ["speaker", "clips", "minutes", "MB", "skipped", "splits"],
        [
            [*cells, ", ".join(speakers[cells[0]]["splits"])]
            for cells in _rows(dict(list(speakers.items())[:N_SPEAKERS]))
        ],
        f"and {more} more: see --json" if more > 0 else "",
    )
    if numbers["skipped"]:
        console.table(
            "Skipped",
            ["reason", "clips", "such as"],
            [
                [reason, str(told["clips"]), f"{told['examples'][0]['id']}: {told['examples'][0]['detail']}"]
                for reason, told in numbers["skipped"].items()
            ],
        )
    measures = {name: told for name, told in numbers["measures"].items() if told["n"]}
    console.table(
        "Measures",
        ["measure", "clips", "p1", "median", "p99", "outliers", "farthest"],
        [
            [
                in_words(name),
                str(told["n"]),
                *(number(told[mark]) for mark in ("p1", "median", "p99")),
                str(told["n_outside"]),
                ", ".join(outlier["id"] for outlier in told["outliers"][:2]),
            ]
            for name, told in measures.items()
        ],
    )
    console.table("", ["check", "", ""], [[check.name, SAID[check.state], check.text] for check in found.checks])
    console.text(f"{numbers['files']['page']}\n{numbers['files']['picture']}")


def headline(numbers: Mapping[str, Any]) -> str:
    """A corpus in a line."""
    return f"{numbers['corpus']}: {', '.join(facts(numbers))}"


def facts(numbers: Mapping[str, Any]) -> list[str]:
    """How much there is, and of which form."""
    totals = numbers["totals"]
    length = [] if totals["hours"] is None else [in_time(totals["hours"])]
    form = {"size_px": "{0} x {0} px", "fps": "{0:g} frames/s", "sample_rate_hz": "{0} Hz"}
    return [
        *length,
        f"{totals['clips']:,} clips",
        f"{totals['speakers']:,} speakers",
        f"{totals['frames']:,} frames",
        *(text.format(totals[name]) for name, text in form.items() if totals[name]),
        in_bytes(totals["bytes"]),
    ]


def by_size(speakers: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Speakers with the most clips first."""
    return dict(sorted(speakers.items(), key=lambda item: (-item[1]["clips"], item[0])))


def _rows(table: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    return [
        [name, str(row["clips"]), minutes(row["minutes"]), f"{row['bytes'] / 1e6:.1f}", str(row["skipped"])]
        for name, row in table.items()
    ]


def minutes(value: float | None) -> str:
    """Minutes, or "-" where the frame rate is not known."""
    return "-" if value is None else f"{value:.1f}"


def in_time(hours: float) -> str:
    """Hours, or minutes where there is less than one."""
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def in_bytes(n_bytes: int) -> str:
    """Bytes in MB or GB."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def number(value: float) -> str:
    """Three digits, or the whole number."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
