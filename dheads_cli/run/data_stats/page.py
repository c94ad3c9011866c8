"""The page and the picture of `dheads data stats`. The page stands alone: nothing in it is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dheads_cli.files import write_atomically
from dheads_cli.run.data_stats import figures
from dheads_cli.run.data_stats.measures import in_words
from dheads_cli.run.data_stats.overview import draw_overview
from dheads_cli.run.data_stats.sync import SLOW_S
from dheads_cli.run.data_stats.table import SAID, by_size, facts, in_bytes, minutes, number
from dheads_cli.run.page_parts import (
    captioned,
    count,
    enlarged,
    escaped,
    note,
    png,
    section,
    svg,
    table,
    whole_page,
)

if TYPE_CHECKING:
    from dheads_cli.run.data_stats.stats import Stats

N_TILES, N_TRACES, N_SPEAKERS, N_BARS = 48, 6, 200, 20  # on the page


def write_page(found: Stats, page: Path, picture: Path) -> None:
    """Write the page and the picture into a folder that exists, each whole or not at all.

    Raises:
        DheadsError: they can't be written.
    """
    write_atomically(picture, draw_overview(found))
    write_atomically(page, page_text(found))


def page_text(found: Stats) -> str:
    """The whole page, HTML."""
    title = f"{Path(found.numbers['corpus']).resolve().name}: a preprocessed corpus"
    sections = [
        section("Is it good?", _checks(found)),
        section("Faces", _contact_sheet(found)),
        section("Mean faces", _mean_faces(found)),
        section("Lips and sound", _sync(found)),
        section("Measures", _measures(found)),
        section("Outliers", _outliers(found)),
        section("Splits and speakers", _splits(found)),
        section("Skipped clips", _skipped(found)),
        section("Words", _words(found)),
        section("What made it", _made_by(found)),
    ]
    return whole_page(title, facts(found.numbers), f"<main>\n{''.join(sections)}</main>\n")


def _checks(found: Stats) -> str:
    rows = "".join(
        f'<li class="{check.state}"><b>{escaped(check.name)}</b><span class="state">{SAID[check.state]}</span>'
        f"<span>{escaped(check.text)}</span></li>"
        for check in found.checks
    )
    return f'<ul class="checks">{rows}</ul>'


def _contact_sheet(found: Stats) -> str:
    looks = found.sample.looks
    if not looks:
        return note("No clip was decoded.")
    cells = [captioned(picture, look.id, look.split) for look, picture in figures.tiles(looks, N_TILES)]
    said = f"Middle frames of {len(cells)} clips, speakers and splits in turn; every third with its landmarks."
    return note(said) + f'<div class="tiles">{"".join(cells)}</div>'


def _mean_faces(found: Stats) -> str:
    faces, looks = found.sample.mean_faces, found.sample.looks
    if not faces:
        return ""
    cells = []
    for face in faces:
        sharp = "" if face.sharpness is None else f", eyes {face.sharpness:.0%}"
        cells.append(captioned(enlarged(face.picture), face.name, f"{count(face.n_clips, 'clip')}{sharp}"))
    scatter = png(partial(figures.draw_scatter, face=faces[0], looks=looks))
    cells.append(f'<figure><img src="{scatter}" alt=""><figcaption>landmarks of all</figcaption></figure>')
    said = (
        "The mean of all crops. Eyes and nostrils stay sharp where the alignment is right; the percentage is the "
        "contrast of the eyes that is left of a single frame's."
    )
    return note(said) + f'<div class="faces">{"".join(cells)}</div>'


def _sync(found: Stats) -> str:
    looks, curve = found.sample.looks, found.curve
    if not looks:
        return ""
    plots = [] if curve is None else [svg(partial(figures.draw_lag, curve=curve), (3.9, 1.9))]
    for look in figures.traced(looks, N_TRACES - len(plots) % 2):
        plots.append(svg(partial(figures.draw_trace, look=look), (3.9, 1.9)))
    said = (
        "Mouth opening (orange) over the waveform (gray). Lips open as the sound begins and shut for b, p, m. "
        "The curve is Pearson's r over clips, with what changes slower than "
        f"{SLOW_S} s taken out."
    )
    return note(said) + f'<div class="plots wide">{"".join(plots)}</div>'


def _measures(found: Stats) -> str:
    told = {name: measure for name, measure in found.numbers["measures"].items() if measure["n"]}
    plots = [
        svg(partial(figures.draw_histogram, name=name, told=measure), (3.1, 1.9)) for name, measure in told.items()
    ]
    marks = ("min", "p1", "p5", "median", "p95", "p99", "max")
    rows = [
        [in_words(name), f"{measure['n']:,}", *(number(measure[mark]) for mark in marks), f"{measure['n_outside']:,}"]
        for name, measure in told.items()
    ]
    told_in_numbers = table(["measure", "clips", *marks, "outliers"], rows)
    return f'<div class="plots">{"".join(plots)}</div>{told_in_numbers}' if told else note("No clips.")


def _outliers(found: Stats) -> str:
    frames = {look.id: look.frame for look in found.sample.looks} | found.extremes
    parts = []
    for name, measure in found.numbers["measures"].items():
        outliers = measure.get("outliers", [])
        if not outliers:
            continue
        cells = [
            captioned(figures.tile(frames[outlier["id"]]), outlier["id"], number(outlier["value"]))
            if outlier["id"] in frames
            else f"<figure><figcaption>{escaped(outlier['id'])}<br>{number(outlier['value'])}</figcaption></figure>"
            for outlier in outliers
        ]
        low, high = (number(fence) for fence in measure["fences"])
        among = "of the decoded clips " if measure.get("sample") else ""
        said = f"{measure['n_outside']:,} {among}outside {low} to {high}; the farthest:"
        parts.append(f'<h3>{escaped(in_words(name))}</h3>{note(said)}<div class="tiles">{"".join(cells)}</div>')
    said = "Clips more than three interquartile ranges beyond the quartiles of a measure."
    return note(said) + "".join(parts) if parts else note("None.")


def _splits(found: Stats) -> str:
    numbers = found.numbers
    splits, speakers = numbers["splits"], by_size(numbers["speakers"])
    columns = ["clips", "minutes", "size", "skipped"]
    first = table(["split", *columns], [[name, *_amounts(row)] for name, row in splits.items()])
    flagged = numbers["leakage"]["speakers"]
    rows = [
        [name, *_amounts(row), ", ".join(f"{split} {n}" for split, n in row["splits"].items())]
        for name, row in list(speakers.items())[:N_SPEAKERS]
    ]
    second = table(["speaker", *columns, "clips by split"], rows)
    shown = dict(list(speakers.items())[:N_BARS])
    height = 0.75 + 0.16 * max(len(shown), 3)
    bars = svg(partial(figures.draw_speakers, speakers=shown, splits=list(splits)), (3.9, height)) if splits else ""
    shared = [
        f"{count(len(flagged), 'speaker')} in more than one split"
        + {"text": " (these splits are by text)", "speaker": " (these splits are by speaker!)"}.get(
            numbers["split_by"], ""
        ),
        f"{count(numbers['leakage']['sources']['count'], 'video')} in more than one split",
        *(f"{count(told['count'], 'text')} in {pair}" for pair, told in numbers["leakage"]["texts"].items()),
    ]
    leaks = f"<ul>{''.join(f'<li>{escaped(line)}</li>' for line in shared)}</ul>"
    more = note(f"The {N_SPEAKERS} largest of {len(speakers):,}.") if len(speakers) > N_SPEAKERS else ""
    return f'<div class="beside"><div>{first}{leaks}</div>{bars}</div>{second}{more}'


def _skipped(found: Stats) -> str:
    rows = [
        [reason, f"{told['clips']:,}", "; ".join(f"{clip['id']}: {clip['detail']}" for clip in told["examples"])]
        for reason, told in found.numbers["skipped"].items()
    ]
    return table(["reason", "clips", "such as"], rows) if rows else note("None.")


def _words(found: Stats) -> str:
    text = found.numbers["text"]
    of = count(text["clips_read"], "clip") + ("" if text["clips_read"] == text["clips"] else " that were read")
    known = f"Of {of}, {text['with_text']:,} have a text and {text['with_word_times']:,} the times of its words."
    if not text["with_text"]:
        return note(known)
    said = f"{text['words']:,} words, {text['vocabulary']:,} different ones, in {text['texts']:,} different texts:"
    most = ", ".join(f"{escaped(word)}&nbsp;<small>{n:,}</small>" for word, n in text["most_frequent"].items())
    return note(f"{known} {said}") + f'<p class="words">{most}</p>'


def _made_by(found: Stats) -> str:
    rows = list(_flat(found.numbers["made_by"]))
    return table(["setting", "value"], rows, texts=True) if rows else note("No preprocess.yaml is beside the shards.")


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterable[list[str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield [f"{before}{name}", str(value)]


def _amounts(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['clips']:,}", minutes(row["minutes"]), in_bytes(row["bytes"]), f"{row['skipped']:,}"]
