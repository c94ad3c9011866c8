"""`dheads components`: what recipes can name, from which package, with which options, and whether it does its job."""

from __future__ import annotations

import inspect
from typing import Any

from dheads_cli import console, registry
from dheads_cli.errors import DheadsError
from dheads_cli.run import encoder_facts


def components(kind: str | None = None, *, check: bool = False) -> list[dict[str, Any]]:
    """List the installed components, and print them.

    Args:
        kind: only this kind.
        check: build each with its default options and run the conformance kit on it.

    Returns:
        For each, {"kind", "name", "package", "version", "target", "options", "error"} and, where checked, "problems"
        and perhaps "note". An audio encoder has "facts" too, those of `encoder_facts.facts`.

    Raises:
        DheadsError: no such kind; or a checked component fails, after all are shown.
    """
    if kind is not None and kind not in registry.GROUPS:
        near = registry.nearest(kind, list(registry.GROUPS))
        raise DheadsError(f"--kind {kind}: no such kind{near} Kinds: {', '.join(registry.GROUPS)}.")
    kinds = registry.GROUPS if kind is None else (kind,)
    entries = [entry for each in kinds for group in registry.entries(each).values() for entry in group]
    if check:
        with console.progress("check", total=len(entries), unit="components") as bar:
            found = []
            for entry in entries:
                found.append(_checked(_described(entry)))
                bar.advance(1)
    else:
        found = [_described(entry) for entry in entries]
    columns = ["kind", "name", "package", "version", "options", *(["check"] if check else [])]
    console.table("", columns, [_row(each) for each in found])
    if encoders := {each["name"]: each["facts"] for each in found if "facts" in each}:
        encoder_facts.show(encoders)
    console.result(found)
    if failed := [each["name"] for each in found if each.get("problems")]:
        raise DheadsError(f"{len(failed)} of {len(found)} components fail: {', '.join(failed)}; the table says why")
    return found


def _described(entry: registry.Entry) -> dict[str, Any]:
    described: dict[str, Any] = {
        "kind": entry.kind,
        "name": entry.name,
        "package": entry.package,
        "version": entry.version,
        "target": entry.target,
        "options": {},
        "error": None,
    }
    try:
        parameters = registry.signature_of(registry.load(entry.kind, entry.name))
    except (DheadsError, ValueError) as error:
        return described | {"error": str(error)}
    options = {
        name: "(needed)" if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    described["options"] = options
    if entry.kind == "audio_encoders":
        described["facts"] = encoder_facts.facts_of(entry.name)
    return described


def _checked(described: dict[str, Any]) -> dict[str, Any]:
    """Add "problems" (empty where the component conforms) or, where it could not be tried, a "note" why."""
    from dheads_cli import conformance

    if described["error"]:
        return described | {"problems": [described["error"]]}
    if needed := [option for option, value in described["options"].items() if value == "(needed)"]:
        return described | {"problems": [], "note": f"not tried: it needs the option {' and '.join(needed)}"}
    try:
        return described | {"problems": conformance.check(described["kind"], described["name"])}
    except DheadsError as error:  # an optional package or a file that the user has not got
        return described | {"problems": [], "note": f"not tried: {error}"}


def _row(described: dict[str, Any]) -> list[str]:
    options = ", ".join(f"{name}={value}" for name, value in described["options"].items())
    row = [described[key] for key in ("kind", "name", "package", "version")] + [described["error"] or options]
    if "problems" in described:
        row.append("; ".join(described["problems"]) or described.get("note", "passes"))
    return row
