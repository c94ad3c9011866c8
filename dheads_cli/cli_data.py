"""The commands that make and look at preprocessed corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dheads_cli.cli_options import Json, Overwrite, Quiet, Sets


def preprocess(
    corpus: Annotated[Path, typer.Argument(help="Folder of videos: LRW, CREMA-D, GRID, or one folder a speaker.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; without it, data/CORPUS-SIZE.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe whose preprocess section is used: a path or a name.")] = "tiny",
    sets: Sets = None,
    size: Annotated[int | None, typer.Option(help="Width and height of the face crops, px.")] = None,
    layout: Annotated[str | None, typer.Option(help="auto, grid, lrw, crema or folder.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 takes one for each core.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Re-read what was written, against its checksums.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Turn a corpus of videos into aligned faces. Called again, it goes on where it stopped.

    Examples: dheads preprocess ~/corpora/grid -o data/grid-64;  dheads preprocess data/grid-64 --verify
    """
    from dheads_cli.recipe_io import load_any_recipe
    from dheads_cli.run import preprocess as run

    if verify:
        run.verify(out or corpus)
        return
    chosen = {"size": size, "layout": layout, "workers": workers}
    flags = [f"preprocess.{key}={value}" for key, value in chosen.items() if value is not None]
    settings = load_any_recipe(recipe, [*(sets or []), *flags]).recipe.preprocess
    run.preprocess(
        corpus, out or Path("data") / f"{corpus.resolve().name}-{settings.size}", settings, overwrite=overwrite
    )
