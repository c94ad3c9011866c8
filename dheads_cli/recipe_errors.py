"""What is wrong with a recipe, every mistake at once, in plain words and with its position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import COMPONENT_PATHS
from dheads_cli.recipe_files import BASE
from dheads_cli.recipe_section import Component
from dheads_cli.recipe_tasks import TASK, TASKS, AnyRecipe, schema_of, sections_of, unknown_task
from dheads_cli.recipe_yaml import Document, Loc, Mistake, dotted, flow


def validate(document: Document, name: str) -> tuple[AnyRecipe | None, list[Mistake]]:
    """Check a document against the schema of its task; nothing else is known of one whose task is none.

    Args:
        document: what was read.
        name: the file, where a mistake has no better position.
    """
    schema = schema_of(document.data)
    if schema is None:
        text = f"{TASK}: {unknown_task(document.data[TASK])}"
        return None, [Mistake(place(document, (TASK,), name), text)]
    try:
        return schema.model_validate(document.data), []
    except ValidationError as error:
        return None, [_mistake(item, schema, document, name) for item in error.errors(include_url=False)]


def _mistake(item: Any, schema: type[BaseModel], document: Document, name: str) -> Mistake:
    ctx = item.get("ctx", {})  # a validator of another field names the one it is about, or, where deeper, its place
    beside = (*item["loc"][:-1], ctx.get("field", item["loc"][-1])) if item["loc"] else ()
    loc = ctx.get("below", beside)
    where = document.keys.get(loc, name) if item["type"] == "extra_forbidden" else place(document, loc, name)
    return Mistake(where, f"{dotted(loc)}: {_words(item, schema, loc)}")


def place(document: Document, loc: Loc, name: str) -> str:
    """Position of a value, or of what it is missing from."""
    return next((document.values[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in document.values), name)


def _words(item: Any, schema: type[BaseModel], loc: Loc) -> str:
    """A pydantic error in plain words."""
    kind, given, ctx = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{_nearest_key(schema, loc)}"
    if kind == "missing":
        return "is needed but not given"
    if kind == "string_pattern_mismatch":
        return f"must be letters, digits, '.', '-' and '_', the first a letter or digit, not {given!r}"
    wanted = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_type": "true or false",
        "string_type": "text",
        "list_type": "a list, written [a, b]",
        "model_type": "a section of `key: value` lines",
        "literal_error": ctx.get("expected", ""),
        "greater_than": f"above {ctx.get('gt', 0):g}",
        "greater_than_equal": f"at least {ctx.get('ge', 0):g}",
        "less_than": f"below {ctx.get('lt', 0):g}",
        "less_than_equal": f"at most {ctx.get('le', 0):g}",
        "multiple_of": f"a multiple of {ctx.get('multiple_of')}",
    }
    if kind == "model_type" and dotted(loc[:2]) in COMPONENT_PATHS:
        wanted["model_type"] = "a component: NAME, or {use: NAME, option: value}"
    if kind not in wanted:
        return str(item["msg"])
    if given is None:
        return f"has no value; it must be {wanted[kind]}"
    quotes = f'; in quotes it is text: "{given}"' if kind == "string_type" and isinstance(given, int | float) else ""
    return f"must be {wanted[kind]}, not {repr(given) if isinstance(given, str) else flow(given)}{quotes}"


def _nearest_key(schema: type[BaseModel], loc: Loc) -> str:
    sections = sections_of(schema)
    section = _section_at(schema, loc[:-1])
    here, key = list(section.model_fields), str(loc[-1])
    if section is schema:
        here.append(BASE)
        if tasks := [task for task, other in TASKS.items() if key in other.schema.model_fields]:
            return f"; it belongs to recipes whose task is {' or '.join(map(repr, tasks))}"
    if (near := registry.nearest(key, here)) != ".":
        return near
    homes = [f"{name}.{key}" for name, other in sections.items() if key in other.model_fields]
    if homes := homes + [key] * (key in schema.model_fields):
        return f"; did you mean {' or '.join(map(repr, homes))}?"
    return f"; the keys here are {', '.join(here)}"


def _section_at(schema: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """The innermost section of a schema that a place lies in: `Recipe`, `Train`, `Augment` ..."""
    section = schema
    for part in loc:
        annotation = section.model_fields[str(part)].annotation if str(part) in section.model_fields else None
        section = next(_models_in(annotation), section)
    return section


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field's type names, also inside `X | None` and `list[X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models_in(each)


def component_mistakes(document: Document, name: str) -> list[Mistake]:
    """Unknown components, and wrong options, among those that the document itself names.

    A component's module is imported only where it is given options: its name alone is checked by metadata.
    """
    mistakes: list[Mistake] = []
    for path, kind in COMPONENT_PATHS.items():
        section, key = path.split(".")
        values = document.data.get(section)
        value = values.get(key) if isinstance(values, dict) else None
        if isinstance(value, list):
            for index, item in enumerate(value):
                mistakes += _of_component(kind, item, (section, key, index), document, name)
        else:
            mistakes += _of_component(kind, value, (section, key), document, name)
    return mistakes


def _of_component(kind: str, item: Any, loc: Loc, document: Document, name: str) -> list[Mistake]:
    component = component_of(item)
    if component is None:  # where that is a mistake, the schema says so
        return []
    mistakes = []
    for option, text in wrong_options(kind, component).items():
        at = (*loc, option) if option else loc
        precise = (*loc, "use") if not option and isinstance(item, dict) else at
        mistakes.append(Mistake(place(document, precise, name), f"{dotted(at)}: {text}"))
    return mistakes


def component_of(item: Any) -> Component | None:
    """`item` as a component, or None where it is none."""
    try:
        return Component.model_validate(item)
    except ValidationError:
        return None


def wrong_options(kind: str, component: Component) -> dict[str, str]:
    """What is wrong, by option; "" is the component itself. Imports it only where it is given options."""
    if component.options:
        return registry.option_errors(kind, component.use, component.options)
    try:
        registry.find(kind, component.use)
    except DheadsError as error:
        return {"": str(error)}
    return {}


def in_order(mistakes: Iterable[Mistake], name: str) -> list[Mistake]:
    """Each once: those in the file `name` in its order, then those in its bases, then those of overrides."""

    def place_in_list(mistake: Mistake) -> tuple[int, str, int, int]:
        file, line, column = mistake.position or ("", 0, 0)
        return (2 if mistake.position is None else file != name), file, line, column

    return sorted(dict.fromkeys(mistakes), key=place_in_list)
