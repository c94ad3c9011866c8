"""`dheads bench --recipe`: a network that need not be trained, its speed beside the convolutions it is made of."""

import json

import pytest
import torch
from commands import dheads

from dheads_cli.model.build import build_unet, random_inputs
from dheads_cli.recipe import Recipe
from dheads_cli.registry import build
from dheads_cli.run.bench_network import LAYOUTS, arrange, bench_network, shapes_of

SMALL = {"size": 32, "channels": 32, "channel_mult": [1, 2], "n_res_blocks": 1, "head_dim": 32, "patch_size": 2}
RECIPE = Recipe.model_validate({"name": "small", "model": {**SMALL, "audio_encoder": "logmel"}})


@pytest.fixture(scope="module")
def found():
    return bench_network(RECIPE, device="cpu", seconds=0.01)


def test_every_precision_and_layout_is_measured_or_said_to_take_too_long(found):
    rows = found["forwards"]
    assert [(row["precision"], row["layout"]) for row in rows] == [
        (precision, layout) for precision in ("float32", "bfloat16") for layout in LAYOUTS
    ]
    for row in rows:
        assert row["at_least_s"] > 0
        assert row["median_s"] >= row["fastest_s"] > 0
        assert row["gflops"] == pytest.approx(found["tflop"] * 1e3 / row["fastest_s"])
        assert row["share_of_peak"] == pytest.approx(row["gflops"] / row["peak_gflops"])


def test_parameters_and_flop_are_the_network_s(found):
    unet = build_unet(RECIPE.model, build("conditioning", "adagn"), 256)
    assert found["n_parameters"] == sum(parameter.numel() for parameter in unet.parameters())
    assert 0.0001 < found["tflop"] < 0.01


def test_the_convolutions_are_of_the_network_s_own_sizes():
    assert shapes_of(RECIPE) == [(1, 32, 16), (1, 64, 8)]


def test_the_layout_changes_nothing_but_speed():
    torch.manual_seed(0)
    unet = build_unet(RECIPE.model, build("conditioning", "adagn"), 256).eval()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    inputs = random_inputs(RECIPE.model, 256, 1, torch.device("cpu"))
    outputs = []
    for memory_format in LAYOUTS.values():
        arrange(unet, memory_format)
        with torch.inference_mode():
            outputs.append(unet(*inputs))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)


def test_the_command_takes_a_recipe_and_changes_to_it():
    sets = [word for key, value in SMALL.items() for word in ("--set", f"model.{key}={value}")]
    done = dheads("bench", "--recipe", "paper/crema", *sets, "--seconds", "0.1", "--device", "cpu", "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["recipe"] == "crema"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--recipe", "tiny", "--model", "tiny"], "--recipe measures a network alone"),
        (["--set", "model.channels=64"], "--set changes a recipe: name one with --recipe"),
        (["--recipe", "tine"], "did you mean 'tiny'"),
    ],
)
def test_what_does_not_go_together_is_told_in_a_line(words, text):
    done = dheads("bench", *words)
    assert done.code == 2
    assert text in done.stderr
