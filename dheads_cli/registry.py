"""Components by name, found through entry points.

Discovery reads package metadata only. A component's module is imported when the component is built, so a plugin that
is broken hurts only the recipe that names it.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dheads_cli.errors import DheadsError

GROUPS = ("audio_encoders", "landmark_detectors", "conditioning", "samplers", "metrics", "lip_readers")


@dataclass(frozen=True)
class Entry:
    """One registered component: what metadata says of it, nothing imported."""

    kind: str
    name: str
    package: str
    version: str
    target: str
    point: EntryPoint


@cache
def entries(kind: str) -> dict[str, list[Entry]]:
    """Every package's components of a kind, by name. More than one entry under a name is an error once it is used."""
    found: dict[str, list[Entry]] = {}
    for point in entry_points(group=f"dheads.{kind}"):
        dist = point.dist
        entry = Entry(kind, point.name, dist.name if dist else "?", dist.version if dist else "?", point.value, point)
        known = found.setdefault(point.name, [])
        # An editable install beside its own build lists one distribution twice.
        if not any(other.package == entry.package and other.target == entry.target for other in known):
            known.append(entry)
    return dict(sorted(found.items()))


def nearest(name: str, names: Mapping[str, Any] | list[str]) -> str:
    """The end of a sentence about a mistyped name: "; did you mean 'ddim'?", or "." where nothing is near."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."


def label(kind: str) -> str:
    """One component of a kind, in words: "audio encoder"."""
    return kind.replace("_", " ").removesuffix("s")


def find(kind: str, name: str) -> Entry:
    """The one entry of that kind and name.

    Raises:
        DheadsError: nothing, or more than one package, registers the name.
    """
    known = entries(kind)
    if name not in known:
        names = ", ".join(known) or "none"
        raise DheadsError(f"no {label(kind)} is called {name!r}{nearest(name, known)} Available: {names}.")
    if len(known[name]) > 1:
        owners = " and ".join(f"{entry.package} {entry.version} ({entry.target})" for entry in known[name])
        raise DheadsError(f"{label(kind)} {name!r} is registered by {owners}: uninstall all but one of them.")
    return known[name][0]


def load(kind: str, name: str) -> Any:
    """Import a component's class or function.

    Raises:
        DheadsError: there is no such component, or its package fails to import (with package, version and cause).
    """
    entry = find(kind, name)
    try:
        factory = entry.point.load()
    except Exception as error:  # a plugin may fail in any way
        raise DheadsError(f"{_owned(entry)} can't be imported: {type(error).__name__}: {error}") from error
    if not callable(factory):
        raise DheadsError(f"{_owned(entry)} is neither a class nor a function: its package has to mend that.")
    return factory


def _owned(entry: Entry) -> str:
    return f"{label(entry.kind)} {entry.name!r} of {entry.package} {entry.version} ({entry.target})"


def signature_of(factory: Any) -> dict[str, inspect.Parameter]:
    """The options a component takes, by name; annotations are evaluated where that is possible."""
    try:
        return dict(inspect.signature(factory, eval_str=True).parameters)
    except (NameError, SyntaxError, TypeError, AttributeError):  # annotations for type checkers only
        return dict(inspect.signature(factory).parameters)


def option_errors(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a component's options, by option name ("" is the component itself); empty when all is well."""
    try:
        parameters = signature_of(load(kind, name))
    except DheadsError as error:
        return {"": str(error)}
    except ValueError as error:  # a factory of compiled code need not have a signature
        return {"": f"{_owned(find(kind, name))} does not say which options it takes: {error}"}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    named = {option: parameter for option, parameter in parameters.items() if parameter.kind not in variadic}
    wrong = {}
    for option, value in options.items():
        if option in named:
            if problem := _type_error(named[option], value):
                wrong[option] = problem
        elif not takes_any:
            known = ", ".join(named) or "none"
            wrong[option] = f"{name} has no option {option!r}{nearest(option, list(named))} Options: {known}."
    for option, parameter in named.items():
        if parameter.default is inspect.Parameter.empty and option not in options:
            wrong[option] = f"{name} needs the option {option!r}."
    return wrong


_WORDS = {
    "Input should be": "must be",
    "a valid integer": "a whole number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid": "a",
}


def _type_error(parameter: inspect.Parameter, value: Any) -> str:
    """How a value differs from the parameter's annotation; "" where it fits or the annotation can't be checked."""
    if parameter.annotation is inspect.Parameter.empty or isinstance(parameter.annotation, str):
        return ""
    import json

    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        # As JSON, because YAML knows lists only, and these are good tuples there.
        TypeAdapter(parameter.annotation).validate_json(json.dumps(value), strict=True)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return ""
    except ValidationError as error:
        what = error.errors(include_url=False)[0]["msg"]
        for pydantic_word, word in _WORDS.items():
            what = what.replace(pydantic_word, word)
        return f"{what}, not {value!r}"
    return ""


def build(kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Make a component from its name and a recipe's options.

    Raises:
        DheadsError: unknown name or options, the component refuses their values, or it lacks what its kind must have.
    """
    options = dict(options or {})
    if wrong := option_errors(kind, name, options):
        raise DheadsError(" ".join(text if not option else f"{option}: {text}" for option, text in wrong.items()))
    factory = load(kind, name)
    try:
        component = factory(**options)
    except DheadsError:
        raise
    except (TypeError, ValueError) as error:
        raise DheadsError(f"{label(kind)} {name!r}: {error}") from error
    except Exception as error:  # a plugin may fail in any way
        raise DheadsError(f"{_owned(find(kind, name))} can't be built: {type(error).__name__}: {error}") from error
    if missing := missing_members(kind, component):
        raise DheadsError(f"{_owned(find(kind, name))} is no {label(kind)}: it has no {', '.join(missing)}.")
    return component


def missing_members(kind: str, component: Any) -> list[str]:
    """The attributes and methods of a kind's contract that a component has not."""
    from dheads_cli.protocols import KINDS

    if kind not in KINDS:
        return []
    contract = {**KINDS[kind].__annotations__, **vars(KINDS[kind])}
    needed = [member for member in contract if member == "__call__" or not member.startswith("_")]
    return [member for member in needed if not hasattr(component, member)]
