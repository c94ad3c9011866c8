"""`dheads ablate`: recipes one after another on a made-up corpus; killed and taken up again; the paper's table."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Ended, dheads
from corpus import SIZE, make_corpus

from dheads_cli.data.media import read_video
from dheads_cli.data.samples import read_samples
from dheads_cli.data.shards import Corpus

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BASE = f"""\
name: base
model:
  size: {SIZE}
  patch_size: 4
  channels: 32
  channel_mult: [1]
  n_res_blocks: 1
  head_dim: 32
  learned_variance: false
  grayscale_motion: true
  audio_encoder: {{use: logmel, embed_dim: 8}}
train:
  steps: 4
  batch_size: 16
  checkpoint_every: 2
  sample_every: 0
  threads: 1
  precision: float32
  vlb_weight: 0
sample:
  sampler: {{use: ddim, steps: 2}}
evaluate:
  metrics: [psnr]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes with and without motion frames, one that is wrong, and a corpus."""
    folder = tmp_path_factory.mktemp("ablate")
    (folder / "base.yaml").write_text(BASE)
    (folder / "with.yaml").write_text("base: base.yaml\nname: with\n")
    (folder / "without.yaml").write_text("base: base.yaml\nname: without\nmodel: {n_motion_frames: 0}\n")
    (folder / "wrong.yaml").write_text("base: base.yaml\nname: wrong\nmodel: {size: 64, audio_context: 1}\n")
    (folder / "typo.yaml").write_text("base: base.yaml\nname: typo\ntrain: {stps: 3}\n")
    make_corpus(folder / "data", {"train": 3, "val": 2, "test": 3}, n_frames=8)
    return folder


def words(folder: Path, out: Path, *recipes: str, limit: int = 2) -> list[str]:
    paths = [str(folder / f"{name}.yaml") for name in recipes]
    options = ["--data", str(folder / "data"), "--limit", str(limit), "--device", "cpu", "-o", str(out)]
    return ["ablate", *paths, *options]


def ablate(folder: Path, out: Path, *recipes: str, more: tuple[str, ...] = ()) -> tuple[Ended, dict[str, Any]]:
    done = dheads(*words(folder, out, *recipes), "--json", *more)
    return done, json.loads(done.stdout) if done.stdout else {}


@pytest.fixture(scope="module")
def done(folder: Path) -> tuple[Ended, dict[str, Any]]:
    return ablate(folder, folder / "out", "without", "wrong", "with")


def kept(out: Path) -> dict[str, bytes]:
    """What two equal ablations have in common to the last byte."""
    paths = [path for pattern in ("*/checkpoints/*", "*/samples/*/*.mp4") for path in out.glob(pattern)]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def test_a_recipe_that_fails_is_told_and_the_others_are_done(folder: Path, done: tuple[Ended, dict[str, Any]]) -> None:
    ended, report = done
    assert ended.code == 2
    assert f"wrong.yaml failed: {folder / 'data'}: holds {SIZE} px faces, but model.size is 64" in ended.stderr
    assert ended.stderr.endswith(f"error: 1 of 3 recipes failed: {folder}/wrong.yaml; why is said above\n")
    assert [bool(record["error"]) for record in report["recipes"]] == [False, True, False]
    assert report == json.loads((folder / "out" / "ablation.json").read_text())


def test_a_mistake_in_a_recipe_is_told_before_anything_is_trained(folder: Path, tmp_path: Path) -> None:
    ended, report = ablate(folder, tmp_path / "out", "with", "typo", more=("--set", "train.flip=2"))
    assert (ended.code, report) == (2, {})
    assert ended.stderr.splitlines() == [
        "error: --set train.flip=2: train.flip: must be at most 1, not 2",
        f"{folder}/typo.yaml:3:9: train.stps: unknown key; did you mean 'steps'?",
    ]
    assert not (tmp_path / "out").exists()


def test_a_table_made_row_by_row_comes_together(folder: Path, done: tuple[Ended, dict[str, Any]]) -> None:
    ended, report = ablate(folder, folder / "out", "with")
    assert ended.code == 0
    assert [record["name"] for record in report["recipes"]] == ["with", "without"]
    by_name = {record["name"]: record for record in done[1]["recipes"] if not record["error"]}
    assert {record["name"]: record["ours"] for record in report["recipes"]} == {
        name: record["ours"] for name, record in by_name.items()
    }


def test_rows_are_named_by_their_settings(done: tuple[Ended, dict[str, Any]]) -> None:
    without, _, with_motion = done[1]["recipes"]
    assert (without["label"], without["paper"], without["paper_says"]) == ("m_x 0, m_y 2", {}, "random faces")
    assert (with_motion["label"], with_motion["paper_says"]) == ("m_x 2, m_y 2, gray", "chosen")
    assert with_motion["paper"]["SSIM"] == 0.6225


def test_our_numbers_are_those_of_the_metrics(folder: Path, done: tuple[Ended, dict[str, Any]]) -> None:
    ours = done[1]["recipes"][2]["ours"]
    samples = folder / "out" / "with" / "samples" / "step-000004-test"
    corpus, errors = Corpus(folder / "data"), []
    for row in read_samples(samples):
        frames = read_video(samples / row.file, 25).frames.astype(float)
        errors.append(np.square(frames - corpus.load(corpus.clip(row.clip_id)).frames).mean())
    assert len(errors) == 2
    assert ours["MSE"] == pytest.approx(np.mean(errors))
    scored = json.loads((samples / "eval.json").read_text())["rows"]["generated"]["values"]
    assert (ours["PSNR"], ours["SSIM"]) == (scored["PSNR [dB]"], scored["SSIM"])


def test_the_table_has_both_numbers_and_says_what_is_not_measured(
    folder: Path, done: tuple[Ended, dict[str, Any]]
) -> None:
    shown = dheads(*words(folder, folder / "out", "without", "with"))
    assert shown.code == 0
    mse = done[1]["recipes"][2]["ours"]["MSE"]
    for text in (shown.stdout, (folder / "out" / "ablation.md").read_text()):
        assert f"{mse:.0f} (1025)" in text
        assert "real clip" in text
        for column, why in done[1]["not_measured"].items():
            assert f"{column} is not measured: {why}" in text
    assert "Scores of" not in shown.stdout  # one table, not one a command
    assert (folder / "out" / "motion-frames.png").stat().st_size > 10_000


def test_nothing_that_is_done_is_done_again(folder: Path, done: tuple[Ended, dict[str, Any]]) -> None:
    names = ("*/checkpoints/*", "*/samples/*/samples.jsonl", "*/samples/*/eval.json")

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for name in names for path in (folder / "out").glob(name)}

    before = times()
    ended, report = ablate(folder, folder / "out", "without", "wrong", "with")
    assert len(before) == 8
    assert times() == before
    assert report == done[1]
    assert ended.stderr.count("trained already") == ended.stderr.count("scored already") == 2


def test_killed_and_called_again_it_ends_as_if_never_stopped(
    folder: Path, done: tuple[Ended, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dheads_cli", *words(folder, out, "without", "with")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # In the middle of the second training, whose first checkpoint is there and whose last is not.
    while process.poll() is None and not (out / "with" / "resume.safetensors").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    first = (out / "without" / "samples" / "step-000004-test" / "eval.json").stat().st_mtime_ns
    ended, report = ablate(folder, out, "without", "with")
    assert ended.code == 0
    assert (out / "without" / "samples" / "step-000004-test" / "eval.json").stat().st_mtime_ns == first
    assert kept(out) == kept(folder / "out")
    for ours, unbroken in zip(report["recipes"], [done[1]["recipes"][0], done[1]["recipes"][2]], strict=True):
        assert ours["scores"] == unbroken["scores"]


def test_a_run_made_longer_is_sampled_anew(folder: Path, tmp_path: Path) -> None:
    short, _ = ablate(folder, tmp_path, "with", more=("--set", "train.steps=2"))
    assert short.code == 0
    longer, report = ablate(folder, tmp_path, "with")
    assert longer.code == 0
    assert report["recipes"][0]["samples"].endswith("step-000004-test")
    assert "sampled already" not in longer.stderr


@pytest.mark.parametrize("change", ["train.lr=0.5", "sample.sampler.steps=3", "seed=8"])
def test_a_recipe_changed_meanwhile_is_refused(
    folder: Path, done: tuple[Ended, dict[str, Any]], change: str
) -> None:
    ended, report = ablate(folder, folder / "out", "with", more=("--set", change))
    assert ended.code == 2
    key = change.split("=")[0]
    assert f"holds a run of another recipe ({key} differ)" in ended.stderr
    assert report["recipes"][0]["ours"] == {}


def test_a_run_trained_longer_is_not_taken_for_a_shorter_one(
    folder: Path, done: tuple[Ended, dict[str, Any]]
) -> None:
    ended, _ = ablate(folder, folder / "out", "with", more=("--set", "train.steps=3"))
    assert ended.code == 2
    assert "was trained for 4 steps, beyond train.steps 3" in ended.stderr


def test_a_wrong_split_is_told_before_anything_is_trained(folder: Path, tmp_path: Path) -> None:
    ended, _ = ablate(folder, tmp_path, "with", more=("--split", "tset"))
    assert ended.code == 2
    assert "has no clips in the split 'tset'; splits: " in ended.stderr
    assert not (tmp_path / "with").exists()


def test_recipes_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    ended, _ = ablate(folder, tmp_path, "with", "without", more=("--set", "name=same"))
    assert ended.code == 2
    assert ended.stderr.startswith("error: several recipes are called same")


def test_a_pattern_stands_for_shipped_recipes(tmp_path: Path) -> None:
    ended = dheads("ablate", "paper/nothing-*", "-o", tmp_path)
    assert ended.code == 2
    told = "error: paper/nothing-*: no such file, and no shipped recipe has such a name: small, small-grid, tiny"
    assert ended.stderr.startswith(told)
