"""The page and the picture of `dheads data stats`. The page stands alone: nothing in it is fetched from anywhere."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically
from dheads_cli.run import data_stats_figures as figures
from dheads_cli.run.data_stats_measures import in_words
from dheads_cli.run.data_stats_overview import draw_overview
from dheads_cli.run.data_stats_table import SAID, by_size, facts, in_bytes, minutes, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dheads_cli.run.data_stats import Stats

STYLE_SHEET = "data_stats.css"
N_TILES, N_TRACES, N_SPEAKERS, N_BARS = 48, 6, 200, 20  # on the page
FACE_PX, JPEG_QUALITY = 192, 82
NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]\d+)?( [MG]B)?|-")


def write_page(found: Stats, page: Path, picture: Path) -> None:
    """Write the page and the picture, each whole or not at all.

    Raises:
        DheadsError: they can't be written.
    """
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DheadsError(f"{page.parent} can't be made: {error.strerror or error}.") from error
    write_atomically(picture, draw_overview(found))
    write_atomically(page, page_text(found))


def page_text(found: Stats) -> str:
    """The whole page, HTML."""
    title = f"{Path(found.numbers['corpus']).resolve().name}: a preprocessed corpus"
    sections = [
        _section("Is it good?", _checks(found)),
        _section("Faces", _contact_sheet(found)),
        _section("Mean faces", _mean_faces(found)),
        _section("Lips and sound", _sync(found)),
        _section("Measures", _measures(found)),
        _section("Outliers", _outliers(found)),
        _section("Splits and speakers", _splits(found)),
        _section("Skipped clips", _skipped(found)),
        _section("Words", _words(found)),
        _section("What made it", _made_by(found)),
    ]
    style = (files("dheads_cli.run") / STYLE_SHEET).read_text(encoding="utf-8")
    chips = "".join(f"<li>{_text(fact)}</li>" for fact in facts(found.numbers))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}</style></head>\n<body>'
        f'<header><h1>{_text(title)}</h1><ul class="facts">{chips}</ul></header>\n<main>\n'
        f"{''.join(sections)}</main>\n</body></html>\n"
    )


def _checks(found: Stats) -> str:
    rows = "".join(
        f'<li class="{check.state}"><b>{_text(check.name)}</b><span class="state">{SAID[check.state]}</span>'
        f"<span>{_text(check.text)}</span></li>"
        for check in found.checks
    )
    return f'<ul class="checks">{rows}</ul>'


def _contact_sheet(found: Stats) -> str:
    looks = found.sample.looks
    if not looks:
        return _none("No clip could be decoded.")
    cells = [_figure(picture, look.id, look.split) for look, picture in figures.tiles(looks, N_TILES)]
    said = f"Middle frames of {len(cells)} clips, speakers and splits in turn; every third with its landmarks."
    return _note(said) + f'<div class="tiles">{"".join(cells)}</div>'


def _mean_faces(found: Stats) -> str:
    faces, looks = found.sample.mean_faces, found.sample.looks
    if not faces:
        return ""
    cells = []
    for face in faces:
        sharp = "" if face.sharpness is None else f", eyes {face.sharpness:.0%}"
        cells.append(_figure(_enlarged(face.picture), face.name, f"{_count(face.n_clips, 'clip')}{sharp}"))
    scatter = _png(partial(figures.draw_scatter, face=faces[0], looks=looks))
    cells.append(f'<figure><img src="{scatter}" alt=""><figcaption>landmarks of all</figcaption></figure>')
    said = (
        "The mean of all crops. Eyes and nostrils stay sharp where the alignment is right; the percentage is the "
        "contrast of the eyes that is left of a single frame's."
    )
    return _note(said) + f'<div class="faces">{"".join(cells)}</div>'


def _sync(found: Stats) -> str:
    looks, curve = found.sample.looks, found.curve
    if not looks:
        return ""
    plots = [] if curve is None else [_svg(partial(figures.draw_lag, curve=curve), (3.9, 1.9))]
    for look in figures.traced(looks, N_TRACES - len(plots) % 2):
        plots.append(_svg(partial(figures.draw_trace, look=look), (3.9, 1.9)))
    said = (
        "Mouth opening (orange) over the waveform (gray). Lips open as the sound begins and shut for b, p, m. "
        "The curve is Pearson's r over clips, with what changes slower than 0.44 s taken out."
    )
    return _note(said) + f'<div class="plots wide">{"".join(plots)}</div>'


def _measures(found: Stats) -> str:
    told = {name: measure for name, measure in found.numbers["measures"].items() if measure["n"]}
    plots = [
        _svg(partial(figures.draw_histogram, name=name, told=measure), (3.1, 1.9)) for name, measure in told.items()
    ]
    marks = ("min", "p1", "p5", "median", "p95", "p99", "max")
    rows = [
        [in_words(name), f"{measure['n']:,}", *(number(measure[mark]) for mark in marks), f"{measure['n_outside']:,}"]
        for name, measure in told.items()
    ]
    table = _table(["measure", "clips", *marks, "outliers"], rows)
    return f'<div class="plots">{"".join(plots)}</div>{table}' if told else _none("No clips.")


def _outliers(found: Stats) -> str:
    frames = {look.id: look.frame for look in found.sample.looks} | found.extremes
    parts = []
    for name, measure in found.numbers["measures"].items():
        outliers = measure.get("outliers", [])
        if not outliers:
            continue
        cells = [
            _figure(figures.tile(frames[outlier["id"]]), outlier["id"], number(outlier["value"]))
            if outlier["id"] in frames
            else f"<figure><figcaption>{_text(outlier['id'])}<br>{number(outlier['value'])}</figcaption></figure>"
            for outlier in outliers
        ]
        low, high = (number(fence) for fence in measure["fences"])
        among = "of the decoded clips " if measure.get("sample") else ""
        said = f"{measure['n_outside']:,} {among}outside {low} to {high}; the farthest:"
        parts.append(f'<h3>{_text(in_words(name))}</h3>{_note(said)}<div class="tiles">{"".join(cells)}</div>')
    said = "Clips more than three interquartile ranges beyond the quartiles of a measure."
    return _note(said) + "".join(parts) if parts else _none("None.")


def _splits(found: Stats) -> str:
    numbers = found.numbers
    splits, speakers = numbers["splits"], by_size(numbers["speakers"])
    columns = ["clips", "minutes", "size", "skipped"]
    first = _table(["split", *columns], [[name, *_amounts(row)] for name, row in splits.items()])
    flagged = numbers["leakage"]["speakers"]
    rows = [
        [name, *_amounts(row), ", ".join(f"{split} {n}" for split, n in row["splits"].items())]
        for name, row in list(speakers.items())[:N_SPEAKERS]
    ]
    second = _table(["speaker", *columns, "clips by split"], rows)
    shown = dict(list(speakers.items())[:N_BARS])
    height = 0.75 + 0.16 * max(len(shown), 3)
    bars = _svg(partial(figures.draw_speakers, speakers=shown, splits=list(splits)), (3.9, height)) if splits else ""
    shared = [
        f"{_count(len(flagged), 'speaker')} in more than one split"
        + {"text": " (these splits are by text)", "speaker": " (these splits are by speaker!)"}.get(
            numbers["split_by"], ""
        ),
        f"{_count(numbers['leakage']['sources']['count'], 'video')} in more than one split",
        *(f"{_count(told['count'], 'text')} in {pair}" for pair, told in numbers["leakage"]["texts"].items()),
    ]
    leaks = f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in shared)}</ul>"
    more = _note(f"The {N_SPEAKERS} largest of {len(speakers):,}.") if len(speakers) > N_SPEAKERS else ""
    return f'<div class="beside"><div>{first}{leaks}</div>{bars}</div>{second}{more}'


def _skipped(found: Stats) -> str:
    rows = [
        [reason, f"{told['clips']:,}", "; ".join(f"{clip['id']}: {clip['detail']}" for clip in told["examples"])]
        for reason, told in found.numbers["skipped"].items()
    ]
    return _table(["reason", "clips", "such as"], rows) if rows else _none("None.")


def _words(found: Stats) -> str:
    text = found.numbers["text"]
    of = _count(text["clips_read"], "clip") + ("" if text["clips_read"] == text["clips"] else " that were read")
    known = f"Of {of}, {text['with_text']:,} have a text and {text['with_word_times']:,} the times of its words."
    if not text["with_text"]:
        return _note(known)
    said = f"{text['words']:,} words, {text['vocabulary']:,} different ones, in {text['texts']:,} different texts:"
    most = ", ".join(f"{_text(word)}&nbsp;<small>{n:,}</small>" for word, n in text["most_frequent"].items())
    return _note(f"{known} {said}") + f'<p class="words">{most}</p>'


def _made_by(found: Stats) -> str:
    rows = list(_flat(found.numbers["made_by"]))
    return _table(["setting", "value"], rows, texts=True) if rows else _none("No preprocess.yaml is beside the shards.")


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterable[list[str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield [f"{before}{name}", str(value)]


def _amounts(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['clips']:,}", minutes(row["minutes"]), in_bytes(row["bytes"]), f"{row['skipped']:,}"]


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{body}</section>\n" if body else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: bool = False) -> str:
    """A table; columns of numbers are set to the right, unless all cells are `texts`."""
    kinds = [
        ' class="n"' if rows and not texts and all(NUMBER.fullmatch(row[place]) for row in rows) else ""
        for place in range(len(columns))
    ]
    head = "".join(f"<th{kind}>{_text(column)}</th>" for kind, column in zip(kinds, columns, strict=True))
    lines = ("".join(f"<td{kind}>{_text(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(picture: NDArray[np.uint8], name: str, said: str) -> str:
    caption = f"<figcaption>{_text(name)}<br><small>{_text(said)}</small></figcaption>"
    return f'<figure><img src="{_jpeg(picture)}" alt="{_text(name)}">{caption}</figure>'


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


_none = _note


def _text(text: str) -> str:
    return html.escape(text)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((FACE_PX, FACE_PX), Image.Resampling.BICUBIC))


def _jpeg(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _png(draw: Callable[[Axes], None]) -> str:
    """A drawing without axes as an image's address."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context(figures.STYLE):
        figure = Figure(figsize=(2, 2), dpi=FACE_PX)
        draw(figure.add_axes((0, 0, 1, 1)))
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _svg(draw: Callable[[Axes], None], size_in: tuple[float, float]) -> str:
    """A drawing as inline SVG, its ink the colour of the page's text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with rc_context(figures.STYLE):
        figure = Figure(figsize=size_in, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        title = axes.get_title(loc="left")
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(figures.INK, "currentColor")
    drawn = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', f' role="img" aria-label="{_text(title)}"', drawn, count=1)
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", drawn)
