"""Recipes based on others, and shipped ones in folders."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dheads_cli.errors import DheadsError
from dheads_cli.recipe_files import shipped_recipes
from dheads_cli.recipe_io import load_recipe, recipe_to_yaml

Write = Callable[..., str]

BASE = """\
name: base
description: The base.
seed: 4
model:
  channels: 64
  channel_mult: [1, 2, 2]
train:
  lr: 1e-3
  steps: 9
sample:
  sampler: {use: ddim, steps: 7, eta: 0.5}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(text: str, path: str = "own.yaml") -> str:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
        return path

    write(BASE, "base.yaml")
    return write


def mistakes(ref: str, *overrides: str) -> list[str]:
    with pytest.raises(DheadsError) as caught:
        load_recipe(ref, overrides)
    return str(caught.value).splitlines()


def test_values_come_from_the_base_then_the_recipe_then_set(write: Write) -> None:
    path = write("base: base.yaml\nname: own\nmodel: {channel_mult: [1, 2]}\ntrain: {steps: 5}\n")
    recipe = load_recipe(path, ["train.batch_size=3"]).recipe
    assert (recipe.seed, recipe.model.channels, recipe.train.lr) == (4, 64, 1e-3)
    assert (recipe.model.channel_mult, recipe.train.steps) == ([1, 2], 5)
    assert recipe.train.batch_size == 3
    assert load_recipe(path, ["train.lr=0.5"]).recipe.train.lr == 0.5


def test_each_value_s_origin_is_the_file_it_stands_in(write: Write) -> None:
    path = write("base: base.yaml\nname: own\ntrain: {steps: 5}\n")
    origins = load_recipe(path, ["seed=1"]).origins
    assert origins["train.lr"] == "base.yaml:8:7"
    assert origins["train.steps"] == "own.yaml:3:16"
    assert origins["sample.sampler.eta"] == "base.yaml:11:39"
    assert (origins["seed"], origins["train.batch_size"]) == ("--set", "default")


def test_a_base_may_have_a_base_and_lie_in_another_folder(write: Write) -> None:
    write("base: ../base.yaml\nname: middle\nseed: 5\n", "a/middle.yaml")
    path = write("base: ../a/middle.yaml\nname: own\n", "b/own.yaml")
    loaded = load_recipe(path)
    assert (loaded.recipe.seed, loaded.recipe.train.steps) == (5, 9)
    assert (loaded.origins["seed"], loaded.origins["train.steps"]) == ("a/middle.yaml:3:7", "base.yaml:9:10")


def test_a_base_may_be_a_shipped_recipe(write: Write) -> None:
    recipe = load_recipe(write("base: tiny\nname: own\n")).recipe
    assert recipe.model == load_recipe("tiny").recipe.model


def test_name_and_description_are_each_recipe_s_own(write: Write) -> None:
    assert mistakes(write("base: base.yaml\n")) == ["own.yaml: name: is needed but not given"]
    assert load_recipe(write("base: base.yaml\nname: own\n")).recipe.description == ""


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("ddpm", "ddpm"),
        ("{use: ddpm, steps: 3}", {"use": "ddpm", "steps": 3}),
        ("ddim", {"use": "ddim", "steps": 7, "eta": 0.5}),
        ("{use: ddim, steps: 3}", {"use": "ddim", "steps": 3, "eta": 0.5}),
        ("{eta: 1.0}", {"use": "ddim", "steps": 7, "eta": 1.0}),
    ],
)
def test_options_join_those_of_the_same_component_only(write: Write, sampler: str, expected: object) -> None:
    loaded = load_recipe(write(f"base: base.yaml\nname: own\nsample: {{sampler: {sampler}}}\n"))
    assert loaded.recipe.sample.sampler.model_dump() == expected
    named = "{eta" not in sampler
    assert loaded.origins["sample.sampler.use"].startswith("own.yaml:3:" if named else "base.yaml:11:")


def test_lists_are_replaced_whole(write: Write) -> None:
    write("name: base\nevaluate: {metrics: [mouth, lmd, {use: mouth, max_lag: 3}]}\n", "base.yaml")
    recipe = load_recipe(write("base: base.yaml\nname: own\nevaluate: {metrics: [psnr]}\n")).recipe
    assert [metric.use for metric in recipe.evaluate.metrics] == ["psnr"]


def test_mistakes_of_recipe_base_and_overrides_come_at_once_each_with_its_file(write: Write) -> None:
    write("name: base\ntrain:\n  lrr: 1\n  steps: ten\nsample: {sampler: {use: ddim, stps: 3}}\n", "base.yaml")
    path = write("base: base.yaml\nname: own\nmodel: {channels: 65}\ntrain: {lr: 1, lr: 2}\nbse: 3\n")
    assert mistakes(path, "train.flip=2", "base=tiny") == [
        "own.yaml:3:19: model.channels: must be a multiple of 32, not 65",
        "own.yaml:4:16: train.lr: given twice; the first is at own.yaml:4:9",
        "own.yaml:5:1: bse: unknown key; did you mean 'base'?",
        "base.yaml:3:3: train.lrr: unknown key; did you mean 'lr'?",
        "base.yaml:4:10: train.steps: must be a whole number, not 'ten'",
        "base.yaml:5:37: sample.sampler.stps: ddim has no option 'stps'; did you mean 'steps'? Options: steps, eta.",
        "--set base=tiny: a base is named in a recipe's file only",
        "--set train.flip=2: train.flip: must be at most 1, not 2",
    ]


def test_a_base_s_mistake_that_the_recipe_replaces_is_none(write: Write) -> None:
    write("name: base\ntrain: {steps: ten}\n", "base.yaml")
    assert load_recipe(write("base: base.yaml\nname: own\ntrain: {steps: 10}\n")).recipe.train.steps == 10


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("bse.yaml", "own.yaml:1:7: base: bse.yaml: no such file; did you mean 'base.yaml'?"),
        ("tini", "own.yaml:1:7: base: no recipe is called 'tini'; did you mean 'tiny'?"),
        ("own.yaml", "own.yaml:1:7: base: a recipe can't be based on itself (own.yaml -> own.yaml)"),
        ("[base.yaml]", "own.yaml:1:7: base: must be a recipe's path, from this file's folder, or a shipped recipe's"),
        ("", "own.yaml:1:6: base: must be a recipe's path, from this file's folder, or a shipped recipe's name; it"),
        ("list.yaml", "list.yaml: a recipe is made of `key: value` lines"),
        ("broken.yaml", "broken.yaml:2:1: not valid YAML"),
    ],
)
def test_a_base_that_can_t_be_used_is_told_in_one_line(write: Write, base: str, expected: str) -> None:
    write("- a\n", "list.yaml")
    write("name: [a\n", "broken.yaml")
    found = mistakes(write(f"base: {base}\nname: own\n"))
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_a_circle_of_bases_is_shown_whole_beside_other_mistakes(write: Write) -> None:
    write("base: own.yaml\nname: base\n", "base.yaml")
    found = mistakes(write("base: base.yaml\nname: own\nseed: 1\nseed: 2\n"))
    assert found == [
        "own.yaml:4:1: seed: given twice; the first is at own.yaml:3:1",
        "base.yaml:1:7: base: a recipe can't be based on itself (own.yaml -> base.yaml -> own.yaml)",
    ]


def test_the_resolved_recipe_has_no_base(write: Write) -> None:
    recipe = load_recipe(write("base: base.yaml\nname: own\n")).recipe
    assert "base" not in recipe.model_dump()
    saved = write(recipe_to_yaml(recipe), "elsewhere/recipe.yaml")
    Path("base.yaml").unlink()
    assert load_recipe(saved).recipe == recipe


def test_shipped_recipes_are_named_with_their_folder() -> None:
    root = Path(__file__).parents[1] / "recipes"
    expected = {path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")}
    assert set(shipped_recipes()) == expected


def test_a_name_with_a_folder_is_found_and_mistyped_ones_get_a_suggestion(write: Write) -> None:
    assert load_recipe("paper/lrw").recipe.model.n_motion_frames == 2
    for near in ("paper/lrv", "lrw"):
        assert mistakes(near)[0].startswith(f"no recipe is called {near!r}; did you mean 'paper/lrw'? Shipped recipes:")
    write("name: mine\n", "paper/lrw/recipe.yaml")  # a folder of that name does not hide it
    assert load_recipe("paper/lrw").recipe.model.n_motion_frames == 2
