"""`dheads recipe schema`: the JSON schema of all recipes, with which editors complete and check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dheads_cli import console, registry
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import COMPONENT_PATHS
from dheads_cli.recipe_files import BASE, NOT_INHERITED
from dheads_cli.recipe_tasks import DEFAULT_TASK, TASK, TASKS, sections_of


def schema(out: Path | None = None) -> None:
    """Write the JSON schema of recipes to a file, or to stdout."""
    text = json.dumps(recipe_schema(), indent=2) + "\n"
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DheadsError(f"{out}: can't be written: {error.strerror}") from error
    console.info(f"{out}: first line for a recipe: # yaml-language-server: $schema={out.name}")


def recipe_schema() -> dict[str, Any]:
    """JSON schema of recipes, which depends on their task.

    Where a component is named, editors offer those that are installed here.
    """
    schemas = {task: task_schema(task) for task in TASKS}
    definitions = {name: each for schema in schemas.values() for name, each in schema.pop("$defs").items()}
    cases = [
        {"if": {"properties": {TASK: {"const": task}}} | ({} if task == DEFAULT_TASK else {"required": [TASK]}),
         "then": {"$ref": f"#/$defs/{TASKS[task].schema.__name__}"}}
        for task in TASKS
    ]  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {TASK: {"enum": list(TASKS)}},
        "allOf": cases,
        "$defs": definitions | {TASKS[task].schema.__name__: schema for task, schema in schemas.items()},
    }


def task_schema(task: str) -> dict[str, Any]:
    """JSON schema of one task's recipes."""
    whole = TASKS[task].schema.model_json_schema()
    sections = sections_of(TASKS[task].schema)
    for path, kind in COMPONENT_PATHS.items():
        section, key = path.split(".")
        if section not in sections or key not in sections[section].model_fields:
            continue
        known = {"enum": list(registry.entries(kind))}
        name = {"anyOf": [known, {"type": "string"}]}
        options = {"type": "object", "properties": {"use": name}, "required": ["use"], "additionalProperties": True}
        field = whole["$defs"][sections[section].__name__]["properties"][key]
        field.pop("$ref", None)
        nothing = [{"type": "null"}] if {"type": "null"} in field.get("anyOf", []) else []
        component = {"anyOf": [known, {"type": "string"}, options, *nothing]}
        field.update({"type": "array", "items": component} if "items" in field else component)
    del whole["$defs"]["Component"]
    text = "Recipe that this one changes: a path from this file's folder, or a shipped recipe's name. Not inherited: "
    whole["properties"] = {
        BASE: {"type": "string", "description": text + ", ".join(NOT_INHERITED)},
        **whole["properties"],
    }
    return whole
