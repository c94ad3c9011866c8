"""Recipes from files, overrides and checkpoints, with the position of every mistake and the origin of every value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_errors import component_mistakes, component_of, in_order, validate, wrong_options
from dheads_cli.recipe_files import BASE, forget, locate, read_recipe
from dheads_cli.recipe_section import Component, Section
from dheads_cli.recipe_tasks import DEFAULT_TASK, TASKS, AnyRecipe, schema_of, sections_of, talking_head
from dheads_cli.recipe_yaml import Document, Loc, Mistake, dotted, flow, parse

R = TypeVar("R", bound=AnyRecipe, covariant=True)


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """A recipe and where it came from."""

    recipe: R
    origins: dict[str, str]  # each value's path, such as "train.lr", to "default", "FILE:LINE:COL" or "--set"
    path: Path


def load_recipe(ref: str, overrides: Sequence[str] = ()) -> Loaded[Recipe]:
    """load_any_recipe, for what takes only a talking-head model's; another task's is a DheadsError."""
    loaded = load_any_recipe(ref, overrides)
    return Loaded(talking_head(loaded.recipe, ref), loaded.origins, loaded.path)


def load_any_recipe(ref: str, overrides: Sequence[str] = ()) -> Loaded[AnyRecipe]:
    """Read a recipe of any task.

    Args:
        ref: a path, or the name of a shipped recipe such as "tiny" or "paper/lrw".
        overrides: `a.b=value` each, the value in YAML.

    Raises:
        DheadsError: the file can't be read, or all mistakes in it, its bases and the overrides, one a line.
    """
    path = locate(ref)
    name = str(path)
    document = read_recipe(path)
    for override in overrides:
        _set(document, override)
    recipe, wrong = validate(document, name)
    wrong = document.mistakes + wrong + component_mistakes(document, name)
    if recipe is None or wrong:
        raise DheadsError("\n".join(map(str, in_order(wrong, name))))
    return Loaded(recipe, _origins(recipe, document), path)


def recipe_to_yaml(recipe: AnyRecipe, origins: Mapping[str, str] | None = None) -> str:
    """The complete recipe as YAML that reads back the same; with `origins`, each line ends in its value's origin."""
    lines = list(_lines(recipe))
    width = max(len(text) for text, _ in lines if len(text) <= 48)  # a long text does not push the rest aside
    if origins is None:
        return "".join(f"{text}\n" for text, _ in lines)
    return "".join(f"{text:{width}}  # {origins[path]}\n" if path else f"{text}\n" for text, path in lines)


def recipe_from_json(text: str, where: str = "checkpoint") -> Recipe:
    """any_recipe_from_json, for what takes only a talking-head model; another task's is a DheadsError."""
    return talking_head(any_recipe_from_json(text, where), where)


def any_recipe_from_json(text: str, where: str = "checkpoint") -> AnyRecipe:
    """The recipe, of any task, that a checkpoint carries.

    Args:
        text: JSON, as `recipe.model_dump_json()` wrote it.
        where: the checkpoint, for errors.

    Raises:
        DheadsError: the text is no recipe.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise DheadsError(f"{where}: its recipe is not JSON ({error}): the file is damaged") from error
    if not isinstance(data, dict):
        raise DheadsError(f"{where}: its recipe is not a recipe: the file is damaged")
    recipe, mistakes = validate(Document(data), where)
    if recipe is None:
        raise DheadsError("\n".join(map(str, mistakes)))
    return recipe


def overridden(recipe: Recipe, overrides: Sequence[str], section: str) -> Recipe:
    """A checkpoint's recipe with values of one section changed.

    Args:
        recipe: complete.
        overrides: `section.key=value` each, the value in YAML.
        section: the only one that may be changed, such as "sample".

    Raises:
        DheadsError: all mistakes in the overrides, one a line.
    """
    if not overrides:
        return recipe
    document = Document(recipe.model_dump(mode="json"))
    for override in overrides:
        if not override.strip().startswith(f"{section}."):
            text = f"only {section}.KEY can be set here: the rest of the recipe is what the model was trained with"
            document.mistakes.append(Mistake(f"--set {override}", text))
        else:
            _set(document, override)
    changed, wrong = validate(document, recipe.name)
    wrong = document.mistakes + wrong + component_mistakes(document, recipe.name)
    if changed is None or wrong:
        raise DheadsError("\n".join(map(str, in_order(wrong, recipe.name))))
    return talking_head(changed, recipe.name)


def component_from_text(kind: str, text: str, flag: str) -> Component:
    """A component chosen on the command line: `ddim`, or `{use: ddim, steps: 50}`.

    Args:
        kind: registry group, such as "samplers".
        text: name, or YAML.
        flag: the option it was given to, for errors.

    Raises:
        DheadsError: no such component or option.
    """
    return _components(kind, text, flag, text)[0]


def components_from_text(kind: str, text: str, flag: str) -> list[Component]:
    """Several components: `mouth,lmd`, or `mouth,{use: lmd, option: value}`."""
    return _components(kind, f"[{text}]", flag, text)


def _components(kind: str, text: str, flag: str, shown: str) -> list[Component]:
    where = f"{flag} {shown}"
    document = parse(text, where, positions=False)
    items = document.data if isinstance(document.data, list) else [document.data]
    wrong = [mistake.text for mistake in document.mistakes]
    components = []
    for item in [] if wrong else items:
        component = component_of(item)
        if component is None:
            wrong.append("must be a component: NAME, or '{use: NAME, option: value}'")
        else:
            components.append(component)
            wrong += wrong_options(kind, component).values()
    if wrong or not components:
        raise DheadsError("\n".join(f"{where}: {text}" for text in wrong or ["names no component"]))
    return components


# Overrides


def _set(document: Document, override: str) -> None:
    where = f"--set {override}"
    key, equals, text = override.partition("=")
    loc: Loc = tuple(key.strip().split("."))
    if not equals or not all(loc):
        document.mistakes.append(Mistake(where, "write it as KEY=VALUE, such as --set train.lr=1e-4"))
        return
    value = parse(text, where, positions=False)
    if value.mistakes:
        document.mistakes += value.mistakes
        return
    sections = sections_of(_schema(document))
    if key.strip() in sections:
        example = f"{key.strip()}.{next(iter(sections[key.strip()].model_fields))}=..."
        document.mistakes.append(Mistake(where, f"{key.strip()} is a section; set one of its keys: --set {example}"))
        return
    if loc[0] == BASE:
        document.mistakes.append(Mistake(where, "a base is named in a recipe's file only"))
        return
    holder = _holder(document, loc, where)
    if holder is None:
        return
    forget(document, loc)
    holder[str(loc[-1])] = value.data
    document.keys[loc] = where
    document.values.update({(*loc, *inner): where for inner in value.values})


def _holder(document: Document, loc: Loc, where: str) -> dict[str, Any] | None:
    """The mapping that an override's last key goes into, made where it is missing."""
    holder = document.data
    for depth, part in enumerate(loc[:-1]):
        here = loc[: depth + 1]
        inner, field = holder.get(part), _field_at(_schema(document), here)
        if field and isinstance(field.default, Component) and isinstance(inner, str | None):
            # `sample.sampler.steps=5` gives options to a component that was only named, or not mentioned.
            inner = {"use": inner or field.default.use}
            if here in document.values:
                document.values[(*here, "use")] = document.values[here]
        elif inner is None and (field is None or isinstance(field.default, (Section, dict))):
            inner = {}
            document.keys.setdefault(here, where)
        if not isinstance(inner, dict):
            text = f"{dotted(here)} has no keys; set it whole: --set {dotted(here)}=..."
            document.mistakes.append(Mistake(where, text))
            return None
        holder[part] = inner
        holder = inner
    return holder  # type: ignore[no-any-return]


def _schema(document: Document) -> type[BaseModel]:
    """The schema of its task; of the usual one where the document's is none, which is told when it is checked."""
    return schema_of(document.data) or TASKS[DEFAULT_TASK].schema


def _field_at(schema: type[BaseModel], loc: Loc) -> FieldInfo | None:
    """The schema's field at `section.key`; None for sections and for what the schema does not know."""
    section = sections_of(schema).get(str(loc[0]))
    return section.model_fields.get(str(loc[1])) if section and len(loc) == 2 else None


# Showing


def _lines(recipe: AnyRecipe) -> Any:
    """(line, path of its value or "") of the complete recipe."""
    sections = sections_of(type(recipe))
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        if name not in sections:
            yield f"{name}: {flow(value)}", name
            continue
        yield "", ""
        yield f"{name}:", ""
        for key in sections[name].model_fields:
            yield from _field(f"{name}.{key}", key, getattr(value, key))


def _field(path: str, key: str, value: Any, indent: str = "  ") -> Any:
    if isinstance(value, Section):
        yield f"{indent}{key}:", ""
        for inner in type(value).model_fields:
            yield from _field(f"{path}.{inner}", inner, getattr(value, inner), f"{indent}  ")
    elif isinstance(value, dict) and value:
        yield f"{indent}{key}:", ""
        for name, each in value.items():
            yield f"{indent}  {flow(name)}: {flow(_plain(each))}", f"{path}.{name}"
    elif not isinstance(value, Component):
        yield f"{indent}{key}: {flow(_plain(value))}", path
    elif not value.options:
        yield f"{indent}{key}: {flow(value.use)}", f"{path}.use"
    else:
        yield f"{indent}{key}:", ""
        for option, each in {"use": value.use, **value.options}.items():
            yield f"{indent}  {flow(option)}: {flow(each)}", f"{path}.{option}"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value


def _origins(recipe: AnyRecipe, document: Document) -> dict[str, str]:
    origins = {}
    for _, path in _lines(recipe):
        if not path:
            continue
        loc: Loc = tuple(path.split("."))
        where = document.values.get(loc) or (document.values.get(loc[:-1]) if loc[-1] == "use" else None)
        if where is None:  # a mapping that is given by one of its keys
            where = next((at for inner, at in document.values.items() if inner[: len(loc)] == loc), None)
        origins[path] = "default" if where is None else "--set" if where.startswith("--set ") else where
    return origins
