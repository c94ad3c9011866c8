"""`dheads drift`: how models, or ways to sample from one, hold over a minute of speech. Read from `drift` downwards.

drift.json                 settings, sentences, every second's values, trends
strip-CLIP.png             a row for each: real, then the table's; columns: identity, 1, 10, 30, 60 s
<number>/CLIP.mp4          the videos
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import dheads_cli
from dheads_cli import console
from dheads_cli.data.long_clips import LongClip, join_clips, plan_long_clips
from dheads_cli.data.media import VideoWriter
from dheads_cli.data.provenance import Provenance, made_here
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.files import remove_parts, sha256_of, write_atomically
from dheads_cli.model.build import build_component, choose_device
from dheads_cli.model.checkpoint import Trained, load_model
from dheads_cli.recipe import Sample
from dheads_cli.recipe_section import Component
from dheads_cli.run.drift_series import END_S, Gauges, facts_of, stored
from dheads_cli.run.eval_pairs import ScoredClip
from dheads_cli.run.frames import chosen_settings, draw_spoken

REPORT = "drift.json"
SHOWN_S = (1, 10, 30, 60)  # moments of the strips; those past the end are left out, the end is added
MIN_SECONDS = 10


@dataclass(frozen=True)
class Variant:
    """A model and a way to sample from it."""

    label: str
    trained: Trained
    settings: Sample

    def facts(self, seconds_per_frame: float) -> dict[str, Any]:
        """What it is and how long a frame took, for the report."""
        return {
            "label": self.label,
            "checkpoint": str(self.trained.path),
            "checkpoint_sha256": sha256_of(self.trained.path),
            "settings": self.settings.model_dump(mode="json"),
            "seconds_per_frame": round(seconds_per_frame, 4),
        }


def drift(
    models: Sequence[str],
    *,
    seconds: float = 60.0,
    clips: int = 4,
    split: str = "test",
    speaker: str | None = None,
    data: Path | None = None,
    sets: Sequence[str] = (),
    tries: Sequence[str] = (),
    out: Path | None = None,
    seed: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Draw long clips, measure each second, and print how each measure changes.

    Args:
        models: run folders, checkpoints or shipped models; each is measured with each of `tries`.
        seconds: length of a clip; sentences of one speaker that training did not have are joined to it.
        clips: at most so many; an interval needs two.
        split: where the sentences are from.
        speaker: only this one's.
        data: preprocessed corpus; None is the first model's data.path, the first where it names several.
        sets: `sample.KEY=VALUE` each, for all.
        tries: one way to sample each: `sample.KEY=VALUE`, several with spaces between; none is the recipe's.
        out: folder to write; None is runs/<name>/drift.
        seed: None is the first recipe's.
        device: torch device or "auto".
        overwrite: replace a report that is there.

    Returns:
        What drift.json holds; also printed under --json.

    Raises:
        DheadsError: a model or a setting is wrong, or no speaker has that much speech.
    """
    if seconds < MIN_SECONDS:
        raise DheadsError(f"--seconds {seconds:g}: too short for a slope; take at least {MIN_SECONDS}")
    variants = variants_of(models, sets, tries, choose_device(device))
    recipe = variants[0].trained.recipe
    seed = recipe.seed if seed is None else seed
    folder = out or Path("runs") / recipe.name / "drift"
    if (folder / REPORT).exists() and not overwrite:
        raise DheadsError(f"{folder / REPORT}: is there already; choose another folder with -o, or --overwrite it")
    corpus = Corpus(data or recipe.data.paths[0])
    plan = plan_long_clips(corpus, split, speaker, seconds, clips, recipe.preprocess.fps)
    if len(plan) < clips:
        console.warn(f"{corpus.folder}: {len(plan)} clips, not {clips}: {seconds:g} s each, and no sentence twice")
    n_frames = round(seconds * recipe.preprocess.fps)
    real = [join_clips(corpus, refs, f"{refs[0].speaker}-{i}", n_frames) for i, refs in enumerate(plan)]
    check_fit(variants, real[0], corpus)
    folder.mkdir(parents=True, exist_ok=True)
    gauges = Gauges(
        build_component("landmark_detectors", recipe.evaluate.detector),
        build_component("metrics", Component(use="drift")),
        scored(real),
    )
    facts = {
        "version": dheads_cli.__version__,
        "corpus": str(corpus.folder),
        "split": split,
        "seconds": seconds,
        "seed": seed,
        "metric": gauges.metric.weights,
        "detector": recipe.evaluate.detector.model_dump(),
    }
    report = measure(variants, real, gauges, folder, facts)
    show(report, folder)
    console.result(report)
    return report


def measure(
    variants: Sequence[Variant],
    real: Sequence[LongClip],
    gauges: Gauges,
    folder: Path,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Draw and measure each variant; after each the report, the videos and the strips so far are written.

    Args:
        variants: the table's rows below the real clips'.
        real: whose first frames and sound the clips are drawn from.
        gauges: what they are measured with.
        folder: to write to.
        facts: what the report begins with; its "seed" decides the draws.

    Returns:
        The report.
    """
    rows: list[dict[str, Any]] = [{"label": "real", **facts_of(gauges.of_real(real))}]
    report = {**facts, "clips": {clip.id: list(clip.clip_ids) for clip in real}, "rows": rows}
    strips = [[strip(clip.frames, clip)] for clip in real]
    n_frames = len(real[0].frames)
    with console.progress("drift", total=len(variants) * n_frames, unit="frames") as bar:
        for number, variant in enumerate(variants):
            began = time.monotonic()
            drawn = draw(variant, real, facts["seed"], bar.advance)
            spent = (time.monotonic() - began) / (len(real) * n_frames)
            save_videos(folder / f"{number:02d}", real, drawn, made_here(variant.trained.recipe.name, facts["seed"]))
            rows.append(variant.facts(spent) | facts_of(gauges.of_drawn(real, drawn)))
            for pictures, clip, frames in zip(strips, real, drawn, strict=True):
                pictures.append(strip(frames, clip))
                Image.fromarray(np.vstack(pictures)).save(folder / f"strip-{clip.id}.png")
            write_atomically(folder / REPORT, json.dumps(report, indent=1))
    return report


def variants_of(
    models: Sequence[str], sets: Sequence[str], tries: Sequence[str], device: torch.device
) -> list[Variant]:
    """Each model with each way to sample.

    Raises:
        DheadsError: no such model, or a setting is wrong.
    """
    variants = []
    for reference in models:
        trained = load_model(reference, device)
        for text in tries or [""]:
            changes = re.split(r"\s+(?=[\w.]+=)", text.strip()) if text.strip() else []  # a value may have blanks in it
            settings = chosen_settings(trained, sets=[*sets, *changes])
            name = str(reference) if len(models) > 1 else trained.recipe.name
            label = " ".join([name, *(change.removeprefix("sample.") for change in changes)])
            variants.append(Variant(label, trained, settings))
    return variants


def check_fit(variants: Sequence[Variant], clip: LongClip, corpus: Corpus) -> None:
    """Refuse models that take other frames or another sound than the corpus has.

    Raises:
        DheadsError: the first that does.
    """
    size = clip.frames.shape[1]
    for variant in variants:
        recipe, rate = variant.trained.recipe, variant.trained.parts.audio_encoder.sample_rate
        if (recipe.model.size, rate, recipe.preprocess.fps) != (size, clip.sample_rate, clip.fps):
            raise DheadsError(
                f"{corpus.folder}: holds {size} px at {clip.fps:g} frames a second and {clip.sample_rate} Hz, but "
                f"{variant.label} takes {recipe.model.size} px, {recipe.preprocess.fps} and {rate} Hz: choose --data"
            )


def draw(
    variant: Variant, clips: Sequence[LongClip], seed: int, advance: Callable[[int], None]
) -> list[NDArray[np.uint8]]:
    """Draw all clips side by side, each from its first real frame; uint8 RGB [F, H, W, 3] each."""
    frames = draw_spoken(
        variant.trained.recipe,
        variant.trained.parts,
        variant.settings,
        np.stack([clip.frames[0] for clip in clips]),
        [clip.waveform for clip in clips],
        [len(clip.frames) for clip in clips],
        clips[0].fps,
        [seed * 1_000_003 + number for number in range(len(clips))],
    )
    drawn = np.empty((len(clips), *clips[0].frames.shape), np.uint8)
    for k, pictures in enumerate(frames):
        drawn[:, k] = pictures
        advance(1)
    return list(drawn)


def save_videos(
    folder: Path, clips: Sequence[LongClip], drawn: Sequence[NDArray[np.uint8]], made: Provenance
) -> None:
    """Write each clip with its sound, and what made it, to folder/CLIP.mp4."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_parts(folder)
    for clip, frames in zip(clips, drawn, strict=True):
        size = frames.shape[2], frames.shape[1]
        path = folder / f"{clip.id}.mp4"
        sound, tags = (clip.waveform, clip.sample_rate), made.tags(clip.id)
        with VideoWriter(path, clip.fps, size, *sound, metadata=tags, overwrite=True) as video:
            for frame in frames:
                video.write(frame)


def strip(frames: NDArray[np.uint8], clip: LongClip) -> NDArray[np.uint8]:
    """The identity frame, those at SHOWN_S as far as there are, and the last, side by side: [H, n W, 3]."""
    moments = [min(round(second * clip.fps), len(frames) - 1) for second in SHOWN_S]
    return np.hstack([clip.frames[0], *(frames[k] for k in dict.fromkeys([*moments, len(frames) - 1]))])


def scored(real: Sequence[LongClip]) -> list[ScoredClip]:
    """The real clips as metrics see them."""
    return [ScoredClip(each.id, each.speaker, each.fps, each.frames, each.frames[0], stored(each)) for each in real]


def show(report: dict[str, Any], folder: Path) -> None:
    """Print the table."""
    table = []
    for row in report["rows"]:
        for name, trend in row["trends"].items():
            interval = "-" if trend["low"] is None else f"{trend['low']:+.3f} ... {trend['high']:+.3f}"
            steady = {True: "yes", False: "no", None: "-"}[trend["steady"]]
            numbers = ["-" if trend[key] is None else f"{trend[key]:.3f}" for key in ("first", "last")]
            table.append([row["label"], name, *numbers, f"{trend['slope']:+.3f}", interval, steady])
    columns = ["", "measure", f"first {END_S} s", f"last {END_S} s", "a minute", "95 %", "steady"]
    title = f"dheads drift: {len(report['clips'])} clips of {report['seconds']:g} s, split {report['split']}"
    console.table(title, columns, table, footer=f"Every second, videos and pictures: {folder}")
