"""The tasks: each has a schema that says its name, and a trainer of such recipes."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from dheads_cli.recipe_io import load_any_recipe
from dheads_cli.recipe_tasks import TASKS, schema_of, trainer_of

SHIPPED = {"video": "tiny", "words": "audio/words-grid", "sync": "sync/grid", "lips": "lips/grid"}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_trained_by_a_function_of_its_recipes(name: str) -> None:
    recipe = load_any_recipe(SHIPPED[name]).recipe
    assert recipe.task == name
    assert get_type_hints(trainer_of(recipe))["recipe"] is TASKS[name].schema


def test_a_recipe_that_names_no_task_is_a_video_s() -> None:
    assert schema_of({}) is TASKS["video"].schema
    assert schema_of({"task": "words"}) is TASKS["words"].schema
    assert schema_of({"task": "word"}) is None
    assert schema_of({"task": ["words"]}) is None
