"""What `dheads data probe` tells: tables on the terminal, JSON, and a CSV with a line for each clip."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dheads_cli import console
from dheads_cli.files import write_atomically
from dheads_cli.run.probe_fit import STRENGTHS, Score

if TYPE_CHECKING:
    from dheads_cli.run.probe import Probed, Subject
    from dheads_cli.run.probe_clips import SoundClip

TITLES = {"test": "Held-out clips", "test-speakers": "Held-out speakers", "left_out": "Each speaker by all others"}


def make_report(
    corpus: Path,
    clips: Mapping[str, Sequence[SoundClip]],
    n_silent: int,
    subjects: Sequence[Subject],
    results: Sequence[Probed],
    speeds: Sequence[float],
    audio_context: int,
) -> dict[str, Any]:
    """All of it as plain values.

    Args:
        corpus: its folder.
        clips: by split.
        n_silent: clips left out because no mouth moves in them.
        subjects: the encoders.
        results: of each.
        speeds: time each takes for 10 s of speech, s.
        audio_context: m_y.
    """
    fps = clips["train"][0].fps
    encoders = []
    for subject, result, seconds in zip(subjects, results, speeds, strict=True):
        encoder = subject.encoder
        encoders.append({
            "encoder": subject.label,
            "note": subject.note,
            "embed_dim": encoder.embed_dim,
            "stride_frames": encoder.stride_frames,
            "context_frames": encoder.context_frames,
            "latency_s": (encoder.stride_frames + encoder.context_frames) / fps,
            "seconds_for_10s": seconds,
            "strength": result.probe.strength,
            "scores": {split: _summary(score) for split, score in result.scores.items()},
            "left_out": _left_out(clips["train"], result.left_out),
            "changed": {
                name: {split: _summary(score) for split, score in scores.items()}
                for name, scores in result.changed.items()
            },
        })
    return {
        "corpus": str(corpus),
        "audio_context": audio_context,
        "clips": {split: len(members) for split, members in clips.items()},
        "speakers": {split: dict(Counter(clip.speaker for clip in members)) for split, members in clips.items()},
        "clips_without_a_moving_mouth": n_silent,
        "encoders": encoders,
    }


def _summary(score: Score) -> dict[str, Any]:
    summary = _of_clips(list(score.r.values())) | {"lag_frames": score.lag}
    return summary | {"shuffled_mean": float(np.mean(list(score.shuffled.values())))} if score.shuffled else summary


def _left_out(clips: Sequence[SoundClip], r: Mapping[str, float]) -> dict[str, Any]:
    """Over all clips, and the mean of each speaker's; empty where that was not asked for."""
    if not r:
        return {}
    speakers = sorted({clip.speaker for clip in clips})
    means = {s: float(np.mean([r[clip.id] for clip in clips if clip.speaker == s])) for s in speakers}
    return {"mean_over_speakers": float(np.mean(list(means.values()))), "speakers": means}


def _of_clips(r: Sequence[float]) -> dict[str, Any]:
    return {
        "n_clips": len(r),
        "mean": float(np.mean(r)),
        "median": float(np.median(r)),
        "min": float(np.min(r)),
        "standard_error": float(np.std(r, ddof=1) / len(r) ** 0.5) if len(r) > 1 else None,
    }


def write_csv(
    path: Path,
    clips: Mapping[str, Sequence[SoundClip]],
    subjects: Sequence[Subject],
    results: Sequence[Probed],
) -> None:
    """A line for each encoder, change of the sound, and clip: r, and r with other clips' sound where that is known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["encoder", "change", "split", "id", "speaker", "r", "shuffled_r"])
    for subject, result in zip(subjects, results, strict=True):
        for change, scores in {"": result.scores, **result.changed}.items():
            for split, score in scores.items():
                for clip in (clip for clip in clips[split] if clip.id in score.r):
                    floor = score.shuffled.get(clip.id, "")
                    writer.writerow([subject.label, change, split, clip.id, clip.speaker, score.r[clip.id], floor])
    write_atomically(path, text.getvalue())


def show(report: Mapping[str, Any]) -> None:
    """Print a table of each held-out split, of left-out speakers, of changed sound, and of the encoders."""
    encoders = report["encoders"]
    for split in encoders[0]["scores"]:
        n_clips = encoders[0]["scores"][split]["n_clips"]
        console.table(
            f"{TITLES[split]}: Pearson r of the probe's trace and the mouth opening, {n_clips} clips ({split})",
            ["encoder", "mean", "median", "min", "shuffled", "lag"],
            [[each["encoder"], *_score_cells(each["scores"][split])] for each in encoders],
        )
        if changes := [name for name, scores in encoders[0]["changed"].items() if split in scores]:
            console.table(
                f"{TITLES[split]}: mean r under changed sound, and the share lost of what it is above the floor",
                ["change", "clips", *(each["encoder"] for each in encoders)],
                [_changed(encoders, split, name) for name in changes],
            )
    if encoders[0]["left_out"]:
        speakers = list(encoders[0]["left_out"]["speakers"])
        console.table(
            f"{TITLES['left_out']}: mean r, strength chosen with all",
            ["encoder", "mean", *speakers],
            [
                [each["encoder"], *(f"{value:.3f}" for value in _flat(each["left_out"]))]
                for each in encoders
            ],
        )  # fmt: skip
    rows = [
        [
            each["encoder"], str(each["embed_dim"]), f"{each['latency_s']:.2f}", f"{each['seconds_for_10s']:.3f}",
            f"{each['strength']:g}", each["note"],
        ]
        for each in encoders
    ]  # fmt: skip
    console.table("Encoders", ["encoder", "D", "latency [s]", "s for 10 s", "ridge", "note"], rows, _footer(report))


def _score_cells(score: Mapping[str, Any]) -> list[str]:
    floor = f"{score['shuffled_mean']:.3f}" if "shuffled_mean" in score else "-"
    return [*(f"{score[name]:.3f}" for name in ("mean", "median", "min")), floor, f"{score['lag_frames']:+d}"]


def _changed(encoders: Sequence[Mapping[str, Any]], split: str, name: str) -> list[str]:
    """A change's row: how many clips, and what each encoder keeps."""
    cells = []
    for each in encoders:
        clean, changed = each["scores"][split], each["changed"][name][split]
        above = clean["mean"] - clean.get("shuffled_mean", 0.0)
        lost = f" ({(clean['mean'] - changed['mean']) / above:.0%})" if above > 0 else ""
        cells.append(f"{changed['mean']:.3f}{lost}")
    return [name, str(encoders[0]["changed"][name][split]["n_clips"]), *cells]


def _flat(left_out: Mapping[str, Any]) -> list[float]:
    return [left_out["mean_over_speakers"], *left_out["speakers"].values()]


def _footer(report: Mapping[str, Any]) -> str:
    """What the numbers depend on, and what to know when reading them."""
    counts, m_y = report["clips"], report["audio_context"]
    lines = [
        f"Fitted on {counts['train']} clips, ridge chosen on {counts['val']} (val); windows of {2 * m_y + 1} frames."
    ]
    if n_silent := report["clips_without_a_moving_mouth"]:
        lines.append(f"{n_silent} clips are left out: no mouth moves in them.")
    at_end = [each["encoder"] for each in report["encoders"] if each["strength"] in (STRENGTHS[0], STRENGTHS[-1])]
    if at_end:
        lines.append(f"At the end of what was tried lies the ridge of: {', '.join(at_end)}.")
    return "\n".join(lines)
