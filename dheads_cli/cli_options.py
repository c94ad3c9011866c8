"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dheads_cli import console, trust
from dheads_cli.errors import DheadsError

if TYPE_CHECKING:
    from dheads_cli.recipe_section import Component
    from dheads_cli.run.frames import Quality


def _be_quiet(value: bool) -> bool:
    console.configure(quiet=value or console.settings.quiet, json=console.settings.json)
    return value


def _speak_json(value: bool) -> bool:
    console.configure(quiet=console.settings.quiet, json=value or console.settings.json)
    return value


def _trust(value: bool) -> bool:
    trust.allow(value)
    return value


Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_be_quiet, help="Only warnings, errors and results.")]
Json = Annotated[bool, typer.Option("--json", callback=_speak_json, help="Print the result as JSON on stdout.")]
RecipeRef = Annotated[str, typer.Argument(metavar="RECIPE", help="Path of a recipe, or a shipped one's name: tiny.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe value; may be repeated. --set train.lr=1e-4"),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one.")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, max=2**32 - 1, help="Seed of every random draw; without it, the recipe's."),
]
SamplerText = Annotated[
    str | None,
    typer.Option("--sampler", metavar="NAME", help="Sampler in place of the recipe's: ddim, '{use: ddim, steps: 50}'."),
]
QualityName = Annotated[
    str | None,
    typer.Option(
        "--quality", metavar="draft|normal|best", help="The model's quick, usual or best sampler; --sampler goes first."
    ),
]
MotionNoise = Annotated[
    float | None,
    typer.Option(min=0, help="Noise on motion frames (sigma) in place of the recipe's."),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", callback=_trust, help="Open TorchScript files, which can run any code on this machine."),
]
SampleSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe's section sample; may be repeated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there already.")]
CorpusFolder = Annotated[
    Path | None, typer.Option(help="Preprocessed corpus; without it, the recipe's data.path, of several the first.")
]
Speaker = Annotated[str | None, typer.Option(help="Only this speaker's clips.")]
Shuffled = Annotated[
    bool, typer.Option("--shuffled", help="Also make each clip with another's sound: the metrics' floor.")
]


def quality_of(text: str | None) -> Quality:
    """The quality that an option names.

    Raises:
        DheadsError: it is none.
    """
    qualities: dict[str, Quality] = {"draft": "draft", "normal": "normal", "best": "best"}
    if (text or "normal") not in qualities:
        raise DheadsError(f"--quality {text}: take {', '.join(qualities)}")
    return qualities[text or "normal"]


def component_of(kind: str, text: str | None, flag: str) -> Component | None:
    """The component an option names; read before the command's own imports, so that a typo is told at once."""
    from dheads_cli.recipe_io import component_from_text

    return component_from_text(kind, text, flag) if text else None
