"""The `dheads recipe` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dheads_cli.cli_options import Device, Json, Quiet, RecipeRef, Sets, Trust

recipe_app = typer.Typer(help="Show or check a recipe, or write the schema.", rich_markup_mode=None)


@recipe_app.command("show")
def recipe_show(recipe: RecipeRef, sets: Sets = None, quiet: Quiet = False, json: Json = False) -> None:
    """Print the complete recipe, with the file and line, `--set` or default that each value comes from.

    Example: dheads recipe show tiny --set sample.sampler.steps=25
    """
    from dheads_cli.run.recipe import show

    show(recipe, sets or [])


@recipe_app.command("check")
def recipe_check(
    recipe: RecipeRef,
    sets: Sets = None,
    device: Device = "auto",
    trust: Trust = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Try a recipe without training: build its components, look for its data, say what it takes.

    Example: dheads recipe check tiny --set model.channels=96
    """
    from dheads_cli.run.recipe import check

    check(recipe, sets or [], device=device)


@recipe_app.command("schema")
def recipe_schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; without it, the schema goes to stdout.")
    ] = None,
) -> None:
    """Write the recipes' JSON schema, with which editors complete and check them.

    Example: dheads recipe schema -o recipe.schema.json, then put this first in a recipe:
    # yaml-language-server: $schema=recipe.schema.json
    """
    from dheads_cli.run.recipe_schema import schema

    schema(out)
