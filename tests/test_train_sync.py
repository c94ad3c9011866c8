"""Networks for lips and sound: their pieces, their loss, resuming byte for byte, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import dheads
from corpus import write_corpus
from sync_corpus import N_FRAMES, make_sync_clip, make_sync_corpus

from dheads_cli.data.shards import Corpus
from dheads_cli.data.sync_clips import SyncBatch, SyncSet, SyncViews, changed
from dheads_cli.data.sync_input import CROP_PX, MOUTH_PX
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_hearing
from dheads_cli.model.sync import Lips, Sound, SyncNet, build_sync, load_sync
from dheads_cli.recipe_sync import SyncRecipe
from dheads_cli.run.batch_parts import Part, cut
from dheads_cli.run.evaluate import evaluate
from dheads_cli.run.sync_report import SHIFTS, of_split
from dheads_cli.run.train_sync import SyncLoss, train_sync

CPU = torch.device("cpu")


def recipe(folder: Path | list[str], steps: int = 4, **changes: Any) -> SyncRecipe:
    settings = {
        "steps": steps, "batch_size": 2, "lr": 3e-3, "ema_decay": 0.5, "log_every": 2, "checkpoint_every": 100,
        "threads": 1, "precision": "float32", "n_frames": 12,
    }  # fmt: skip
    return SyncRecipe.model_validate({
        "task": "sync", "name": "small", "data": {"path": folder if isinstance(folder, list) else str(folder)},
        "model": {"channels": 2, "embed_dim": 8},
        "train": {**settings, **changes},
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sync_corpus(tmp_path_factory.mktemp("sync") / "c")


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("runs") / "done"
    return run, train_sync(recipe(folder), run, device="cpu")


def test_a_run_ends_with_a_report_and_a_model_that_loads(done: tuple[Path, dict[str, Any]]) -> None:
    run, result = done
    report = json.loads((run / "sync.json").read_text())
    assert report == result["sync"]
    assert list(report["splits"]) == ["val"]
    assert report["splits"]["val"]["n"] == 4
    network, its_recipe, path = load_sync(run)
    assert (its_recipe.name, path.name) == ("small", "step-000004.safetensors")
    assert not network.lips.training
    with pytest.raises(DheadsError, match="holds no audio encoder: its task is 'sync'"):
        load_hearing(run, CPU)
    with pytest.raises(DheadsError, match=r"a network for lips and sound, which makes no samples: .*sync\.json"):
        evaluate(run)


def test_a_resumed_run_equals_an_unbroken_one_byte_for_byte(
    folder: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    train_sync(recipe(folder, steps=2), tmp_path / "run", device="cpu")
    train_sync(recipe(folder), tmp_path / "run", device="cpu")
    for name in ("resume.safetensors", "checkpoints/step-000004.safetensors", "sync.json"):
        assert (tmp_path / "run" / name).read_bytes() == (done[0] / name).read_bytes()


def test_several_corpora_are_learned_from_and_each_is_judged(folder: Path, tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "other", [make_sync_clip(i, ["train", "val"][i % 2]) for i in range(10, 14)])
    both = recipe([str(folder), str(other)], steps=2, batch_size=4)
    report = train_sync(both, tmp_path / "run", device="cpu")["sync"]
    assert {name: each["n"] for name, each in report["splits"].items()} == {"c, val": 4, "other, val": 2}
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert {"loss", "loss/c", "loss/other"} <= log[0].keys()
    assert log[1]["val_loss"] == pytest.approx((log[1]["val_loss/c"] + log[1]["val_loss/other"]) / 2)


def test_learning_brings_the_loss_down(folder: Path, tmp_path: Path) -> None:
    train_sync(recipe(folder, steps=30, lr=1e-2, warp=0, light=0, blur=0), tmp_path / "run", device="cpu")
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < losses[0] - 0.5


def test_each_embedding_sees_its_own_five_frames_and_their_sound() -> None:
    torch.manual_seed(0)
    lips, sound = Lips(2, 8).eval(), Sound(2, 8).eval()
    mouths, spectra = torch.randn(1, 12, MOUTH_PX, MOUTH_PX), torch.randn(1, 40, 48)
    moved, heard = mouths.clone(), spectra.clone()
    moved[0, 6] += 1
    heard[0, :, 24:28] += 1  # frame 6
    for before, after in ((lips(mouths), lips(moved)), (sound(spectra), sound(heard))):
        assert before.shape == (1, 8, 8)
        changed_at = (before - after).abs().amax(dim=(0, 2)) > 1e-6
        assert changed_at.tolist() == [2 <= k <= 6 for k in range(8)]


class Given(torch.nn.Module):
    """A tower whose embeddings are its input."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given


def test_the_loss_is_none_where_each_window_finds_its_own_and_the_log_of_all_where_none_does() -> None:
    each = torch.eye(6)[None].repeat(2, 1, 1)
    loss_of = SyncLoss(SyncNet(Given(), Given()), 0.01, CPU, torch.float32)  # type: ignore[arg-type]
    told = loss_of(SyncBatch(each, each, -each), 0)
    assert told["loss"].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert told["accuracy"].tolist() == [1, 1]
    alike = torch.ones_like(each)
    untold = loss_of(SyncBatch(alike, alike, alike), 0)
    assert untold["loss"].tolist() == pytest.approx([(np.log(12) + np.log(6)) / 2] * 2, rel=1e-5)


def pieces(folder: Path, **views: float) -> SyncSet:
    corpus = Corpus(folder)
    return SyncSet(corpus, corpus.clips("train"), views=SyncViews(12, **views), cache_bytes=1e9, seed=3)


def test_a_part_of_a_batch_is_as_it_is_in_the_whole(folder: Path) -> None:
    strong = {"flip": 0.5, "warp": 1.0, "light": 1.0, "blur": 0.5}
    whole = pieces(folder, **strong).batch(7, 4)
    part = pieces(folder, **strong).batch(7, 4, range(1, 3))
    expected = cut(whole, Part(1, 2, 4))
    for name in ("mouths", "sound", "other"):
        assert torch.equal(getattr(part, name), getattr(expected, name))
    assert whole.mouths.shape == (4, 12, MOUTH_PX, MOUTH_PX)
    assert whole.sound.shape == whole.other.shape == (4, 40, 48)


def test_a_piece_s_lips_and_sound_are_of_the_same_time(folder: Path) -> None:
    data = pieces(folder)
    batch = data.batch(1, 4)
    wholes = [data.whole(index) for index in range(len(data.clips))]
    for mouths, sound in zip(batch.mouths, batch.sound, strict=True):
        begins = [
            begin
            for _, whole in wholes
            for begin in range(N_FRAMES - 11)
            if torch.equal(whole[:, 4 * begin : 4 * begin + 48], sound)
        ]
        seen = [
            begin
            for whole, _ in wholes
            for begin in range(N_FRAMES - 11)
            if torch.corrcoef(torch.stack([whole[begin : begin + 12].flatten(), mouths.flatten()]))[0, 1] > 0.9999
        ]
        assert len(begins) == 1
        assert begins[0] in seen


def test_unchanged_crops_keep_their_middle() -> None:
    crops = torch.arange(CROP_PX, dtype=torch.uint8).expand(2, CROP_PX, CROP_PX)
    found = changed(crops, SyncViews(2), np.random.default_rng(0))
    torch.testing.assert_close(found[0, 0], torch.arange(4.0, 52.0), atol=0.01, rtol=0)
    mirrored = changed(crops, SyncViews(2, flip=1.0), np.random.default_rng(0))
    torch.testing.assert_close(mirrored, found.flip(2), atol=0.01, rtol=0)


def test_shifted_clips_are_found_and_shuffled_ones_told_apart() -> None:
    torch.manual_seed(0)
    clips = [torch.nn.functional.normalize(torch.randn(40, 16), dim=1) for _ in range(4)]
    found = of_split([(clip, clip) for clip in clips], {0: 1, 1: 0, 2: 3, 3: 2})
    assert (found["exact"], found["within_one"], found["short_within_one"], found["auc"]) == (1, 1, 1, 1)
    assert list(found["confidence"]) == [str(shift) for shift in SHIFTS]
    assert found["agreement"]["0"] == found["confidence"]["0"] > 1
    assert abs(found["agreement"]["3"]) < 0.2 < found["confidence"]["3"]
    late = of_split([(clip[:-2], clip[2:]) for clip in clips], {})  # sound two frames ahead of the lips throughout
    assert (late["exact"], late["within_one"], late["auc"]) == (0, 0, None)


def test_clips_shorter_than_a_piece_are_an_error_that_names_the_setting(tmp_path: Path) -> None:
    short = make_sync_corpus(tmp_path / "c", n_frames=10)
    with pytest.raises(DheadsError, match=r"no clip of the split 'train' has the 12 frames of train\.n_frames"):
        train_sync(recipe(short), tmp_path / "run", device="cpu")


def test_recipe_check_times_a_step(folder: Path) -> None:
    done = dheads(
        "recipe", "check", "sync/grid", "--set", f"data.path={folder}", "--set", "model.channels=2", "--set",
        "train.batch_size=1", "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["data"] == "4 clips in train, 4 clips in val"
    assert report["hours"] > 0


def test_the_network_is_built_alike_from_one_seed() -> None:
    torch.manual_seed(1)
    first = build_sync(2, 8)
    torch.manual_seed(1)
    assert torch.equal(build_sync(2, 8).lips[0].weight, first.lips[0].weight)
