"""YAML read with the position of every key and value, and written so that it reads back the same.

Scalars follow YAML 1.2, as people expect them: `1e-4` is a number, `on`, `no`, `1:30` and `2024-01-01` are text. There
are no aliases and no tags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

Loc = tuple[str | int, ...]

_CORE = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.nan$"
        ),
        list("-+.0123456789"),
    ),
)
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own attribute)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read: write the value out", problem_mark=mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that either YAML 1.1 or this module's reader would take for something else."""


for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, _first)


@dataclass(frozen=True)
class Mistake:
    """One mistake: where it is (`FILE:LINE:COL`, or `--set KEY=VALUE`) and what it is."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"

    @property
    def position(self) -> tuple[str, int, int] | None:
        """(file, line, column), or None where it is not in a file."""
        found = None if self.where.startswith("--set ") else re.search(r"^(.*):(\d+):(\d+)$", self.where)
        return (found[1], int(found[2]), int(found[3])) if found else None


@dataclass
class Document:
    """Plain data, the position of each key and of each value, and what could not be read."""

    data: Any = None
    keys: dict[Loc, str] = field(default_factory=dict)
    values: dict[Loc, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)


def parse(text: str, name: str, *, positions: bool = True) -> Document:
    """Read one YAML document.

    Args:
        text: the document.
        name: what positions begin with: the file as the user knows it.
        positions: False leaves line and column out, where the text is no file.
    """
    document = Document()

    def place(line: int, column: int) -> str:
        return f"{name}:{line + 1}:{column + 1}" if positions else name

    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        tabs = [(n, tab.start(1)) for n, line in enumerate(text.splitlines()) if (tab := re.search(r"^ *(\t)", line))]
        if tabs and "\\t" in str(error.problem):
            document.mistakes = [Mistake(place(n, column), "a tab; YAML indents with spaces") for n, column in tabs]
        else:
            where = place(mark.line, mark.column) if mark else name
            document.mistakes = [Mistake(where, f"not valid YAML: {_syntax(error)}")]
        return document
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - (text.rfind("\n", 0, error.position) + 1)
        text = f"the character U+{int(error.character):04X} is not allowed in YAML"
        document.mistakes = [Mistake(place(line, column), text)]
        return document
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        document.values[()] = place(0, 0)
    else:
        document.data = _read(node, (), document, place)
    return document


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem).replace("could not find expected ':'", "a key without ': ' after it")
    context = f", {error.context}" if error.context else ""
    began = f" (begun on line {error.context_mark.line + 1})" if error.context_mark else ""
    return problem + context + began


def _read(node: yaml.Node, loc: Loc, document: Document, place: Any) -> Any:
    document.values[loc] = place(node.start_mark.line, node.start_mark.column)
    if isinstance(node, yaml.SequenceNode):
        return [_read(item, (*loc, index), document, place) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, loc, document)
    data: dict[str, Any] = {}
    for key, value in node.value:
        where = place(key.start_mark.line, key.start_mark.column)
        if not isinstance(key, yaml.ScalarNode):
            document.mistakes.append(Mistake(where, "a key must be a plain word"))
            continue
        inner = (*loc, key.value)
        if key.value in data:
            first = document.keys[inner]
            document.mistakes.append(Mistake(where, f"{dotted(inner)}: given twice; the first is at {first}"))
            continue
        document.keys[inner] = where
        data[key.value] = _read(value, inner, document, place)
    return data


def _scalar(node: yaml.ScalarNode, loc: Loc, document: Document) -> Any:
    text, tag = str(node.value), str(node.tag)
    if tag == _TAG + "str":
        return text
    try:
        if tag == _TAG + "null":
            return None
        if tag == _TAG + "bool":
            return {"true": True, "false": False}[text.lower()]
        if tag == _TAG + "int":
            return int(text)
        if tag == _TAG + "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        problem = f"the tag {tag.replace(_TAG, '!!')} is not read: write the plain value"
    except (KeyError, ValueError):
        problem = f"{text!r} is not what its tag says"
    document.mistakes.append(Mistake(document.values[loc], f"{dotted(loc)}: {problem}"))
    return text


def dotted(loc: Loc) -> str:
    """A place in a recipe as people write it: `evaluate.metrics[0].use`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def flow(value: Any) -> str:
    """A value on one line of YAML: `[1, 2, 2]`, `{use: ddim, steps: 10}`, `0.0004`."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=2**30, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
