"""Recipes as files: found by path or name, read, and put on top of the base that they name.

A recipe with `base: lrw.yaml` shows only what differs from that one. Everything comes from the base but `name` and
`description`, which say what one recipe is. A value, or a list as a whole, replaces the base's. A component's options
join those of the base's component where `use` is the same or not given; where it is another, the base's component goes
with all its options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import COMPONENT_PATHS
from dheads_cli.recipe_yaml import Document, Loc, Mistake, dotted, flow, parse

BASE = "base"  # the key; it is gone once the recipe is read
NOT_INHERITED = ("name", "description")
SUFFIXES = (".yaml", ".yml")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with dheads, by name; the name of one in a folder is as "paper/lrw"."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_recipes", package.parent / "recipes"):
        if folder.is_dir():
            found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
            return dict(sorted(found.items(), key=lambda item: (item[0].count("/"), item[0])))
    return {}


def locate(ref: str) -> Path:
    """The file that a path or a shipped recipe's name means.

    Raises:
        DheadsError: there is none; with the nearest name.
    """
    path, known = Path(ref), shipped_recipes()
    if path.suffix not in SUFFIXES:
        if ref in known:
            return _short(known[ref])
        if not path.exists():
            raise DheadsError(f"no recipe is called {ref!r}{registry.nearest(ref, known)} {_shipped(known)}")
    if path.is_dir():
        inside = path / "recipe.yaml"
        hint = f"; its recipe is {inside}" if inside.is_file() else ""
        raise DheadsError(f"{ref}: is a folder, not a recipe{hint}")
    if not path.exists():
        siblings = [str(other) for suffix in SUFFIXES for other in path.parent.glob(f"*{suffix}")]
        raise DheadsError(f"{ref}: no such file{registry.nearest(ref, siblings)} {_shipped(known)}".rstrip())
    return path


def read_recipe(path: Path) -> Document:
    """A recipe's values with those of its bases under them, and every position in the file where it stands.

    Raises:
        DheadsError: a file can't be read or is no recipe, or a base is missing or based on the recipe itself. What
            would be inherited is not known then, so nothing more is checked.
    """
    return _read(path, ())


def _read(path: Path, below: tuple[Path, ...]) -> Document:
    """Read `path`, which `below` are based on, the nearest last."""
    name = str(path)
    document = parse(_read_text(path), name)
    if document.data is None and not document.mistakes:
        document.data = {}
    if not isinstance(document.data, dict):
        wrong = document.mistakes or [Mistake(name, "a recipe is made of `key: value` lines; see recipes/tiny.yaml")]
        raise DheadsError("\n".join(map(str, wrong)))
    if BASE not in document.data:
        return document
    ref, where = document.data.pop(BASE), document.values[BASE,]
    forget(document, (BASE,))
    try:
        return _put_on(_read_base(ref, where, (*below, path)), document)
    except DheadsError as error:
        raise DheadsError("\n".join([*map(str, document.mistakes), str(error)])) from error


def _read_base(ref: Any, where: str, chain: tuple[Path, ...]) -> Document:
    """Read what `base: ref`, standing at `where` in the last file of the chain, means."""
    try:
        path = _base_path(ref, chain[-1])
        if any(path.resolve() == other.resolve() for other in chain):
            circle = " -> ".join(map(str, (*chain, path)))
            raise DheadsError(f"a recipe can't be based on itself ({circle})")
    except DheadsError as error:
        raise DheadsError(str(Mistake(where, f"{BASE}: {error}"))) from error
    return _read(path, chain)


def _base_path(ref: Any, path: Path) -> Path:
    """The file that `base: ref` in `path` means."""
    if not isinstance(ref, str):
        given = "it has no value" if ref is None else f"not {flow(ref)}"
        raise DheadsError(f"must be a recipe's path, from this file's folder, or a shipped recipe's name; {given}")
    return locate(os.path.normpath(path.parent / ref) if ref.endswith(SUFFIXES) else ref)


# Merging


def _put_on(base: Document, own: Document) -> Document:
    """`own` on top of `base`, which is taken apart for it."""
    for key in NOT_INHERITED:
        base.data.pop(key, None)
        forget(base, (key,))
    base.data = _merge(base, own, base.data, own.data, ())
    base.keys.update(own.keys)
    base.values.update(own.values)
    base.mistakes = own.mistakes + base.mistakes
    return base


def _merge(base: Document, own: Document, old: Any, new: Any, loc: Loc) -> Any:
    """The value at `loc`, `new` on top of `old`; `base` forgets the positions of what is replaced."""
    joins = isinstance(old, dict) and isinstance(new, dict)
    if dotted(loc) in COMPONENT_PATHS:
        old, new = _as_options(base, old, loc), _as_options(own, new, loc)
        joins = isinstance(old, dict) and isinstance(new, dict) and new.get("use", old.get("use")) == old.get("use")
    if not joins:
        forget(base, loc)
        return new
    merged = dict(old)
    for key, value in new.items():
        merged[key] = _merge(base, own, old[key], value, (*loc, key)) if key in old else value
    return merged


def _as_options(document: Document, value: Any, loc: Loc) -> Any:
    """A component given by its name alone as `{use: NAME}`, standing where the name stands; others as they are."""
    if not isinstance(value, str):
        return value
    document.values[*loc, "use"] = document.values[loc]
    return {"use": value}


def forget(document: Document, loc: Loc) -> None:
    """Drop the positions of a place and of all inside it."""
    for known in (document.keys, document.values):
        for old in [old for old in known if old[: len(loc)] == loc]:
            del known[old]


# Reading


def _shipped(known: Mapping[str, Path]) -> str:
    return f"Shipped recipes: {', '.join(known) or 'none'}; any other is given by its path, such as ./mine.yaml."


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DheadsError(f"{path}:{line}: not UTF-8 text; save the recipe as UTF-8") from error
    except OSError as error:
        raise DheadsError(f"{path}: can't be read: {error.strerror}") from error
