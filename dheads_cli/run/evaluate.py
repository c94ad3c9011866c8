"""`dheads eval`: score a folder of generated clips against the real ones they stand for.

Rows of the table: the generated clips; the same faces with another clip's speech (the floor: what a model scores that
doesn't listen); and the real clips themselves, measured as the generated ones are (the ceiling).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dheads_cli import console, registry
from dheads_cli.data import samples as samples_folder
from dheads_cli.data.media import read_video
from dheads_cli.data.samples import SampleRow
from dheads_cli.data.shards import Corpus, StoredClip
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import choose_device
from dheads_cli.protocols import LandmarkDetector, Metric
from dheads_cli.recipe import Evaluate
from dheads_cli.recipe_io import load_recipe
from dheads_cli.recipe_section import Component
from dheads_cli.run.eval_report import (
    GENERATED,
    GROUND_TRUTH,
    ROWS,
    SHUFFLED,
    Scores,
    make_report,
    show,
    write_files,
)
from dheads_cli.run.word_report import REPORT as WORD_REPORT

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

ROW_OF_KIND = {"synced": GENERATED, "shuffled": SHUFFLED}
MAX_FRAMES_APART = 2  # more than that between a generated and a real clip is worth a warning


@dataclass
class ScoredClip:
    """One clip as metrics see it; landmarks are looked for when first asked for, then kept."""

    id: str
    speaker: str
    fps: float
    frames: Frames  # uint8 RGB [F, H, W, 3]
    identity: NDArray[np.uint8]  # uint8 RGB [H, W, 3]
    find_landmarks: Callable[[Frames], Landmarks]

    @cached_property
    def landmarks(self) -> Landmarks:
        """float32 [F, 68, 2] px, NaN where no face is found."""
        return self.find_landmarks(self.frames)


@dataclass(frozen=True)
class Pair:
    """A clip and the real one it is scored against, equally long; `facts` goes into the clip's record."""

    row: str
    clip: ScoredClip
    reference: ScoredClip
    facts: Mapping[str, Any]


def evaluate(
    samples: Path | None = None,
    *,
    metrics: Sequence[Component] | None = None,
    detector: Component | None = None,
    device: str = "auto",
    ground_truth: bool = True,
) -> dict[str, Any]:
    """Score a samples folder: print the table, and write eval.json and eval.csv into the folder.

    Args:
        samples: folder that `dheads sample` wrote; None takes the newest under runs/.
        metrics: None takes those of the run's recipe, or the default ones where the folder is in no run.
        detector: of landmarks in generated clips and in the ground-truth row; None likewise.
        device: for the metrics and detectors that compute on one.
        ground_truth: score the real clips too.

    Returns:
        What eval.json holds; also printed under --json.
    """
    folder = newest_samples() if samples is None else samples
    if (folder / WORD_REPORT).is_file():
        raise DheadsError(
            f"{folder}: holds a word recogniser, which makes no samples: {folder / WORD_REPORT} says how many words "
            "it gets right, and `dheads train` prints it again"
        )
    rows = samples_folder.read_samples(folder)
    settings = settings_near(folder)
    metrics = settings.metrics if metrics is None else metrics
    detector = detector or settings.detector
    names = [metric.use for metric in metrics]
    if not names or len(set(names)) < len(names):
        raise DheadsError(f"metrics asked for: {', '.join(names) or 'none'}; name one or more, each once.")

    def fresh_metrics() -> dict[str, Metric]:
        return {metric.use: _build("metrics", metric, device) for metric in metrics}

    find_landmarks = _build("landmark_detectors", detector, device)
    weights = {name: metric.weights for name, metric in fresh_metrics().items()}
    n_real = len({(row.corpus, row.clip_id) for row in rows}) if ground_truth else 0
    with console.progress("eval", total=len(rows) + n_real, unit="clips") as bar:
        pairs = read_pairs(folder, rows, find_landmarks, ground_truth=ground_truth)
        scores = score(pairs, fresh_metrics, bar.advance)
    detector_weights = getattr(find_landmarks, "weights", "")  # a detector may leave it unsaid
    report = make_report(folder, scores, metrics, weights, detector, detector_weights)
    write_files(folder, report, scores)
    show(report, scores)
    console.result(report)
    return report


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


def read_pairs(
    folder: Path, rows: Sequence[SampleRow], detector: LandmarkDetector, *, ground_truth: bool
) -> Iterator[Pair]:
    """Read generated clips with their references, one after another.

    A reference has the landmarks that preprocessing measured on the source video. In the ground-truth row the same
    frames have landmarks looked for in the crops, as generated clips have.

    Raises:
        DheadsError: a video, corpus or reference clip is missing, or a video has another size than its reference.
    """
    if missing := [row.file for row in rows if not (folder / row.file).is_file()]:
        raise DheadsError(f"{folder} lacks {', '.join(missing)}: run `dheads sample` again.")
    corpora = {name: Corpus(name) for name in {row.corpus for row in rows}}
    refs = {(row.corpus, row.clip_id): corpora[row.corpus].clip(row.clip_id) for row in rows}
    rows_of = defaultdict(list)  # so that each real clip is decoded once
    for row in rows:
        rows_of[row.corpus, row.clip_id].append(row)
    for (corpus, clip_id), its_rows in rows_of.items():
        real = corpora[corpus].load(refs[corpus, clip_id])
        for row in its_rows:
            yield generated_pair(folder / row.file, row, real, detector)
        if ground_truth:
            yield ground_truth_pair(its_rows[0], real, detector)


def generated_pair(path: Path, row: SampleRow, real: StoredClip, detector: LandmarkDetector) -> Pair:
    """A generated video and its reference, over the frames that both have.

    Raises:
        DheadsError: the video is damaged, or its size is another than the reference's.
    """
    frames = read_video(path, real.fps).frames
    if frames.shape[1:] != real.frames.shape[1:]:
        sizes = [f"{shape[2]} x {shape[1]} px" for shape in (frames.shape, real.frames.shape)]
        raise DheadsError(f"{path} is {sizes[0]}, its reference {row.clip_id} in {row.corpus} {sizes[1]}.")
    if abs(len(frames) - len(real.frames)) > MAX_FRAMES_APART and row.kind == "synced":
        console.warn(f"{path} has {len(frames)} frames, its reference {len(real.frames)}: the first are compared.")
    n_frames = min(len(frames), len(real.frames))
    identity = _identity_frame(row, real)
    facts = {
        "id": row.id, "clip_id": row.clip_id, "audio_clip_id": row.audio_clip_id, "speaker": row.speaker,
        "n_frames": n_frames,
    }  # fmt: skip
    clip = ScoredClip(row.id, row.speaker, real.fps, frames[:n_frames], identity, detector)
    return Pair(ROW_OF_KIND[row.kind], clip, _reference(real, n_frames, identity), facts)


def ground_truth_pair(row: SampleRow, real: StoredClip, detector: LandmarkDetector) -> Pair:
    """The row's real clip against itself; only the landmarks are measured anew."""
    n_frames, identity = len(real.frames), _identity_frame(row, real)
    facts = {
        "id": real.id, "clip_id": real.id, "audio_clip_id": real.id, "speaker": real.speaker, "n_frames": n_frames
    }  # fmt: skip
    clip = ScoredClip(real.id, real.speaker, real.fps, real.frames, identity, detector)
    return Pair(GROUND_TRUTH, clip, _reference(real, n_frames, identity), facts)


def score(
    pairs: Iterable[Pair], fresh_metrics: Callable[[], Mapping[str, Metric]], scored: Callable[[], None]
) -> Scores:
    """Run metrics over pairs.

    Args:
        pairs: taken one by one, and let go.
        fresh_metrics: makes the metrics by name; asked once for each row of the table.
        scored: called after each pair.
    """
    metrics_of: dict[str, Mapping[str, Metric]] = {}
    clips = []
    for pair in pairs:
        if pair.row not in metrics_of:
            metrics_of[pair.row] = fresh_metrics()
        values: dict[str, float | str] = {}
        for metric in metrics_of[pair.row].values():
            values.update(metric.update(pair.clip, pair.reference))
        clips.append({"row": pair.row, **pair.facts, "values": values})
        scored()
    totals: dict[str, dict[str, float]] = {}
    for row in (row for row in ROWS if row in metrics_of):
        totals[row] = {name: value for metric in metrics_of[row].values() for name, value in metric.compute().items()}
    return Scores(totals, clips)


def _reference(real: StoredClip, n_frames: int, identity: NDArray[np.uint8]) -> ScoredClip:
    return ScoredClip(
        real.id, real.speaker, real.fps, real.frames[:n_frames], identity, lambda _: real.landmarks[:n_frames]
    )


def _identity_frame(row: SampleRow, real: StoredClip) -> NDArray[np.uint8]:
    if not 0 <= row.identity_frame < len(real.frames):
        raise DheadsError(
            f"sample {row.id}: {row.clip_id} has no frame {row.identity_frame}; make it again with `dheads sample`."
        )
    return np.asarray(real.frames[row.identity_frame])


def _build(kind: str, component: Component, device: str) -> Any:
    """Build a component, handing the device to one that takes it."""
    takes_device = "device" in registry.signature_of(registry.load(kind, component.use))
    given = {"device": str(choose_device(device))} if takes_device else {}
    return registry.build(kind, component.use, given | component.options)
