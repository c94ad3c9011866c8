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

GROUPS = ("audio_encoders", "landmark_detectors", "conditioning", "samplers", "metrics")


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


def find(kind: str, name: str) -> Entry:
    """The one entry of that kind and name.

    Raises:
        DheadsError: nothing, or more than one package, registers the name.
    """
    known = entries(kind)
    label = kind.replace("_", " ").removesuffix("s")
    if name not in known:
        names = ", ".join(known) or "none"
        raise DheadsError(f"no {label} is called {name!r}{nearest(name, known)} Available: {names}.")
    if len(known[name]) > 1:
        owners = " and ".join(f"{entry.package} {entry.version} ({entry.target})" for entry in known[name])
        raise DheadsError(f"{label} {name!r} is registered by {owners}: uninstall all but one of them.")
    return known[name][0]


def load(kind: str, name: str) -> Any:
    """Import a component's class or function.

    Raises:
        DheadsError: there is no such component, or its package fails to import (with package, version and cause).
    """
    entry = find(kind, name)
    try:
        return entry.point.load()
    except Exception as error:  # a plugin may fail in any way
        raise DheadsError(
            f"{kind.replace('_', ' ').removesuffix('s')} {name!r} of {entry.package} {entry.version} "
            f"({entry.target}) can't be imported: {type(error).__name__}: {error}"
        ) from error


def signature_of(factory: Any) -> dict[str, inspect.Parameter]:
    """The options a component takes, by name."""
    return dict(inspect.signature(factory).parameters)


def option_errors(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a component's options, by option name ("" is the component itself); empty when all is well."""
    try:
        parameters = signature_of(load(kind, name))
    except DheadsError as error:
        return {"": str(error)}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {}
    wrong = {
        option: f"{name} has no option {option!r}{nearest(option, list(parameters))} "
        f"Options: {', '.join(parameters) or 'none'}."
        for option in options
        if option not in parameters
    }
    for option, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and option not in options:
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                continue
            wrong[option] = f"{name} needs the option {option!r}."
    return wrong


def build(kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Make a component from its name and a recipe's options.

    Raises:
        DheadsError: unknown name or options, or the component refuses their values.
    """
    options = dict(options or {})
    if wrong := option_errors(kind, name, options):
        raise DheadsError(" ".join(wrong.values()))
    try:
        return load(kind, name)(**options)
    except (TypeError, ValueError) as error:
        raise DheadsError(f"{kind.replace('_', ' ').removesuffix('s')} {name!r}: {error}") from error
