"""The commands that make and look at preprocessed corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dheads_cli.cli_options import Device, Json, Overwrite, Quiet, Sets, Trust

data_app = typer.Typer(help="Look into a preprocessed corpus.", rich_markup_mode=None)


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
    executor: Annotated[str | None, typer.Option(help="local, or ray: clips go to a Ray cluster.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster: HOST:PORT, or auto for the one here.")] = None,
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
    from dheads_cli.run.preprocess_verify import verify as verify_corpus

    if verify:
        verify_corpus(out or corpus)
        return
    chosen = {"size": size, "layout": layout, "workers": workers, "executor": executor, "ray_address": address}
    flags = [f"preprocess.{key}={value}" for key, value in chosen.items() if value is not None]
    settings = load_any_recipe(recipe, [*(sets or []), *flags]).recipe.preprocess
    run.preprocess(
        corpus, out or Path("data") / f"{corpus.resolve().name}-{settings.size}", settings, overwrite=overwrite
    )


@data_app.command("synthesize")
def synthesize(
    portraits: Annotated[Path, typer.Argument(help="Folder of photos with one face each.")],
    corpus: Annotated[Path, typer.Argument(help="Folder of videos of people who speak, as `dheads preprocess` takes.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; without it, data/PORTRAITS-SIZE.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe whose preprocess section is used: a path or a name.")] = "small",
    sets: Sets = None,
    size: Annotated[int | None, typer.Option(help="Width and height of the face crops, px.")] = None,
    per_portrait: Annotated[int, typer.Option(min=1, help="Clips of each photo.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of which clip moves which photo, and how.")] = 0,
    check: Annotated[int, typer.Option(min=0, help="Clips whose mouths are measured on the drawn frames.")] = 24,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 takes one for each core.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make photos speak with the motion of filmed people: a corpus of synthetic speakers to train on.

    Called again, it goes on where it stopped. docs/SYNTHETIC.md shows what comes out.

    Example: dheads data synthesize portraits/ ~/corpora/grid -o data/portraits-128
    """
    from dheads_cli.recipe_io import load_any_recipe
    from dheads_cli.run import synthesize as run

    chosen = {"size": size, "workers": workers}
    flags = [f"preprocess.{key}={value}" for key, value in chosen.items() if value is not None]
    preprocess = load_any_recipe(recipe, [*(sets or []), *flags]).recipe.preprocess
    run.synthesize(
        portraits,
        corpus,
        out or Path("data") / f"{portraits.resolve().name}-{preprocess.size}",
        preprocess,
        run.Synthesis(per_portrait, seed),
        overwrite=overwrite,
        check=check,
    )


@data_app.command("fit-visemes")
def fit_visemes(
    corpus: Annotated[Path, typer.Argument(help="Folder that `dheads preprocess` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Safetensors file to write.")],
    rank: Annotated[int, typer.Option(min=1, max=62, help="Numbers a frame: how many directions are kept.")] = 8,
    penalty: Annotated[float, typer.Option(min=0.001, help="Of the squared weights; more generalises further.")] = 3.0,
    layers: Annotated[str, typer.Option(help="Layers of Whisper's encoder that are averaged, such as 1,2.")] = "2",
    seed: Annotated[int, typer.Option(min=0, help="Seed of which clips are taken, and how they are augmented.")] = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Fit the linear map of the audio encoder `visemes`: from speech to the positions of lips and jaw.

    A recipe uses it as audio_encoder: {use: visemes, weights: FILE}. It scores the map on the corpus's other splits.

    Example: dheads data fit-visemes data/grid-128 -o visemes.safetensors
    """
    from dheads_cli.errors import DheadsError
    from dheads_cli.run import fit_visemes as run

    chosen = _names(layers)
    if not chosen or not set(chosen) <= {"1", "2", "3", "4"}:
        raise DheadsError(f"--layers {layers}: some of 1, 2, 3 and 4, with commas between them.")
    run.fit_visemes(corpus, out, layers=tuple(map(int, chosen)), rank=rank, penalty=penalty, seed=seed)


@data_app.command("stats")
def data_stats(
    corpus: Annotated[Path, typer.Argument(help="Folder that `dheads preprocess` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page to write (.html), or a folder for it; without it, beside the corpus."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many clips are decoded, spread over speakers.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the choice of clips.")] = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show what is in a preprocessed corpus, and whether it is good. Writes a page and a picture.

    Example: dheads data stats data/grid-64
    """
    from dheads_cli.run.data_stats.stats import stats

    stats(corpus, out, limit=limit, seed=seed)


@data_app.command()
def probe(
    corpus: Annotated[Path, typer.Argument(help="Folder that `dheads preprocess` wrote.")],
    encoders: Annotated[
        str, typer.Option(metavar="NAMES", help="Audio encoders: whisper,logmel,'{use: whisper, combine: mean}'.")
    ] = "whisper,logmel",
    checkpoints: Annotated[
        list[str] | None, typer.Option("--from", metavar="RUN", help="Probe this model's encoder too; may be repeated.")
    ] = None,
    context: Annotated[int, typer.Option(min=0, max=16, help="m_y: embeddings on either side of the frame's.")] = 2,
    limit: Annotated[int, typer.Option(min=1, help="At most this many clips of each split.")] = 400,
    leave_speakers_out: Annotated[
        bool, typer.Option("--leave-speakers-out", help="Score each speaker by a probe of all others, too.")
    ] = False,
    augment: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Score under changed sound, too: all, or noise,reverb,codec ...")
    ] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="Of the changes that --augment names.")] = 0.5,
    voices: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Score words in eSpeak NG voices, too, such as en-us,de; takes alignments."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a line for each clip to this file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of untrained encoders' weights and of changes.")] = 0,
    device: Device = "auto",
    trust: Trust = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Judge audio encoders. How well does a linear map find the mouth's opening in their embeddings?

    Example: dheads data probe data/grid-64 --encoders whisper,logmel --from runs/tiny
    """
    from dheads_cli.recipe_io import components_from_text

    chosen = components_from_text("audio_encoders", encoders, "--encoders")
    from dheads_cli.run.probe import probe_encoders

    probe_encoders(
        corpus,
        chosen,
        checkpoints or [],
        audio_context=context,
        limit=limit,
        leave_speakers_out=leave_speakers_out,
        augment=_names(augment),
        strength=strength,
        voices=_names(voices),
        csv=csv,
        seed=seed,
        device=device,
    )


def _names(text: str | None) -> list[str]:
    """What stands between the commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]
