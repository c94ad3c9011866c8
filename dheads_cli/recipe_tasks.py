"""What can be learned: `task: words`, `sync`, `lips`, or nothing, which is video; each task's schema and trainer."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_lips import LipsRecipe
from dheads_cli.recipe_sync import SyncRecipe
from dheads_cli.recipe_words import WordsRecipe

HearingRecipe: TypeAlias = Recipe | WordsRecipe  # whose model has an audio encoder
AnyRecipe: TypeAlias = HearingRecipe | SyncRecipe | LipsRecipe

TASK = "task"  # the key
DEFAULT_TASK = "video"


class Task(NamedTuple):
    """What a task is made of.

    Attributes:
        schema: of its recipes.
        trainer: module:function of (recipe, run_dir, *, device, restart); a name, for what it names imports torch.
    """

    schema: type[AnyRecipe]
    trainer: str


TASKS: dict[str, Task] = {
    "video": Task(Recipe, "dheads_cli.run.train:train"),
    "words": Task(WordsRecipe, "dheads_cli.run.train_words:train_words"),
    "sync": Task(SyncRecipe, "dheads_cli.run.train_sync:train_sync"),
    "lips": Task(LipsRecipe, "dheads_cli.run.train_lips:train_lips"),
}


def schema_of(data: Any) -> type[AnyRecipe] | None:
    """The schema that a recipe's values ask for; None where their task is none there is."""
    task = data.get(TASK, DEFAULT_TASK)
    return TASKS[task].schema if isinstance(task, str) and task in TASKS else None


def trainer_of(recipe: AnyRecipe) -> Callable[..., dict[str, Any]]:
    """The function that trains a recipe's model: (recipe, run_dir, *, device, restart) -> what came of it."""
    trainer: Callable[..., dict[str, Any]] = resolve_name(TASKS[recipe.task].trainer)
    return trainer


def sections_of(schema: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """A schema's sections by name."""
    return {
        name: info.annotation
        for name, info in schema.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    }


def unknown_task(task: Any) -> str:
    """What is wrong with a task that is none."""
    near = registry.nearest(task, list(TASKS)) if isinstance(task, str) else "."
    *others, last = map(repr, TASKS)
    return f"must be {', '.join(others)} or {last}, not {task!r}{near.removesuffix('.')}"


def talking_head(recipe: AnyRecipe, where: str) -> Recipe:
    """The recipe, if it is one of a talking-head model.

    Raises:
        DheadsError: it is another task's.
    """
    if not isinstance(recipe, Recipe):
        raise DheadsError(
            f"{where}: its task is {recipe.task!r}, but this takes a talking-head model, whose task is {DEFAULT_TASK!r}"
        )
    return recipe
