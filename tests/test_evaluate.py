"""`dheads eval` on a samples folder whose scores are known: frames are gray, and the grayer the wider the mouth."""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dheads_cli.data.align import MEAN_FACE
from dheads_cli.data.manifest import ManifestRow, write_rows
from dheads_cli.data.media import VideoWriter
from dheads_cli.data.samples import SampleRow, read_samples, write_samples, write_settings
from dheads_cli.data.shard_writer import ShardWriter
from dheads_cli.data.stored_clip import StoredClip, encode_sample
from dheads_cli.errors import DheadsError
from dheads_cli.protocols import Clip, Metric
from dheads_cli.recipe_section import Component
from dheads_cli.run.eval_measure import Gauge, measure_all
from dheads_cli.run.eval_pairs import sample_groups
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH, SHUFFLED, intervals, make_report, show, write_files
from dheads_cli.run.evaluate import Scores, evaluate, newest_samples, score, settings_near
from dheads_components.metrics.lmd import LMD
from dheads_components.metrics.mouth import Mouth
from dheads_components.metrics.psnr import PSNR

N_FRAMES, SIZE = 30, 32


def gray_frames(opening: NDArray[np.float64]) -> NDArray[np.uint8]:
    levels = np.round(40 + 400 * opening).astype(np.uint8)
    return np.repeat(levels, SIZE * SIZE * 3).reshape(len(opening), SIZE, SIZE, 3)


def face(opening: NDArray[np.float64]) -> NDArray[np.float32]:
    points = np.repeat(MEAN_FACE[None] * 24 + 4, len(opening), axis=0)
    points[:, [67, 66, 65], 1] += 10 * opening[:, None]
    return points.astype(np.float32)


class GrayDetector:
    """Reads the mouth's opening from the gray; counts how often it is asked."""

    def __init__(self) -> None:
        self.n_clips = 0

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.n_clips += 1
        return face((frames.mean(axis=(1, 2, 3)) - 40) / 400)

    def all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return [self(image[None])[0]]


def speech(seed: int, n_frames: int = N_FRAMES) -> NDArray[np.float64]:
    return np.random.RandomState(seed).rand(n_frames) * 0.4


def write_corpus(folder: Path, openings: dict[str, NDArray[np.float64]]) -> None:
    """A preprocessed corpus of one shard; "s1/a" is clip a of speaker s1."""
    folder.mkdir()
    shard, rows = ShardWriter(folder / "test-000000.tar"), []
    for clip_id, opening in openings.items():
        speaker, key = clip_id.split("/")[0], clip_id.replace("/", "_")
        waveform = np.zeros(round(len(opening) / 25 * 16000), np.float32)
        clip = StoredClip(
            clip_id, speaker, "test", gray_frames(opening), waveform, face(opening), 25.0, sample_rate=16000, info={}
        )
        members, sha256 = shard.add(key, encode_sample(clip))
        rows.append(
            ManifestRow(
                clip_id, key, "test", speaker, f"{clip_id}.mp4", "ok", shard="test-000000.tar",
                n_frames=len(opening), members=members, sha256=sha256,
            )
        )  # fmt: skip
    shard.close()
    write_rows(folder / "manifest.jsonl", rows)


def write_video(path: Path, opening: NDArray[np.float64]) -> None:
    with VideoWriter(path, 25, (SIZE, SIZE)) as writer:
        for frame in gray_frames(opening):
            writer.write(frame)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Two clips, generated as the real ones speak (one of them two frames short), and with each other's speech."""
    real = {"s1/a": speech(1), "s2/b": speech(2)}
    write_corpus(tmp_path / "corpus", real)
    folder = tmp_path / "runs" / "gray" / "samples" / "step-000100-test"
    folder.mkdir(parents=True)
    rows = []
    for clip_id, other_id in (("s1/a", "s2/b"), ("s2/b", "s1/a")):
        name = clip_id.replace("/", "_")
        row = SampleRow(
            id=name, file=f"{name}.mp4", speaker=clip_id[:2], split="test", corpus=str(tmp_path / "corpus"),
            clip_id=clip_id, audio_clip_id=clip_id, identity_frame=0, seed=0, kind="synced",
        )  # fmt: skip
        shuffled = replace(row, file=f"{name}.shuffled.mp4", audio_clip_id=other_id, kind="shuffled")
        write_video(folder / row.file, real[clip_id][: 28 if clip_id == "s1/a" else None])
        write_video(folder / shuffled.file, real[other_id])
        rows += [row, shuffled]
    write_samples(folder, rows)
    write_settings(folder, {"recipe": "gray", "step": 100})
    return folder


GAUGE = Gauge((), Component(use="mediapipe"), "cpu", follows=False)


def fresh_metrics() -> dict[str, Metric]:
    return {"mouth": Mouth(), "lmd": LMD(), "psnr": PSNR()}


def scored(folder: Path, detector: GrayDetector, *, ground_truth: bool = True) -> Scores:
    groups = sample_groups(folder, read_samples(folder), ground_truth=ground_truth)
    metrics = fresh_metrics()
    return score(measure_all(groups, GAUGE, metrics, detector), fresh_metrics, metrics)


def test_rows_have_their_ceiling_and_their_floor(samples: Path) -> None:
    totals = scored(samples, GrayDetector()).totals
    assert list(totals) == [GENERATED, SHUFFLED, GROUND_TRUTH]
    assert totals[GENERATED]["mouth r min"] > 0.99
    assert totals[GROUND_TRUTH]["mouth r min"] > 0.99
    floor = np.corrcoef(speech(1), speech(2))[0, 1]
    assert totals[SHUFFLED]["mouth r"] == pytest.approx(floor, abs=0.02)
    assert totals[GENERATED]["LMD [px]"] < 0.05 < totals[SHUFFLED]["LMD [px]"]
    assert totals[GROUND_TRUTH]["PSNR [dB]"] == math.inf


def test_clips_are_compared_over_the_frames_both_have(samples: Path) -> None:
    clips = {(clip["row"], clip["clip_id"]): clip for clip in scored(samples, GrayDetector()).clips}
    assert clips[GENERATED, "s1/a"]["n_frames"] == 28
    assert clips[GENERATED, "s2/b"]["n_frames"] == N_FRAMES
    assert clips[SHUFFLED, "s1/a"]["audio_clip_id"] == "s2/b"
    assert len(clips) == 6


def test_each_clip_is_detected_once_whatever_the_number_of_metrics(samples: Path) -> None:
    detector = GrayDetector()
    scored(samples, detector)
    assert detector.n_clips == 6
    detector = GrayDetector()
    scored(samples, detector, ground_truth=False)
    assert detector.n_clips == 4


def test_results_are_written_and_shown(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = scored(samples, GrayDetector())
    metrics = [Component(use=name) for name in fresh_metrics()]
    weights = dict.fromkeys(fresh_metrics(), "")
    report = make_report(samples, scores, metrics, weights, Component(use="mediapipe"), "sha256 0123")
    write_files(samples, report, scores)
    show(report, scores)

    stored = json.loads((samples / "eval.json").read_text())
    assert stored == report
    assert stored["sample"] == {"recipe": "gray", "step": 100}
    assert stored["rows"][GROUND_TRUTH]["values"]["PSNR [dB]"] is None  # infinite
    assert stored["rows"][GENERATED]["n_clips"] == 2
    assert set(stored["rows"][GENERATED]["speakers"]) == {"s1", "s2"}
    with (samples / "eval.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines].count(GENERATED) == 2
    assert float(lines[0]["mouth r"]) > 0.99
    shown = capsys.readouterr().out
    notes = ("by speaker", "recipe gray, step 100", "sha256 0123")
    for text in (GENERATED, SHUFFLED, GROUND_TRUTH, "mouth r min", "inf", *notes):
        assert text in shown
    assert "no floor" not in shown


def test_a_missing_floor_says_how_to_get_it(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_samples(samples, [row for row in read_samples(samples) if row.kind == "synced"])
    report = evaluate(samples, metrics=[Component(use="psnr")], ground_truth=False)
    assert list(report["rows"]) == [GENERATED]
    assert report["rows"][GENERATED]["values"]["PSNR [dB]"] > 40
    assert "--shuffled" in capsys.readouterr().out


def test_a_face_never_found_scores_zero_and_says_so(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluate(samples, metrics=[Component(use="mouth")], detector=Component(use="mediapipe"), device="cpu")
    assert report["rows"][GENERATED]["values"]["mouth r"] == 0
    assert report["rows"][GENERATED]["values"]["face found"] == 0
    assert "in 0 frames only" in capsys.readouterr().out


def test_the_newest_folder_is_taken_and_said(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = samples.parents[2]
    older = runs / "other" / "samples" / "step-000050-test"
    older.mkdir(parents=True)
    write_samples(older, read_samples(samples))
    os.utime(older / "samples.jsonl", (1, 1))
    assert newest_samples(runs) == samples
    assert str(samples) in capsys.readouterr().err


def test_no_samples_at_all_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="dheads sample"):
        newest_samples(tmp_path)


def test_the_run_recipe_chooses_the_metrics(samples: Path) -> None:
    assert [metric.use for metric in settings_near(samples).metrics] == ["mouth", "lmd", "ssim", "psnr"]
    (samples.parents[1] / "recipe.yaml").write_text("name: gray\nevaluate:\n  metrics: [psnr]\n")
    assert [metric.use for metric in settings_near(samples).metrics] == ["psnr"]


def test_missing_videos_are_all_told(samples: Path) -> None:
    for name in ("s1_a.mp4", "s2_b.shuffled.mp4"):
        (samples / name).unlink()
    with pytest.raises(DheadsError, match=r"lacks s1_a\.mp4, s2_b\.shuffled\.mp4"):
        scored(samples, GrayDetector())


def test_another_size_than_the_reference_is_refused(samples: Path) -> None:
    (samples / "s1_a.mp4").unlink()
    with VideoWriter(samples / "s1_a.mp4", 25, (64, 64)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(DheadsError, match="64 x 64 px, its reference s1/a"):
        scored(samples, GrayDetector())


class Eyes:
    """A metric in one part: how often clips' left eyes are seen."""

    weights = ""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        self.seen.append(float(np.isfinite(clip.landmarks[:, 36]).mean() + reference.landmarks[:, 36].sum()))
        return {"eyes": self.seen[-1]}

    def compute(self) -> dict[str, float]:
        return {"eyes": float(np.mean(self.seen))}


def test_numbers_do_not_depend_on_the_number_of_processes(samples: Path) -> None:
    components = tuple(Component(use=name) for name in ("mouth", "lmd", "ssim", "psnr", "sharpness", "liveliness"))
    gauge = Gauge(components, Component(use="mediapipe"), "cpu", follows=True)
    groups = sample_groups(samples, read_samples(samples), ground_truth=True)
    found = []
    for n_workers in (1, 2):
        metrics = {**gauge.fresh_metrics(), "eyes": Eyes()}
        pairs = list(measure_all(groups, gauge, metrics, gauge.find_landmarks(), n_workers))
        scores = score(pairs, lambda: {**gauge.fresh_metrics(), "eyes": Eyes()}, metrics)
        series = [{name: (step, list(values)) for name, (step, values) in pair.series.items()} for pair in pairs]
        found.append((scores, series))
    assert found[0] == found[1]
    assert found[0][0].totals[GENERATED]["eyes"] > 0


def test_what_a_worker_can_t_read_is_an_error(samples: Path) -> None:
    (samples / "s1_a.mp4").write_bytes(b"no video")
    with pytest.raises(DheadsError, match=r"s1_a\.mp4"):
        evaluate(samples, metrics=[Component(use="psnr")], workers=2)
    assert not (samples / "eval.json").exists()


def test_the_same_metric_twice_is_refused(samples: Path) -> None:
    with pytest.raises(DheadsError, match="each once"):
        evaluate(samples, metrics=[Component(use="psnr"), Component(use="psnr")])


def test_a_table_of_values_without_intervals_has_no_row_of_them(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [{"row": GENERATED, "speaker": "s1", "values": {"mean": value}} for value in (1.0, 3.0)]
    scores = Scores({GENERATED: {"mean": 2.0} | {f"set {number}": 5.0 for number in range(7)}}, clips)
    show(make_report(samples, scores, [], {}, Component(use="mediapipe"), ""), scores)
    shown = capsys.readouterr().out
    assert "set 6" in shown
    assert shown.count("generated, 95 %") == 1  # of two tables below each other


def test_a_mean_over_clips_has_an_interval_as_wide_as_the_clips_differ() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    clips = [{"values": {"score": float(value), "odd": 1.0, "note": "a text"}} for value in values]
    found = intervals(clips, {"score": float(values.mean()), "score min": float(values.min()), "odd": 3.0})
    assert list(found) == ["score"]  # "odd" is no mean of the clips, "score min" no value of a clip
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found["score"] == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert intervals(clips[:1], {"score": float(values[0])}) == {}  # one clip
