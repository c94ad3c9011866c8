"""`dheads data stats`: what is in a preprocessed corpus, in the terminal, as JSON, as a page and as a picture."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from dheads_cli import console
from dheads_cli.data import align
from dheads_cli.data.manifest import SETTINGS, find_manifest
from dheads_cli.errors import DheadsError
from dheads_cli.run.data_stats import clips, manifest, sample
from dheads_cli.run.data_stats.checks import (
    SPLIT_BY,
    Check,
    check_faces,
    check_files,
    check_skipped,
    check_splits,
    check_sync,
)
from dheads_cli.run.data_stats.measures import distribution
from dheads_cli.run.data_stats.sync import LagCurve, correlations, lag_curve

PAGE_ENDING, PICTURE_SUFFIX = "-stats.html", ".png"


@dataclass(frozen=True)
class Stats:
    """All that is told of a corpus.

    Attributes:
        numbers: what `--json` prints.
        checks: what they mean.
        sample: the clips that were decoded.
        curve: how well mouth opening and loudness agree, by lag.
        extremes: clip id -> a frame of an outlier, where it could be decoded.
    """

    numbers: dict[str, Any]
    checks: list[Check]
    sample: clips.Sample
    curve: LagCurve | None
    extremes: dict[str, NDArray[np.uint8]]


def stats(folder: Path, out: Path | None = None, *, limit: int = 200, seed: int = 0) -> dict[str, Any]:
    """Look at a preprocessed corpus: print tables, write a page and a picture.

    Args:
        folder: the preprocessed corpus.
        out: folder for page and picture, or the page's path; None puts them beside the corpus.
        limit: most clips to decode.
        seed: of the choice of clips.

    Returns:
        The numbers.

    Raises:
        DheadsError: the folder is not a finished preprocessed corpus, or the page can't be written.
    """
    page = page_path(folder, out)
    find_manifest(folder)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)  # a wrong place is told before the work, not after
    except OSError as error:
        raise DheadsError(f"{page.parent} can't be made: {error.strerror or error}.") from error
    found = gather(folder, limit=limit, seed=seed)
    from dheads_cli.run.data_stats.page import write_page
    from dheads_cli.run.data_stats.table import show

    picture = page.with_suffix(PICTURE_SUFFIX)
    found.numbers["files"] = {"page": str(page), "picture": str(picture)}
    write_page(found, page, picture)
    show(found)
    console.result(found.numbers)
    return found.numbers


def page_path(folder: Path, out: Path | None) -> Path:
    """Where the page goes: beside the corpus by default, since the corpus's folder is for preprocessing alone."""
    if out is not None and out.suffix.lower() in (PICTURE_SUFFIX, ".pdf", ".json"):
        raise DheadsError(f"{out}: name the page (.html), or a folder; the picture goes beside the page.")
    whole = folder.resolve()
    name = f"{whole.name}{PAGE_ENDING}"
    if out is None:
        return (folder.parent if folder.name not in ("", "..") else whole.parent) / name
    return out if out.suffix.lower() in (".html", ".htm") else out / name


def gather(folder: Path, *, limit: int, seed: int) -> Stats:
    """All numbers of a corpus, and the clips that are shown."""
    columns = manifest.read_columns(folder)
    made_by = _made_by(folder)
    settings: dict[str, Any] = made_by.get("settings") or {}
    described = sample.read_descriptions(columns, folder, seed)
    fps = described.fps.most_common(1)[0][0] if described.fps else settings.get("fps")
    margins = _margins(settings)
    chosen = sample.choose_spread(columns, limit, seed)
    seen = clips.look_at(folder, {int(i): columns.row(int(i)) for i in chosen}, margins)
    curve = _curve(seen, fps)
    numbers: dict[str, Any] = {
        "corpus": str(folder),
        "seed": seed,
        "totals": _totals(columns, fps, described, seen),
        "split_by": _split_rule(made_by, columns),
        "splits": manifest.by_label(columns, "split", fps),
        "speakers": manifest.by_label(columns, "speaker", fps),
        "skipped": manifest.skipped_by_reason(columns),
        "text": sample.text_numbers(described),
        "measures": _measures(columns, described, seen, fps),
        "sample": _sample_numbers(seen, curve),
        "broken_shards": manifest.broken_shards(columns, folder),
        "made_by": made_by,
    }
    speakers = {name: row["splits"] for name, row in numbers["speakers"].items()}
    numbers["leakage"] = {
        "speakers": {name: in_splits for name, in_splits in speakers.items() if len(in_splits) > 1},
        "sources": manifest.sources_in_two_splits(columns),
        "texts": sample.texts_in_two_splits(described, columns.names["split"]),
    }
    checks = _checks(numbers, described, seen, curve)
    numbers["checks"] = [asdict(check) for check in checks]
    return Stats(numbers, checks, seen, curve, _extremes(folder, columns, numbers["measures"]))


def _curve(seen: clips.Sample, fps: float | None) -> LagCurve | None:
    """The lag curve of the clips that have the corpus's frame rate: lags are counted in frames."""
    if fps is None:
        return None
    return lag_curve([correlations(look.opening, look.loudness, fps) for look in seen.looks if look.fps == fps], fps)


def _made_by(folder: Path) -> dict[str, Any]:
    """preprocess.yaml; empty where there is none, as in hand-made corpora."""
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DheadsError(f"{path} can't be read ({error}): restore it, or preprocess the corpus again.") from error
    if not isinstance(record, dict) or not isinstance(record.get("settings", {}), dict):
        raise DheadsError(f"{path} must hold settings by name: restore it, or preprocess the corpus again.")
    return record


def _margins(settings: Mapping[str, Any]) -> tuple[float, float, float]:
    names = ("margin_side", "margin_above", "margin_below")
    side, above, below = (float(settings.get(name, value)) for name, value in zip(names, align.MARGINS, strict=True))
    return side, above, below


def _split_rule(made_by: Mapping[str, Any], columns: manifest.Columns) -> str | None:
    """What the splits were made by: "text", "speaker" or "video"; None where that is not known."""
    rule = SPLIT_BY.get(str(made_by.get("layout")))
    return "video" if rule == "speaker" and len(columns.names["speaker"]) < 2 else rule


def _totals(
    columns: manifest.Columns, fps: float | None, described: sample.Descriptions, seen: clips.Sample
) -> dict[str, Any]:
    n_frames = int(columns.n_frames[columns.ok].sum())
    rates = described.sample_rate
    return {
        "clips": int(columns.ok.sum()),
        "skipped": int((~columns.ok).sum()),
        "frames": n_frames,
        "hours": n_frames / fps / 3600 if fps else None,
        "fps": fps,
        "other_fps": {str(rate): n for rate, n in described.fps.items() if rate != fps},
        "size_px": seen.size,
        "sample_rate_hz": rates.most_common(1)[0][0] if rates else None,
        "speakers": len(np.unique(columns.codes["speaker"][columns.ok])),
        "bytes": int(columns.n_bytes.sum()),
        "shards": len(np.unique(columns.codes["shard"][columns.ok])),
    }


def _measures(
    columns: manifest.Columns, described: sample.Descriptions, seen: clips.Sample, fps: float | None
) -> dict[str, Any]:
    """Distributions: clip length, every quality measure, and what was measured on the decoded clips."""
    stored = np.flatnonzero(columns.ok)

    def told(values: NDArray[np.float64], rows: NDArray[np.int64]) -> dict[str, Any]:
        return distribution(values, rows, lambda row: columns.row(row).id)

    frames = columns.n_frames[stored].astype(np.float64)
    measures = {"clip_length_s" if fps else "clip_length_frames": told(frames / (fps or 1), stored)}
    for name, values in sample.complete_quality(columns, described).items():
        measures[name] = told(values[stored], stored)
    rows = np.array([look.row for look in seen.looks], np.int64)
    measures["eyes_against_speaker_mean_r"] = told(clips.likeness_of_eyes(seen.looks), rows) | {"sample": True}
    measures["landmarks_off_median_iod"] = told(clips.stray_of_landmarks(seen.looks), rows) | {"sample": True}
    return measures


def _sample_numbers(seen: clips.Sample, curve: LagCurve | None) -> dict[str, Any]:
    sync = None
    if curve is not None:
        sync = {
            "clips": curve.n_clips,
            "lag_frames": int(curve.lags[curve.best]),
            "r": float(curve.r[curve.best]),
            "r_error": float(curve.error[curve.best]),
            "r_by_lag_frames": {str(lag): float(r) for lag, r in zip(curve.lags, curve.r, strict=True)},
        }
    return {
        "clips": len(seen.looks),
        "unreadable": seen.unreadable,
        "eye_sharpness": clips.sharpness(seen.looks),
        "eye_sharpness_by_speaker": clips.sharpness_by_speaker(seen.looks),
        "mean_faces": {face.name: {"clips": face.n_clips, "eye_sharpness": face.sharpness} for face in seen.mean_faces},
        "mouth_and_loudness": sync,
    }


def _checks(
    numbers: Mapping[str, Any], described: sample.Descriptions, seen: clips.Sample, curve: LagCurve | None
) -> list[Check]:
    totals, of_sample = numbers["totals"], numbers["sample"]
    return [
        check_files(numbers["broken_shards"], seen.unreadable | described.unreadable, len(seen.looks)),
        check_skipped(totals["skipped"], totals["clips"] + totals["skipped"], numbers["skipped"]),
        check_splits(numbers),
        check_faces(
            of_sample["eye_sharpness_by_speaker"], of_sample["eye_sharpness"], clips.likeness_of_eyes(seen.looks)
        ),
        check_sync(curve),
    ]


def _extremes(
    folder: Path, columns: manifest.Columns, measures: Mapping[str, Mapping[str, Any]]
) -> dict[str, NDArray[np.uint8]]:
    """The middle frame of every outlier of the whole corpus's measures."""
    outliers = [
        found for measure in measures.values() if not measure.get("sample") for found in measure.get("outliers", [])
    ]
    frames: dict[str, NDArray[np.uint8]] = {}
    lines = sorted({found["line"] for found in outliers})
    with console.progress("outliers", total=len(lines), unit="clips") as bar:
        for line in lines:
            with contextlib.suppress(DheadsError):  # a damaged clip is told elsewhere: this is only its picture
                clip = clips.load_whole(folder, columns.row(line - 1))
                frames[clip.id] = clip.frames[len(clip.frames) // 2]
            bar.advance(1)
    return frames
