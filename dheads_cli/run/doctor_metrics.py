"""The networks that metrics look with, for `dheads doctor`: which are here, and how the others are had."""

from __future__ import annotations

from dheads_cli import downloads, registry, trust
from dheads_cli.errors import DheadsError
from dheads_cli.recipe_section import Component
from dheads_cli.run.eval_paper import AS_IN_THE_PAPER


def metric_networks() -> list[tuple[str, str, str]]:
    """(name, what was found, what to do: "" where it is here) of each metric that looks with a network.

    Each is built with its default options, and nothing is downloaded for it.
    """
    rows = []
    for name in registry.entries("metrics"):
        rows.append(_network(f"metric {name}", Component(use=name)))
        if name in AS_IN_THE_PAPER:
            rows.append(_network(f"metric {name}, the paper's", AS_IN_THE_PAPER[name]))
    return [row for row in rows if any(row[1:])]


def _network(name: str, metric: Component) -> tuple[str, str, str]:
    """A row; the last two are "" for a metric that looks with no network."""
    try:
        with downloads.none():
            network: str = registry.build("metrics", metric.use, metric.options).weights
    except trust.Untrusted:
        return name, "its file is here; it can run code, and is opened with --trust only", ""
    except DheadsError as error:
        remedy = str(error).removeprefix(f"metric {metric.use!r} ")
        return name, "not here; nothing but this metric of `dheads eval` needs it", remedy
    return name, network, ""
