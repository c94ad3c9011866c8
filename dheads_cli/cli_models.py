"""The commands that hand trained models on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dheads_cli.cli_options import Json, Overwrite, Quiet, SampleSets

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Run folder, checkpoint, or a shipped model's name.")]


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .safetensors.")],
    card: Annotated[
        Path | None, typer.Option(help="Text to keep in it, such as Markdown: data, use and misuse, numbers.")
    ] = None,
    sets: SampleSets = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a trained model as one file to hand on. Weights of half the size, the recipe, a card.

    Example: dheads export runs/tiny -o tiny.safetensors --card card.md
    """
    from dheads_cli import console
    from dheads_cli.run.export import export as run

    console.result(run(model, out, card=card, sets=sets or [], overwrite=overwrite))


def card(model: Model, quiet: Quiet = False, json: Json = False) -> None:
    """Show what a model's file says of it. Its card: data, use and misuse, numbers.

    Example: dheads card small
    """
    from dheads_cli import console
    from dheads_cli.run.export import show_card

    console.result(show_card(model))
