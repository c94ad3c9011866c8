"""The `dheads` command: parse, call `run/`, show. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import dheads_cli
from dheads_cli import console
from dheads_cli.cli_animate import animate
from dheads_cli.cli_bench import bench_app
from dheads_cli.cli_data import data_app, preprocess
from dheads_cli.cli_models import card, export
from dheads_cli.cli_options import Device, Json, Overwrite, Quiet, RecipeRef, Seed, Sets, Trust
from dheads_cli.cli_recipe import recipe_app
from dheads_cli.cli_samples import ablate, drift, evaluate, sample, turing_test
from dheads_cli.errors import DheadsError

app = typer.Typer(
    name="dheads",
    help="One photo of a face and a speech recording become a video of that face speaking.",
    epilog="Begin with: dheads animate face.jpg talk.wav -o out.mp4",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe", no_args_is_help=True)


# GNU OpenMP's threads spin this many times at a barrier before they sleep. Its own default, without end where there are
# as many threads as cores, makes torch many times slower on a busy machine (docs/PERFORMANCE.md). It is read when torch
# is loaded, and worker processes inherit it.
SPIN_COUNT = "3000"


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 the user's mistake, 130 Ctrl-C, 1 a bug (with its traceback)."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    try:
        app()
    except DheadsError as error:
        console.error(str(error))
        sys.exit(2)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # Path.is_file() and others raise it where a folder may not be looked into
        if error.errno not in (errno.EACCES, errno.ENAMETOOLONG) or error.filename is None:
            raise
        console.error(f"{error.filename}: {error.strerror}.")
        sys.exit(2)
    except SystemExit as ending:
        if ending.code == 130:
            console.error("stopped by Ctrl-C")
        raise


def _version(value: bool) -> None:
    if value:
        print(f"dheads {dheads_cli.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Version.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command()(animate)
app.command()(preprocess)


@app.command()
def train(
    recipe: RecipeRef,
    sets: Sets = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run", help="Run folder; without it, runs/NAME, by the recipe's name.")
    ] = None,
    device: Device = "auto",
    seed: Seed = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, although there is a run to go on with.")
    ] = False,
    trust: Trust = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a recipe's model. Ctrl-C saves; the same command goes on where it stopped.

    Example: dheads train tiny --set data.path=data/grid-64

    On several GPUs: torchrun --nproc-per-node 2 -m -- dheads_cli train tiny --set data.path=data/grid-64
    """
    from dheads_cli.recipe_io import load_any_recipe
    from dheads_cli.recipe_tasks import trainer_of
    from dheads_cli.run.processes import joined

    with joined(device):
        loaded = load_any_recipe(recipe, [*(sets or []), *([] if seed is None else [f"seed={seed}"])]).recipe
        folder = run_dir or Path("runs") / loaded.name
        console.result(trainer_of(loaded)(loaded, folder, device=device, restart=restart))


app.command()(sample)
app.command("eval")(evaluate)
app.command()(drift)
app.command("turing-test")(turing_test)


@app.command("import")
def import_official(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="OFFICIAL", help="The authors' checkpoint: TorchScript, Lightning, state dict.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; animate takes it as --model.")],
    audio_encoder: Annotated[
        Path | None, typer.Option(help="Their audio encoder: TorchScript, or a state dict of it.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; without it, the folder's.")] = None,
    head_dim: Annotated[
        int | None, typer.Option(min=1, help="Channels of an attention head, which the weights do not tell; 64.")
    ] = None,
    gray_motion: Annotated[
        bool | None,
        typer.Option("--gray-motion/--rgb-motion", help="Where the input channels allow both; without it, RGB."),
    ] = None,
    size: Annotated[int | None, typer.Option(min=32, help="Width and height of the frames, px; 128.")] = None,
    trust: Trust = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a model of the authors' released checkpoint. Its configuration follows from its weights' shapes.

    TorchScript can run any code, so it is opened only with --trust; other files are read without running anything.

    Example: dheads import crema_script.pt --audio-encoder audio_encoder.pt -o crema --trust
    """
    from dheads_cli.run.import_official import import_official as run

    run(
        checkpoint,
        out,
        audio_encoder=audio_encoder,
        name=name,
        head_dim=head_dim,
        grayscale_motion=gray_motion,
        size=size,
        overwrite=overwrite,
    )


app.command()(export)
app.command()(card)
app.command()(ablate)


@app.command()
def components(
    kind: Annotated[
        str | None,
        typer.Option(help="Only audio_encoders, landmark_detectors, conditioning, samplers, metrics or lip_readers."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Build each and run its kind's conformance tests.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """List the components a recipe can name. Those of every installed package, with the options each takes.

    Example: dheads components --kind samplers --check
    """
    from dheads_cli.run.components import components as run

    run(kind, check=check)


@app.command()
def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="Video, GIF, PNG or folder of PNGs: does it say that dheads made it?")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Try what `dheads animate` needs here. Where something fails, say what to do; or look into a file.

    Examples: dheads doctor;  dheads doctor out.mp4
    """
    if file is not None:
        from dheads_cli.run.doctor_file import doctor_file

        doctor_file(file)
        return
    from dheads_cli.run.doctor import doctor as run

    run()


app.add_typer(bench_app, name="bench")
