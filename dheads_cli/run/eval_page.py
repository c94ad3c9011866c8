"""The page of `dheads eval`. It stands alone: nothing in it is fetched from anywhere, its films are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dheads_cli.files import write_atomically
from dheads_cli.run.eval_clips import GAIN, SHOWN_S, Extremes, Ranked, chosen_ids, extremes, films_of
from dheads_cli.run.eval_curves import Curve
from dheads_cli.run.eval_figures import draw_curve, draw_distribution
from dheads_cli.run.eval_pairs import Pair
from dheads_cli.run.eval_paper import CAUTION, paper_cells
from dheads_cli.run.eval_report import (
    GENERATED,
    N_RESAMPLES,
    NO_SPEAKER,
    ROWS,
    Scores,
    by_speaker,
    cell,
    in_words,
    used,
)
from dheads_cli.run.page_parts import count, escaped, note, section, svg, table, whole_page

MOST_FILMS, MOST_CLIPS, MOST_SPEAKERS = 24, 300, 200  # on the page
ROWS_SAID = (
    "Another real clip: one of the same speaker (folder), or of anybody where no speaker is known, in the generated "
    "clip's place: real, but saying something else. Ground truth: the real clips measured as the generated ones are."
)


def write_page(
    path: Path,
    report: Mapping[str, Any],
    scores: Scores,
    curves: Mapping[str, Mapping[str, Curve]],
    read: Callable[[Sequence[str]], Iterable[Pair]],
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: of the page, in a folder that exists.
        report: what eval.json holds.
        scores: that it was made from.
        curves: measure -> row of the table -> its curve.
        read: reads the pairs of clips by their ids, once more, for the films.

    Raises:
        DheadsError: it can't be written.
    """
    ends = extremes(scores.clips)
    reasons = chosen_ids(ends, MOST_FILMS)
    if not reasons:  # a single clip, or none that differ
        ids = [clip["id"] for clip in scores.clips if clip["row"] == GENERATED]
        reasons = {name: [] for name in dict.fromkeys(ids[:MOST_FILMS])}
    films = films_of(read(list(reasons)))
    write_atomically(path, page_text(report, scores, curves, ends, reasons, films))


def page_text(
    report: Mapping[str, Any],
    scores: Scores,
    curves: Mapping[str, Mapping[str, Curve]],
    ends: Mapping[str, Extremes],
    reasons: Mapping[str, Sequence[str]],
    films: Mapping[str, str],
) -> str:
    """The whole page, HTML.

    Args:
        report, scores, curves: see write_page.
        ends: best and worst clips by value.
        reasons: clips to show -> why.
        films: data URIs by clip.
    """
    made = report["sample"]
    facts = [f"{row}: {count(of_row['n_clips'], 'clip')}" for row, of_row in report["rows"].items()]
    facts += [f"{name} {made[name]}" for name in ("recipe", "step", "split", "seed") if name in made]
    facts += [f"reference {report['reference']}"] if report["reference"] else []
    places = {name: f"clip-{number}" for number, name in enumerate(films, 1)}
    sections = [
        section("Scores", _scores(report)),
        section("Beside the paper", _paper(report)),
        section("Clip by clip", _distributions(scores)),
        section("Over time", _curves(curves)),
        section("Best and worst", _ends(ends, places)),
        section("Clips", _films(films, places, reasons)),
        section("Speakers", _speakers(scores)),
        section("All generated clips", clips_table(scores)),
        section("What measured it", _measured_by(report, scores)),
    ]
    title = f"Evaluation of {Path(report['samples']).resolve().name}"
    return whole_page(title, facts, f"<main>\n{''.join(sections)}</main>\n")


def _scores(report: Mapping[str, Any]) -> str:
    rows = report["rows"]
    names = dict.fromkeys(name for of_row in rows.values() for name in of_row["values"])
    head = "".join(f'<th class="n">{escaped(row)}</th>' for row in rows)
    lines = []
    for name in names:
        cells = "".join(f'<td class="n">{_score(of_row, name)}</td>' for of_row in rows.values())
        lines.append(f"<tr><td>{escaped(name)}</td>{cells}</tr>")
    said = f"Small: 95 % interval of a mean over clips, from {N_RESAMPLES} bootstrap draws of the clips. {ROWS_SAID}"
    shown = f'<table class="whole"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return note(said) + f'<div class="scroll all">{shown}</div>'


def _score(of_row: Mapping[str, Any], name: str) -> str:
    if name not in of_row["values"]:
        return "-"
    value, interval = of_row["values"][name], of_row["intervals"].get(name)
    shown = "∞" if value is None else cell(value)
    return shown + (f"<br><small>{cell(tuple(interval))}</small>" if interval else "")


def _paper(report: Mapping[str, Any]) -> str:
    if "paper" not in report:
        return ""
    told = report["paper"]
    columns = ["", *told["columns"]]
    tables = (f"<h3>{escaped(name)}</h3>{table(columns, paper_cells(told, name))}" for name in told["paper"])
    missing = [f"{head} is not measured: {why}." for head, why in told["not_measured"].items()]
    return note(f"{CAUTION.capitalize()}.") + "".join(tables) + "".join(map(note, missing))


def _distributions(scores: Scores) -> str:
    names = dict.fromkeys(name for clip in scores.clips if clip["row"] == GENERATED for name in clip["values"])
    plots = []
    for name in names:
        rows = {}
        for row in ROWS:
            values = [clip["values"].get(name) for clip in scores.clips if clip["row"] == row]
            if known := [value for value in values if isinstance(value, int | float)]:
                rows[row] = known
        if rows:
            plots.append(svg(partial(draw_distribution, name=name, rows=rows), (3.0, 0.55 + 0.28 * len(rows))))
    return note("A dot is a clip, the bar the mean.") + f'<div class="plots">{"".join(plots)}</div>' if plots else ""


def _curves(curves: Mapping[str, Mapping[str, Curve]]) -> str:
    plots = [svg(partial(draw_curve, measure=name, rows=rows), (3.9, 2.1)) for name, rows in curves.items()]
    said = "Means over clips with 95 % bands (Student's, over clips). A line that leaves the real clips' is drift."
    return note(said) + f'<div class="plots wide">{"".join(plots)}</div>' if plots else ""


def _ends(ends: Mapping[str, Extremes], places: Mapping[str, str]) -> str:
    def linked(clips: Sequence[Ranked]) -> str:
        return "<br>".join(_link(clip.id, places) + f" <small>{escaped(_beside_real(clip))}</small>" for clip in clips)

    lines = [
        f"<tr><td>{escaped(name)}</td><td>{linked(found.worst)}</td><td>{linked(found.best)}</td></tr>"
        for name, found in ends.items()
    ]
    by_real = all(found.by_real for found in ends.values())
    said = (
        "Worst: farthest from what the real clip scores, measured the same way; best: nearest to it. A clip's value "
        "stands before its real clip's."
        if by_real
        else "No real clip was scored beside some of these: lowest stands for worst, highest for best."
    )
    head = "<thead><tr><th></th><th>worst</th><th>best</th></tr></thead>"
    shown = f'<div class="scroll all"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'
    return note(said) + shown if lines else ""


def _beside_real(clip: Ranked) -> str:
    return cell(clip.value) + ("" if clip.real is None else f", real {cell(clip.real)}")


def _link(name: str, places: Mapping[str, str]) -> str:
    return f'<a href="#{places[name]}">{escaped(name)}</a>' if name in places else escaped(name)


def _films(films: Mapping[str, str], places: Mapping[str, str], reasons: Mapping[str, Sequence[str]]) -> str:
    cells = []
    for name, address in films.items():
        why = f"<br><small>{escaped('; '.join(reasons[name]))}</small>" if reasons[name] else ""
        cells.append(
            f'<figure id="{places[name]}"><video controls loop playsinline preload="metadata" src="{address}"></video>'
            f'<div class="three"><span>real</span><span>generated</span><span>difference x {GAIN}</span></div>'
            f"<figcaption>{escaped(name)}{why}</figcaption></figure>"
        )
    said = f"The best and the worst by each value, {MOST_FILMS} clips and {SHOWN_S:.0f} s of each at most, with sound."
    return note(said) + f'<div class="films">{"".join(cells)}</div>' if cells else ""


def _speakers(scores: Scores) -> str:
    speakers = by_speaker([clip for clip in scores.clips if clip["row"] == GENERATED])
    if len(speakers) < 2:
        return ""
    names = list(dict.fromkeys(name for values in speakers.values() for name in values))
    shown = list(speakers.items())[:MOST_SPEAKERS]
    rows = [[speaker or NO_SPEAKER, *(cell(values.get(name)) for name in names)] for speaker, values in shown]
    return note("Generated clips, means over clips.") + table(["speaker", *names], rows)


def clips_table(scores: Scores) -> str:
    """Generated clips with their values, and what metrics remark on them."""
    clips = [clip for clip in scores.clips if clip["row"] == GENERATED]
    values = [(name, value) for clip in clips for name, value in clip["values"].items()]
    names = list(dict.fromkeys(name for name, value in values if not isinstance(value, str)))
    rows = [[clip["id"], *(cell(clip["values"].get(name)) for name in names)] for clip in clips[:MOST_CLIPS]]
    columns = ["clip", *names]
    if any(isinstance(value, str) for _, value in values):
        columns.append("remarks")
        for row, clip in zip(rows, clips, strict=False):  # fewer rows than clips
            row.append("; ".join(dict.fromkeys(value for value in clip["values"].values() if isinstance(value, str))))
    rest = f"The first {MOST_CLIPS} of {len(clips)}; eval.csv has all." if len(clips) > MOST_CLIPS else ""
    return (note(rest) if rest else "") + f'<div class="clips">{table(columns, rows)}</div>'


def _measured_by(report: Mapping[str, Any], scores: Scores) -> str:
    rows = used(report, scores)
    rows += [[f"metric {metric['use']}", f"{in_words(metric)}: no network"] for metric in report["metrics"]
             if not metric["weights"]]  # fmt: skip
    rows += [["versions", ", ".join(f"{name} {number}" for name, number in report["versions"].items())]]
    return table(["what", "used"], rows, texts=True)
