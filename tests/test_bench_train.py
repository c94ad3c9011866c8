"""`dheads bench train`: what it measures, and that its shares follow from its times; no bounds on the times."""

import json
from pathlib import Path

import pytest
from corpus import SIZE, make_corpus
from typer.testing import CliRunner

from dheads_cli import console
from dheads_cli.cli import app
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_io import recipe_to_yaml
from dheads_cli.run.bench_feeds import Feed, feeds_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_steps_batches_and_both_are_measured(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "c", {"train": 3, "val": 1}, n_frames=6)
    recipe = Recipe.model_validate({
        "name": "small",
        "model": {
            "size": SIZE, "patch_size": 4, "channels": 32, "channel_mult": [1], "n_res_blocks": 1, "head_dim": 32,
            "audio_encoder": {"use": "logmel", "embed_dim": 8},
        },
        "train": {"batch_size": 4, "threads": 1},
    })  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(recipe))
    command = ["bench", "train", str(tmp_path / "recipe.yaml"), "--data", str(folder), "--seconds", "0.1", "--json"]
    try:
        done = CliRunner().invoke(app, [*command, "--device", "cpu"], catch_exceptions=False)
    finally:
        console.configure()
    found = json.loads(done.stdout)
    assert {each["network"] for each in found["steps"]} == {"eager"}
    assert {each["precision"] for each in found["steps"]} == found["peak_gflops"].keys() >= {"float32"}
    for each in found["steps"]:
        assert each["samples_per_s"] == pytest.approx(4 / each["median_s"])
        gflops = each["samples_per_s"] * found["gflop_per_sample"]
        assert each["share_of_peak"] == pytest.approx(gflops / found["peak_gflops"][each["precision"]])
    assert len(found["feeds"]) == len(found["training"]) == len(feeds_of(4))
    assert all(each["samples_per_s"] > 0 for each in found["feeds"])
    assert all(0 <= each["wait_share"] <= 1 for each in found["training"])


def test_batches_that_are_no_multiple_are_made_of_one_target_a_clip() -> None:
    assert {feed.targets_per_clip for feed in feeds_of(6)} == {1}
    assert {feed.targets_per_clip for feed in feeds_of(8)} == {1, 4}
    assert Feed(True, 1, 1) in feeds_of(6)
