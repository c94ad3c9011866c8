"""Checkpoints: what comes back, and what a damaged or foreign file is told."""

import json

import pytest
import torch
from safetensors.torch import save_file

from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_model
from dheads_cli.model.checkpoint import load_model, load_tensors, save_tensors
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_model import Model

CPU = torch.device("cpu")
SETTINGS = Model(size=32, channels=32, channel_mult=[1, 1], n_res_blocks=1, head_dim=32, audio_encoder="logmel")


@pytest.fixture
def checkpoint(tmp_path):
    recipe = Recipe(name="small", model=SETTINGS)
    parts = build_model(SETTINGS, CPU)
    with torch.no_grad():
        for parameter in parts.unet.parameters():
            parameter.normal_(0, 0.1)
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, module in parts.trained_modules().items()
        for name, tensor in module.state_dict().items()
    }
    path = tmp_path / "small.safetensors"
    save_tensors(path, tensors, {"recipe": recipe.model_dump(mode="json"), "step": 7})
    return path, parts


def test_a_model_comes_back_with_its_recipe(checkpoint):
    path, parts = checkpoint
    trained = load_model(path, CPU)
    assert trained.recipe.model == SETTINGS
    assert trained.info["step"] == 7
    assert not trained.parts.unet.training
    for name, tensor in parts.unet.state_dict().items():
        assert torch.equal(trained.parts.unet.state_dict()[name], tensor)
    assert set(trained.parts.trained_modules()) == {"unet", "audio_encoder"}


def test_equal_checkpoints_have_equal_bytes(checkpoint, tmp_path):
    tensors, info = load_tensors(checkpoint[0])
    save_tensors(tmp_path / "again.safetensors", tensors, info)
    assert (tmp_path / "again.safetensors").read_bytes() == checkpoint[0].read_bytes()


@pytest.mark.parametrize("keep", [0, 5, 1000, -10])
def test_a_truncated_file_is_told_so(checkpoint, keep):
    path, _ = checkpoint
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DheadsError, match=r"small\.safetensors: not a whole safetensors file"):
        load_model(path, CPU)


def test_another_format_is_told_so(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("PK\x03\x04 this is a zip")
    with pytest.raises(DheadsError, match="not a whole safetensors file"):
        load_model(path, CPU)


def test_safetensors_of_another_tool_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(DheadsError, match="not a dheads checkpoint"):
        load_model(path, CPU)


def test_weights_that_do_not_fit_the_recipe_are_named(checkpoint):
    path, _ = checkpoint
    tensors, info = load_tensors(path)
    tensors["unet.out.2.weight"] = torch.zeros(1)
    save_tensors(path, tensors, info)
    with pytest.raises(DheadsError, match=r"1 of its weights do not fit its recipe, unet\.out\.2\.weight first"):
        load_model(path, CPU)


def test_a_recipe_that_names_unknown_code_is_refused(checkpoint):
    path, _ = checkpoint
    tensors, info = load_tensors(path)
    info["recipe"]["model"]["audio_encoder"] = "os.system"
    save_tensors(path, tensors, info)
    with pytest.raises(DheadsError, match=r"os\.system"):
        load_model(path, CPU)


def test_an_unknown_model_lists_the_shipped_ones():
    with pytest.raises(DheadsError, match=r"'tinny'.*did you mean 'tiny'"):
        load_model("tinny", CPU)


def test_metadata_is_one_json_text(checkpoint):
    from safetensors import safe_open

    with safe_open(checkpoint[0], framework="pt") as file:
        assert json.loads(file.metadata()["dheads"])["recipe"]["name"] == "small"
