"""What `dheads eval` measures of pairs, one after another or in several processes; the numbers are the same."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import cv2
import torch

from dheads_cli import registry, trust
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.model.build import choose_device
from dheads_cli.protocols import LandmarkDetector, Metric, MetricInParts, MetricOverTime
from dheads_cli.recipe_section import Component
from dheads_cli.run.clip_pool import process_all
from dheads_cli.run.eval_curves import Series, series_of
from dheads_cli.run.eval_pairs import Group, Kept, Pair
from dheads_cli.run.eval_paper import STAND_IN_IS, STAND_INS

if TYPE_CHECKING:
    from dheads_cli.protocols import Landmarks

TIMEOUT_S = 3600.0  # of the pairs of one real clip


@dataclass(frozen=True)
class Measured:
    """What was measured of a pair.

    Attributes:
        row, facts, remark: the pair's.
        parts: for each metric that is in parts, by name, what it needs of the pair.
        series: what the page's curves need of it, where there is a page.
        landmarks: of both clips, where a metric in one part will ask for them in another process.
        pair: for metrics in one part; None where there is none.
    """

    row: str
    facts: Mapping[str, Any]
    remark: str
    parts: Mapping[str, Any]
    series: Series
    landmarks: tuple[Landmarks, Landmarks] | None = None
    pair: Pair | None = None


@dataclass(frozen=True)
class Gauge:
    """What measures, so that another process can make the same.

    Attributes:
        metrics: the components, by name.
        detector: of landmarks.
        device: for those that compute on one.
        follows: whether the page's curves are wanted.
    """

    metrics: tuple[Component, ...]
    detector: Component
    device: str
    follows: bool

    def fresh_metrics(self) -> dict[str, Metric]:
        """The metrics by name, with no clip in them."""
        return {metric.use: build("metrics", metric, self.device) for metric in self.metrics}

    def find_landmarks(self) -> LandmarkDetector:
        """The detector."""
        detector: LandmarkDetector = build("landmark_detectors", self.detector, self.device)
        return detector


def build(kind: str, component: Component, device: str) -> Any:
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


def measure(pair: Pair, metrics: Mapping[str, Metric], *, follows: bool = False) -> Measured:
    """Measure a pair by those of the metrics that are in parts; the others will need the pair itself."""
    parts = {
        name: metric.measure(pair.clip, pair.reference)
        for name, metric in metrics.items()
        if isinstance(metric, MetricInParts)
    }
    series = series_of(pair, metrics) if follows else {}
    return Measured(pair.row, pair.facts, pair.remark, parts, series, pair=pair)


def measure_all(
    groups: Sequence[Group],
    gauge: Gauge,
    metrics: Mapping[str, Metric],
    detector: LandmarkDetector,
    n_workers: int = 1,
) -> Generator[Measured]:
    """Measure pairs, in their order.

    Args:
        groups: of pairs; the work is shared out by them.
        gauge: what measures.
        metrics: made by it.
        detector: made by it.
        n_workers: processes; 1 is this one.

    Raises:
        DheadsError: a video can't be read, or its process was lost.
    """
    kept = Kept()
    if n_workers == 1:
        for group in groups:
            for pair in group.read(detector, kept):
                with _one_thread():
                    measured = measure(pair, metrics, follows=gauge.follows)
                yield measured
        return
    in_one_part = not all(isinstance(metric, MetricInParts) for metric in metrics.values())
    needed = [metric for metric in gauge.metrics if isinstance(metrics.get(metric.use), MetricInParts | MetricOverTime)]
    work = partial(
        _measure_there, gauge=replace(gauge, metrics=tuple(needed)), with_landmarks=in_one_part,
        trusted=trust.settings.trust,
    )  # fmt: skip
    with closing(process_all(work, groups, min(n_workers, len(groups)), TIMEOUT_S)) as outcomes:
        for group, outcome in zip(groups, outcomes, strict=True):
            if isinstance(outcome, UnusableClip):
                raise DheadsError(f"{group.name}: {outcome.reason} ({outcome.detail}); try again with --workers 1")
            yield from _with_pairs(outcome, group.read(detector, kept)) if in_one_part else outcome


def _with_pairs(outcome: Sequence[Measured], pairs: Iterator[Pair]) -> Iterator[Measured]:
    """Give what another process measured the pairs, read once more, and their landmarks."""
    for measured, pair in zip(outcome, pairs, strict=True):
        assert measured.landmarks is not None
        pair.clip.landmarks, pair.reference.landmarks = measured.landmarks
        yield replace(measured, pair=pair)


def _measure_there(group: Group, gauge: Gauge, with_landmarks: bool, trusted: bool) -> list[Measured]:
    """Measure a group's pairs in a worker; what is returned can be pickled."""
    trust.allow(trusted)
    metrics, detector, kept = _tools(json.dumps([
        [metric.model_dump(mode="json") for metric in gauge.metrics], gauge.detector.model_dump(mode="json"),
        gauge.device,
    ]))  # fmt: skip
    found = []
    for pair in group.read(detector, kept):
        measured = measure(pair, metrics, follows=gauge.follows)
        landmarks = (pair.clip.landmarks, pair.reference.landmarks) if with_landmarks else None
        found.append(replace(measured, landmarks=landmarks, pair=None))
    return found


@cache
def _tools(facts: str) -> tuple[dict[str, Metric], LandmarkDetector, Kept]:
    """Metrics and detector of a process, made once."""
    metrics, detector, device = json.loads(facts)
    gauge = Gauge(
        tuple(Component.model_validate(metric) for metric in metrics), Component.model_validate(detector), device,
        follows=False,
    )  # fmt: skip
    return gauge.fresh_metrics(), gauge.find_landmarks(), Kept()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute as a worker does: sums over several threads may be rounded another way."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
