"""Handing a model on: half the size, the same frames to rounding, its card inside; nothing wrong gets written."""

import json

import pytest
import torch
from commands import dheads, make_checkpoint

from dheads_cli.model.build import random_inputs
from dheads_cli.model.checkpoint import load_model, load_tensors, save_tensors

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model") / "made.safetensors")


def test_an_exported_model_is_half_as_large_and_draws_the_same(checkpoint, tmp_path):
    out = tmp_path / "handed-on.safetensors"
    assert dheads("export", checkpoint, "-o", out).code == 0
    assert out.stat().st_size < 0.6 * checkpoint.stat().st_size
    before, after = load_model(checkpoint, CPU), load_model(out, CPU)
    assert after.recipe.model == before.recipe.model
    given = random_inputs(before.recipe.model, before.parts.audio_encoder.embed_dim, 2, CPU)
    with torch.inference_mode():
        a, b = before.parts.unet(*given), after.parts.unet(*given)
    assert 0 < (a - b).norm() / a.norm() < 2e-3


def test_an_exported_model_keeps_its_card_through_another_export(checkpoint, tmp_path):
    (tmp_path / "card.md").write_text("# made\n\nFor tests: é.", encoding="utf-8")
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    dheads("export", checkpoint, "-o", first, "--card", tmp_path / "card.md")
    dheads("export", first, "-o", second, "--set", "sample.motion_noise=0", "--set", "sample.sampler.steps=5")
    shown = dheads("card", second, "--json")
    assert json.loads(shown.stdout)["card"] == "# made\n\nFor tests: é."
    assert "For tests: é." in dheads("card", second).stdout
    assert load_model(second, CPU).recipe.sample.sampler.options["steps"] == 5
    assert "no card" in dheads("card", checkpoint).stdout


def test_mistakes_are_told_and_nothing_is_written(checkpoint, tmp_path):
    out = tmp_path / "out.safetensors"
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    for words, expected in {
        ("export", checkpoint, "-o", tmp_path / "out.pt"): "ends in .safetensors",
        ("export", checkpoint, "-o", out, "--card", tmp_path / "none.md"): "can't be read as the card",
        ("export", checkpoint, "-o", out, "--card", tmp_path / "picture.png"): "no UTF-8 text",
        ("export", checkpoint, "-o", out, "--set", "train.lr=1"): "only sample.KEY",
        ("export", checkpoint, "-o", out, "--set", "sample.motion_noise=0.3"): "noised_motion",
        ("export", "nothing", "-o", out): "no such file",
    }.items():
        ended = dheads(*words)
        assert ended.code == 2
        assert expected in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.png"]


def test_weights_beyond_float16_are_refused(checkpoint, tmp_path):
    tensors, info = load_tensors(checkpoint)
    name = next(iter(tensors))
    save_tensors(tmp_path / "large.safetensors", {**tensors, name: tensors[name] * 1e9}, info)
    ended = dheads("export", tmp_path / "large.safetensors", "-o", tmp_path / "out.safetensors")
    assert ended.code == 2
    assert name in ended.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_is_there_stays(checkpoint, tmp_path):
    out = tmp_path / "mine.safetensors"
    out.write_text("mine")
    assert dheads("export", checkpoint, "-o", out).code == 2
    assert out.read_text() == "mine"
    assert dheads("export", checkpoint, "-o", out, "--overwrite").code == 0
