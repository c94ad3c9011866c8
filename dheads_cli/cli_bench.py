"""The `dheads bench` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dheads_cli.cli_options import Device, Json, Quiet, Sets, Trust
from dheads_cli.errors import DheadsError

bench_app = typer.Typer(rich_markup_mode=None)
Seconds = Annotated[float, typer.Option(min=0.1, help="How long each measurement lasts, s.")]


@bench_app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Checkpoint, run folder, or a shipped model's name.")] = None,
    face: Annotated[Path | None, typer.Option(help="Photo to animate; without it, a small one that ships.")] = None,
    speech: Annotated[Path | None, typer.Option(help="Recording for it; without it, a made-up sound.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Videos to preprocess; without it, that is left out.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Measure this recipe's network instead, with made-up weights: a path or a name.")
    ] = None,
    sets: Sets = None,
    seconds: Seconds = 3.0,
    device: Device = "auto",
    trust: Trust = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure the speed of this machine. Convolution peak, network, animate loop, training, preprocessing.

    Examples: dheads bench --json > bench.json;  dheads bench --recipe paper/crema;  dheads bench train --help
    """
    if context.invoked_subcommand is not None:
        return
    if recipe is not None:
        if model or face or speech or corpus:
            raise DheadsError("--recipe measures a network alone: leave out --model, --face, --speech and --corpus")
        from dheads_cli.recipe_io import load_recipe
        from dheads_cli.run.bench_network import bench_network

        bench_network(load_recipe(recipe, sets or []).recipe, device=device, seconds=seconds)
        return
    if sets:
        raise DheadsError("--set changes a recipe: name one with --recipe")
    from dheads_cli.run.bench import bench as run

    run(model=model, device=device, seconds=seconds, face=face, speech=speech, corpus=corpus)


@bench_app.command("train")
def bench_train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Path of a recipe, or a shipped one's name; without it, small.")
    ] = "small",
    data: Annotated[Path | None, typer.Option(help="Preprocessed corpus; without it, the recipe's data.path.")] = None,
    sets: Sets = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="Measure the compiled network too, which takes minutes to make.")
    ] = False,
    seconds: Seconds = 3.0,
    device: Device = "auto",
    trust: Trust = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure training. Steps in each precision, making batches, and both together: who waits for whom.

    Example: dheads bench train tiny --data data/grid-64
    """
    from dheads_cli.recipe_io import load_recipe
    from dheads_cli.run.bench_train import bench_train as run

    given = [*(sets or []), *([] if data is None else [f"data.path={data}"])]
    run(load_recipe(recipe, given).recipe, device=device, seconds=seconds, compiles=compile)
