"""`dheads eval`: score a folder of generated clips against the real ones they stand for.

Rows of the table: the generated clips; the same faces with another clip's speech (the floor: what a model scores that
doesn't listen); another real clip of the speaker in their place (real, but saying something else); and the real clips
themselves, measured as the generated ones are (the ceiling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from dheads_cli import console
from dheads_cli.data import samples as samples_folder
from dheads_cli.data.media import check_target
from dheads_cli.errors import DheadsError
from dheads_cli.protocols import Metric, MetricInParts
from dheads_cli.recipe import Evaluate
from dheads_cli.recipe_io import load_recipe
from dheads_cli.recipe_section import Component
from dheads_cli.run.eval_curves import Curves
from dheads_cli.run.eval_folders import match_folders, named_groups
from dheads_cli.run.eval_measure import Gauge, Measured, measure_all
from dheads_cli.run.eval_page import write_page
from dheads_cli.run.eval_pairs import Group, Kept, Pair, sample_groups
from dheads_cli.run.eval_paper import Choice, all_metrics, paper_metrics, paper_table, show_paper, with_weights
from dheads_cli.run.eval_report import OTHER_REAL, ROWS, Scores, make_report, show, write_files
from dheads_cli.run.lip_report import REPORT as LIP_REPORT
from dheads_cli.run.sync_report import REPORT as SYNC_REPORT
from dheads_cli.run.word_report import REPORT as WORD_REPORT

CHOICES = {"all": all_metrics, "paper": paper_metrics}  # words in place of metrics' names


def evaluate(
    samples: Path | None = None,
    *,
    reference: Path | None = None,
    metrics: Sequence[Component] | Literal["all", "paper"] | None = None,
    detector: Component | None = None,
    weights: Mapping[str, str] = MappingProxyType({}),
    device: str = "auto",
    ground_truth: bool = True,
    csv: Path | None = None,
    html: Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Score a samples folder: print the table, and write eval.json and eval.csv into the folder.

    Args:
        samples: folder that `dheads sample` wrote, or any folder of videos; None takes the newest under runs/.
        reference: folder of real videos, paired by name; None takes the clips that the samples point at.
        metrics: None takes those of the run's recipe, or the default ones where the folder is in no run; "all" and
            "paper" take those that can be built here, and tell which can't.
        detector: of landmarks in generated clips and in the ground-truth row; None likewise.
        weights: files of networks by metric, in place of those it would find.
        device: for the metrics and detectors that compute on one.
        ground_truth: score the real clips too.
        csv: also write the CSV here.
        html: also write a page that stands alone.
        workers: processes that read clips, find landmarks and measure; the numbers don't depend on it.

    Returns:
        What eval.json holds; also printed under --json.
    """
    folder = newest_samples() if samples is None else samples
    if (folder / WORD_REPORT).is_file():
        raise DheadsError(
            f"{folder}: holds a word recogniser, which makes no samples: {folder / WORD_REPORT} says how many words "
            "it gets right, and `dheads train` prints it again"
        )
    if (folder / SYNC_REPORT).is_file():
        raise DheadsError(
            f"{folder}: holds a network for lips and sound, which makes no samples: {folder / SYNC_REPORT} says how "
            "good it is, and `dheads train` prints it again"
        )
    if (folder / LIP_REPORT).is_file():
        raise DheadsError(
            f"{folder}: holds a lip-reader, which makes no samples: {folder / LIP_REPORT} says how good it is, and "
            "`dheads train` prints it again"
        )
    settings = settings_near(folder)
    chosen = _chosen(settings.metrics if metrics is None else metrics, weights)
    detector = detector or settings.detector
    gauge = Gauge(tuple(chosen.metrics), detector, device, follows=html is not None)
    built, find_landmarks = gauge.fresh_metrics(), gauge.find_landmarks()
    groups_of = _groups(folder, reference)
    groups = groups_of(None, ground_truth)
    for path in (folder / "eval.json", *([csv] if csv else []), *([html] if html else [])):
        check_target(path, overwrite=True)
    networks = {name: metric.weights for name, metric in built.items()}
    curves = Curves()
    with console.progress("eval", total=sum(group.n_pairs for group in groups), unit="clips") as bar:
        pairs = measure_all(groups, gauge, built, find_landmarks, workers)
        scores = score(_followed(pairs, curves, bar.advance), gauge.fresh_metrics, built)
    detector_weights = getattr(find_landmarks, "weights", "")  # a detector may leave it unsaid
    report = make_report(
        folder, scores, chosen.metrics, networks, detector, detector_weights, missing=chosen.missing,
        reference=reference,
    )  # fmt: skip
    if metrics == "paper":
        report["paper"] = paper_table(scores.totals, chosen.missing, networks)
    write_files(folder, report, scores, csv)
    if html:

        def films(ids: Sequence[str]) -> Iterator[Pair]:
            kept = Kept()
            for group in groups_of(ids, False):
                yield from group.read(find_landmarks, kept)

        write_page(html, report, scores, curves.measures(), films)
    show(report, scores, [path for path in (csv, html) if path])
    if metrics == "paper":
        show_paper(report["paper"])
    console.result(report)
    return report


def _chosen(metrics: Sequence[Component] | Literal["all", "paper"], weights: Mapping[str, str]) -> Choice:
    if isinstance(metrics, str):
        choice = CHOICES[metrics](weights)
        if not choice.metrics:
            raise DheadsError("\n".join(f"{name}: {why}" for name, why in choice.missing.items()))
        return choice
    names = [metric.use for metric in metrics]
    if not names or len(set(names)) < len(names):
        raise DheadsError(f"metrics asked for: {', '.join(names) or 'none'}; name one or more, each once.")
    return Choice(with_weights(metrics, weights), {})


def _groups(folder: Path, reference: Path | None) -> Callable[[Sequence[str] | None, bool], Sequence[Group]]:
    """(ids, whether with the rows of real clips) -> the clips, those of a samples folder or of a folder of videos.

    None for ids is all of them.
    """
    if reference is not None:
        matches = match_folders(folder, reference)
        return lambda ids, real: named_groups([m for m in matches if ids is None or m.id in ids], ground_truth=real)
    rows = samples_folder.read_samples(folder)
    return lambda ids, real: sample_groups(
        folder, [row for row in rows if ids is None or row.id in ids], ground_truth=real
    )


def _followed(pairs: Iterable[Measured], curves: Curves, advance: Callable[[], None]) -> Iterator[Measured]:
    """Say what is to be said of each pair, draw its curves, and count it once it is scored."""
    for pair in pairs:
        if pair.remark:
            console.warn(pair.remark)
        curves.add(pair.row, pair.series)
        yield pair
        advance()


def newest_samples(runs: Path = Path("runs")) -> Path:
    """The samples folder written last.

    Raises:
        DheadsError: there is none.
    """
    manifests = list(runs.glob(f"*/samples/*/{samples_folder.MANIFEST}"))
    if not manifests:
        raise DheadsError(f"there are no samples under {runs}/: make some with `dheads sample RUN`, or name a folder.")
    newest = max(manifests, key=lambda path: path.stat().st_mtime_ns).parent
    console.info(f"scoring {newest}, the newest of {len(manifests)} samples folders under {runs}/")
    return newest


def settings_near(folder: Path) -> Evaluate:
    """The section `evaluate` of the run's recipe, where the folder is runs/NAME/samples/FOLDER; else the defaults."""
    recipe = folder.resolve().parents[1] / "recipe.yaml" if len(folder.resolve().parents) > 1 else folder
    return load_recipe(str(recipe)).recipe.evaluate if recipe.is_file() else Evaluate()


def score(
    pairs: Iterable[Measured], fresh_metrics: Callable[[], Mapping[str, Metric]], built: Mapping[str, Metric]
) -> Scores:
    """Run metrics over pairs.

    Args:
        pairs: taken one by one, and let go.
        fresh_metrics: makes the metrics by name; asked once for each further row of the table.
        built: those of the first row.
    """
    metrics_of: dict[str, Mapping[str, Metric]] = {}
    clips: list[dict[str, Any]] = []
    for pair in pairs:
        if pair.row not in metrics_of:
            metrics_of[pair.row] = fresh_metrics() if metrics_of else built
        values: dict[str, float | str] = {}
        for name, metric in metrics_of[pair.row].items():
            if isinstance(metric, MetricInParts):
                values.update(metric.add(pair.parts[name]))
            else:
                assert pair.pair is not None
                values.update(metric.update(pair.pair.clip, pair.pair.reference))
        clips.append({"row": pair.row, **pair.facts, "values": values})
    totals: dict[str, dict[str, float]] = {}
    for row in (row for row in ROWS if row in metrics_of):
        totals[row] = {name: value for metric in metrics_of[row].values() for name, value in metric.compute().items()}
    if OTHER_REAL in totals:  # as a set it is that of the references: distances of sets would say nothing
        own = {name for clip in clips if clip["row"] == OTHER_REAL for name in clip["values"]}
        totals[OTHER_REAL] = {name: value for name, value in totals[OTHER_REAL].items() if name in own}
    return Scores(totals, clips)
