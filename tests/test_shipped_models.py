"""A shipped model is what its recipe makes: the recipe in its header and the one in recipes/ agree."""

import pytest

from dheads_cli import registry
from dheads_cli.model.checkpoint import find_checkpoint, load_tensors, recipe_in
from dheads_cli.recipe_io import load_recipe

MODELS = sorted(registry.entries("models"))


@pytest.mark.parametrize("name", MODELS)
def test_header_and_recipe_agree(name: str) -> None:
    path = find_checkpoint(name)
    _, info = load_tensors(path)
    header, recipe = recipe_in(info, path).model_dump(mode="json"), load_recipe(name).recipe.model_dump(mode="json")
    taken = header["train"].pop("steps")
    assert 0 < taken <= recipe["train"].pop("steps")  # a run may be stopped before its last step
    assert taken == info["step"]
    for section in ("model", "train"):
        differ = {key for key in recipe[section] if recipe[section][key] != header[section][key]}
        assert not differ, f"{section}: {differ}"
