"""`dheads eval`: score a folder of generated clips against the real ones they stand for.

Rows of the table: the generated clips; the same faces with another clip's speech (the floor: what a model scores that
doesn't listen); another real clip of the speaker in their place (real, but saying something else); and the real clips
themselves, measured as the generated ones are (the ceiling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from dheads_cli import console, registry
from dheads_cli.data import samples as samples_folder
from dheads_cli.data.media import check_target
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import choose_device
from dheads_cli.protocols import LandmarkDetector, Metric
from dheads_cli.recipe import Evaluate
from dheads_cli.recipe_io import load_recipe
from dheads_cli.recipe_section import Component
from dheads_cli.run.eval_curves import Curves
from dheads_cli.run.eval_folders import match_folders, read_named_pairs
from dheads_cli.run.eval_page import write_page
from dheads_cli.run.eval_pairs import Pair, n_real_pairs, read_pairs, speakers_of
from dheads_cli.run.eval_paper import (
    STAND_IN_IS,
    STAND_INS,
    Choice,
    all_metrics,
    paper_metrics,
    paper_table,
    show_paper,
    with_weights,
)
from dheads_cli.run.eval_report import OTHER_REAL, ROWS, Scores, make_report, show, write_files
from dheads_cli.run.lip_report import REPORT as LIP_REPORT
from dheads_cli.run.sync_report import REPORT as SYNC_REPORT
from dheads_cli.run.word_report import REPORT as WORD_REPORT

CHOICES = {"all": all_metrics, "paper": paper_metrics}  # words in place of metrics' names


@dataclass(frozen=True)
class Source:
    """Clips to score.

    Attributes:
        ids: of the generated clips.
        n_real: how many pairs the rows of real clips have.
        read: (ids to read or None for all, whether with the rows of real clips) -> pairs.
    """

    ids: Sequence[str]
    n_real: int
    read: Callable[[Sequence[str] | None, bool], Iterator[Pair]]


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

    def fresh_metrics() -> dict[str, Metric]:
        return {metric.use: _build("metrics", metric, device) for metric in chosen.metrics}

    find_landmarks = _build("landmark_detectors", detector, device)
    source = source_of(folder, reference, find_landmarks)
    for path in (folder / "eval.json", *([csv] if csv else []), *([html] if html else [])):
        check_target(path, overwrite=True)
    networks = {name: metric.weights for name, metric in fresh_metrics().items()}
    curves = Curves() if html else None
    n_pairs = len(source.ids) + (source.n_real if ground_truth else 0)
    with console.progress("eval", total=n_pairs, unit="clips") as bar:
        scores = score(source.read(None, ground_truth), fresh_metrics, bar.advance, curves)
    detector_weights = getattr(find_landmarks, "weights", "")  # a detector may leave it unsaid
    report = make_report(
        folder, scores, chosen.metrics, networks, detector, detector_weights, missing=chosen.missing,
        reference=reference,
    )  # fmt: skip
    if metrics == "paper":
        report["paper"] = paper_table(scores.totals, chosen.missing, weights)
    write_files(folder, report, scores, csv)
    if html and curves:
        write_page(html, report, scores, curves.measures(), lambda ids: source.read(ids, False))
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


def source_of(folder: Path, reference: Path | None, detector: LandmarkDetector) -> Source:
    """The clips of a samples folder, or of a folder of videos with another of real ones."""
    if reference is not None:
        matches = match_folders(folder, reference)
        n_real = n_real_pairs({match: match.speaker for match in matches})
        read_matches = partial(read_named_pairs, detector=detector)
        return Source(
            [match.id for match in matches], n_real,
            lambda ids, real: read_matches([m for m in matches if ids is None or m.id in ids], ground_truth=real),
        )  # fmt: skip
    rows = samples_folder.read_samples(folder)
    read_rows = partial(read_pairs, folder, detector=detector)
    return Source(
        [row.id for row in rows], n_real_pairs(speakers_of(rows)),
        lambda ids, real: read_rows([row for row in rows if ids is None or row.id in ids], ground_truth=real),
    )  # fmt: skip


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
    pairs: Iterable[Pair],
    fresh_metrics: Callable[[], Mapping[str, Metric]],
    scored: Callable[[], None],
    watch: Callable[[Pair, Mapping[str, Metric]], None] | None = None,
) -> Scores:
    """Run metrics over pairs.

    Args:
        pairs: taken one by one, and let go.
        fresh_metrics: makes the metrics by name; asked once for each row of the table.
        scored: called after each pair.
        watch: called with each pair and the metrics of its row, once these have taken it in.
    """
    metrics_of: dict[str, Mapping[str, Metric]] = {}
    clips: list[dict[str, Any]] = []
    for pair in pairs:
        if pair.row not in metrics_of:
            metrics_of[pair.row] = fresh_metrics()
        values: dict[str, float | str] = {}
        for metric in metrics_of[pair.row].values():
            values.update(metric.update(pair.clip, pair.reference))
        clips.append({"row": pair.row, **pair.facts, "values": values})
        if watch:
            watch(pair, metrics_of[pair.row])
        scored()
    totals: dict[str, dict[str, float]] = {}
    for row in (row for row in ROWS if row in metrics_of):
        totals[row] = {name: value for metric in metrics_of[row].values() for name, value in metric.compute().items()}
    if OTHER_REAL in totals:  # as a set it is that of the references: distances of sets would say nothing
        own = {name for clip in clips if clip["row"] == OTHER_REAL for name in clip["values"]}
        totals[OTHER_REAL] = {name: value for name, value in totals[OTHER_REAL].items() if name in own}
    return Scores(totals, clips)


def _build(kind: str, component: Component, device: str) -> Any:
    """Build a component, handing the device to one that takes it."""
    takes_device = "device" in registry.signature_of(registry.load(kind, component.use))
    given = {"device": str(choose_device(device))} if takes_device else {}
    try:
        return registry.build(kind, component.use, given | component.options)
    except DheadsError as error:
        if kind == "metrics" and component.use in STAND_INS:
            stand_in = STAND_INS[component.use]
            raise DheadsError(f"{error}. Or `--metrics {stand_in}`: {STAND_IN_IS} {component.use}") from error
        raise
