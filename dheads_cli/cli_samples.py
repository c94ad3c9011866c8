"""The commands that draw clips from trained models and judge them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dheads_cli.cli_options import (
    CorpusFolder,
    Device,
    Json,
    MotionNoise,
    Overwrite,
    Quiet,
    SamplerText,
    SampleSets,
    Seed,
    Sets,
    Shuffled,
    Speaker,
    Trust,
    component_of,
)
from dheads_cli.errors import DheadsError


def sample(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, checkpoint, or a shipped model's name.")
    ],
    split: Annotated[str, typer.Option(help="Split of the corpus: test, test-speakers, val or train.")] = "test",
    speaker: Speaker = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many clips, spread evenly over the split.")
    ] = None,
    shuffled: Shuffled = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Samples folder; without it, RUN/samples/step-STEP-SPLIT.")
    ] = None,
    data: CorpusFolder = None,
    device: Device = "auto",
    seed: Seed = None,
    sampler: SamplerText = None,
    motion_noise: MotionNoise = None,
    sets: SampleSets = None,
    trust: Trust = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make clips from a corpus, to be scored. Each has a real clip's first frame and its sound.

    Stopped or killed, the same command goes on.

    Example: dheads sample runs/tiny --split test --shuffled
    """
    chosen = component_of("samplers", sampler, "--sampler")
    from dheads_cli.run.sample import sample as run

    run(
        run_folder,
        split=split,
        speaker=speaker,
        limit=limit,
        shuffled=shuffled,
        out=out,
        data=data,
        seed=seed,
        device=device,
        sampler=chosen,
        motion_noise=motion_noise,
        sets=sets or [],
        overwrite=overwrite,
    )


def evaluate(
    samples: Annotated[Path | None, typer.Argument(help="Samples folder; without it, the newest under runs/.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of real videos: those of SAMPLES, of any tool, are paired by name."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="In place of the recipe's: mouth,lmd,csim; all; or paper, its table."),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="NAME", help="Landmark detector in place of the recipe's.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=FILE", help="A network's file for a metric, such as fid=FILE; may be repeated."),
    ] = None,
    ground_truth: Annotated[bool, typer.Option(help="Score the real clips as well: every number's ceiling.")] = True,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the CSV, a line a clip, here.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with figures and clips; it stands alone.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the numbers don't depend on it.")] = 1,
    device: Device = "auto",
    trust: Trust = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score generated clips against the real ones. The table is also written beside them, as JSON and CSV.

    Examples: dheads eval --metrics mouth,lmd,csim --html eval.html;  dheads eval other-tool/ --reference real/
    """
    from dheads_cli.recipe_io import components_from_text

    words: dict[str | None, Literal["all", "paper"] | None] = {"all": "all", "paper": "paper", None: None}
    chosen = words[metrics] if metrics in words else components_from_text("metrics", metrics or "", "--metrics")
    chosen_detector = component_of("landmark_detectors", detector, "--detector")
    files = dict(_weights_of(text) for text in weights or [])
    from dheads_cli.run.evaluate import evaluate as run

    run(
        samples,
        reference=reference,
        metrics=chosen,
        detector=chosen_detector,
        weights=files,
        device=device,
        ground_truth=ground_truth,
        csv=csv,
        html=html,
        workers=workers,
    )


def _weights_of(text: str) -> tuple[str, str]:
    """(metric, file) of METRIC=FILE."""
    metric, equals, file = text.partition("=")
    if not (metric and equals and file):
        raise DheadsError(f"--weights {text}: write it as METRIC=FILE, such as fid=inception.pth")
    return metric, file


def turing_test(
    samples: Annotated[
        list[str],
        typer.Argument(metavar="SAMPLES...", help="Samples folders of one to three methods: FOLDER or NAME=FOLDER."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the page; the key goes beside it.")] = Path(
        "turing-test"
    ),
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of real videos: those of SAMPLES, of any tool, are paired by name."),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips of each method, and real ones.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of which clips are shown, and under which numbers.")] = 0,
    score: Annotated[bool, typer.Option("--score", help="Score answers: SAMPLES are the files people saved.")] = False,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The page's key, where it is not near by.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Ask people which clips are real: a page that stands alone. It saves their answers, and --score counts them.

    Examples: dheads turing-test runs/tiny/samples/step-005000-test -o page;  dheads turing-test --score answers/*.json
    """
    if score:
        from dheads_cli.run.turing_score import score_answers

        score_answers([Path(name) for name in samples], key)
        return
    if key is not None:
        raise DheadsError("--key goes with --score; the page's key is made beside its folder.")
    from dheads_cli.run.turing_test import turing_test as run

    run(samples, out, reference=reference, clips=clips, seed=seed, overwrite=overwrite)


def drift(
    models: Annotated[
        list[str], typer.Argument(metavar="MODELS...", help="Run folders, checkpoints, or shipped models' names.")
    ],
    tries: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="'KEY=VALUE ...'", help="One way to sample, a row of the table; repeat it."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a clip, s; sentences are joined to it.")] = 60.0,
    clips: Annotated[int, typer.Option(min=1, help="At most this many clips; an interval needs two.")] = 4,
    split: Annotated[str, typer.Option(help="Split of the corpus that sentences are from.")] = "test",
    speaker: Speaker = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; without it, runs/NAME/drift.")
    ] = None,
    data: CorpusFolder = None,
    device: Device = "auto",
    seed: Seed = None,
    sets: SampleSets = None,
    trust: Trust = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure how models hold over a minute of speech. Each with each --try, side by side, second by second.

    Example: dheads drift tiny --try sample.motion_noise=0 --try sample.motion_noise=0.3
    """
    from dheads_cli.run.drift import drift as run

    run(
        models,
        seconds=seconds,
        clips=clips,
        split=split,
        speaker=speaker,
        data=data,
        sets=sets or [],
        tries=tries or [],
        out=out,
        seed=seed,
        device=device,
        overwrite=overwrite,
    )


def ablate(
    recipes: Annotated[
        list[str], typer.Argument(metavar="RECIPES...", help="Paths or names; 'paper/ablation-*' is all that ship.")
    ],
    data: Annotated[Path | None, typer.Option(help="Preprocessed corpus; without it, each recipe's data.path.")] = None,
    sets: Sets = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs and the table.")] = Path("runs/ablation"),
    split: Annotated[str, typer.Option(help="Split that clips are made from.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many clips from each model.")] = None,
    shuffled: Shuffled = False,
    device: Device = "auto",
    seed: Seed = None,
    trust: Trust = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train and score recipes beside the paper's. Prints its ablation table with their numbers.

    Stopped or killed, the same command goes on. A recipe that fails does not stop the others.

    Example: dheads ablate recipes/paper/ablation-*.yaml --data data/lrw-128
    """
    from dheads_cli.run.ablate import ablate as run

    run(
        recipes,
        data=data,
        overrides=sets or [],
        out=out,
        split=split,
        limit=limit,
        shuffled=shuffled,
        device=device,
        seed=seed,
    )
