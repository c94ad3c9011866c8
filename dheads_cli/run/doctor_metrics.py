"""The networks that metrics look with, for `dheads doctor`: which are here, and how the others are had."""

from __future__ import annotations

from dheads_cli import downloads, registry, trust
from dheads_cli.errors import DheadsError


def metric_networks() -> list[tuple[str, str, str]]:
    """(name, what was found, what to do: "" where it is here) of each metric that looks with a network.

    Each is built with its default options, and nothing is downloaded for it.
    """
    rows = []
    for metric in registry.entries("metrics"):
        name = f"metric {metric}"
        try:
            with downloads.none():
                network = registry.build("metrics", metric).weights
        except trust.Untrusted:
            rows.append((name, "its file is here; it can run code, and is opened with --trust only", ""))
        except DheadsError as error:
            rows.append((name, "not to be used yet", str(error)))
        else:
            rows += [(name, network, "")] if network else []
    return rows
