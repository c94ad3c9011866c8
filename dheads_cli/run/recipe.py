"""`dheads recipe`: show a recipe whole, try it without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dheads_cli import console, registry
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import COMPONENT_PATHS, Recipe
from dheads_cli.recipe_io import Loaded, load_any_recipe, recipe_to_yaml
from dheads_cli.recipe_lips import LipsRecipe
from dheads_cli.recipe_section import Component
from dheads_cli.recipe_sync import SyncRecipe
from dheads_cli.recipe_tasks import AnyRecipe, HearingRecipe

if TYPE_CHECKING:
    from dheads_cli.run.training_cost import TrainingCost
    from dheads_cli.run.video_cost import VideoCost


def show(ref: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Print the complete recipe, each value with its origin; under --json, {"path", "recipe", "origins"}."""
    loaded = load_any_recipe(ref, overrides)
    report = {"path": str(loaded.path), "recipe": loaded.recipe.model_dump(), "origins": loaded.origins}
    console.text(recipe_to_yaml(loaded.recipe, loaded.origins))
    console.result(report)
    return report


def check(ref: str, overrides: Sequence[str] = (), *, device: str = "auto") -> dict[str, Any]:
    """Try a recipe without training it, and print what was found.

    Returns:
        {"path", "components", "data"} and what the task's network takes: a `VideoCost` or a `TrainingCost`. "data" is a
        text, or, of several corpora, the text of each by its folder.

    Raises:
        DheadsError: a component can't be built, or sizes or weights to begin with do not fit.
    """
    loaded = load_any_recipe(ref, overrides)
    built = build_components(loaded)
    data = {str(path): describe_data(loaded.recipe, path, ref) for path in loaded.recipe.data.paths}
    weights = describe_weights(loaded.recipe, built)
    cost, cost_rows = cost_of(loaded.recipe, built, device)
    rows = [[path, names, "builds"] for path, names in component_names(loaded.recipe).items()]
    rows += [*(["data.path", path, found] for path, found in data.items()), *weights, *cost_rows]
    console.table(f"{loaded.path}: no mistakes", ["what", "value", "found"], rows)
    report = {"path": str(loaded.path), "components": component_names(loaded.recipe), **vars(cost)}
    report["data"] = data if len(data) > 1 else next(iter(data.values()))
    console.result(report)
    return report


def components_of(recipe: AnyRecipe) -> list[tuple[str, Component]]:
    """Every component that a recipe names, with its place."""
    found = []
    for path in COMPONENT_PATHS:
        section, key = path.split(".")
        value = getattr(getattr(recipe, section, None), key, None)
        found += [(path, item) for item in (value if isinstance(value, list) else [value]) if item is not None]
    return found


def component_names(recipe: AnyRecipe) -> dict[str, str]:
    """Names in place of components, by place."""
    names: dict[str, list[str]] = {}
    for path, component in components_of(recipe):
        names.setdefault(path, []).append(component.use)
    return {path: ", ".join(each) for path, each in names.items()}


def build_components(loaded: Loaded[AnyRecipe]) -> dict[str, Any]:
    """Build every component of a recipe.

    Returns:
        The components by their place.

    Raises:
        DheadsError: all that can't be built, each with where the recipe names it.
    """
    built, wrong = {}, []
    for path, component in components_of(loaded.recipe):
        try:
            built[path] = registry.build(COMPONENT_PATHS[path], component.use, component.options)
        except DheadsError as error:
            origins = [where for key, where in loaded.origins.items() if key == path or key.startswith(f"{path}.")]
            chosen = [where for where in origins if where != "default"]
            wrong.append(f"{chosen[0] if chosen else loaded.path}: {path}: {error}")
    if wrong:
        raise DheadsError("\n".join(wrong))
    return built


def describe_data(recipe: AnyRecipe, path: Path, ref: str) -> str:
    """What lies in a corpus of the recipe called `ref`, or how to make it."""
    from dheads_cli.data.clip_choice import choose_clips
    from dheads_cli.data.shards import Corpus

    settings = recipe.data
    if not path.exists():
        return f"not there yet; make it with: dheads preprocess CORPUS -o {path} --recipe {ref}"
    try:
        corpus = Corpus(path)
    except DheadsError as error:  # the recipe is right, whatever has become of its corpus
        return str(error)
    chosen = {
        split: choose_clips(corpus.clips(split), settings.limits, f"{path}, split {split!r},")
        for split in (settings.train_split, settings.val_split)
    }
    if settings.keep:
        return ", ".join(f"{choice} in {split}" for split, choice in chosen.items())
    return ", ".join(f"{choice.n_clips} clips in {split}" for split, choice in chosen.items())


def describe_weights(recipe: AnyRecipe, built: dict[str, Any]) -> list[list[str]]:
    """A row for each model that training begins with the weights of, which need not be there yet.

    Whether all of a word recogniser's fit depends on the words of its corpus, and is not asked.

    Raises:
        DheadsError: it is there, and is another than the recipe's.
    """
    from dheads_cli.model.build import build_model
    from dheads_cli.model.checkpoint import find_checkpoint, load_audio_encoder, load_weights
    from dheads_cli.model.lips import build_lip_reader, take_lips

    rows = []
    for key in ("weights", "audio_encoder_weights", "lips_weights"):
        if (reference := getattr(recipe.train, key, None)) is None:
            continue
        try:
            path = find_checkpoint(reference)
        except DheadsError as error:
            rows.append([f"train.{key}", reference, str(error)])
            continue
        found = f"{path.name} fits"
        if key == "audio_encoder_weights" and isinstance(recipe, HearingRecipe):
            load_audio_encoder(path, built["model.audio_encoder"], recipe.model.audio_encoder)
        elif key == "lips_weights" and isinstance(recipe, LipsRecipe):
            take_lips(path, build_lip_reader(recipe.model))
        elif isinstance(recipe, Recipe):
            load_weights(path, build_model(recipe.model).own_modules(), recipe)
        else:
            found = f"{path.name} is there"
        rows.append([f"train.{key}", reference, found])
    return rows


def cost_of(
    recipe: AnyRecipe, built: dict[str, Any], device: str
) -> tuple[VideoCost | TrainingCost, list[list[str]]]:
    """What a recipe's network takes, on its task's terms, and rows of it for people."""
    if isinstance(recipe, Recipe):
        from dheads_cli.run.video_cost import VideoCost

        video = VideoCost.of(recipe, built, device)
        return video, video.rows(recipe)
    if isinstance(recipe, SyncRecipe):
        from dheads_cli.run.sync_cost import sync_cost

        return sync_cost(recipe, device)
    if isinstance(recipe, LipsRecipe):
        from dheads_cli.run.lips_cost import lips_cost

        return lips_cost(recipe, device)
    from dheads_cli.run.words_cost import words_cost

    return words_cost(recipe, device)
