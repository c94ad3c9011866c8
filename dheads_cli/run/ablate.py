"""`dheads ablate`: train, sample and score recipes one after another, and put them beside the paper's ablations.

Killed at any moment, the same command goes on: training resumes from its last save, and samples and scores are made
again only where they are not of this checkpoint and these settings.
"""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dheads_cli import console
from dheads_cli.data.samples import MANIFEST
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of, write_atomically
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_files import shipped_recipes
from dheads_cli.recipe_io import load_recipe
from dheads_cli.recipe_section import Component
from dheads_cli.recipe_yaml import flow
from dheads_cli.run.ablate_figure import FIGURE, Strip, draw_figure, read_strips
from dheads_cli.run.ablate_report import Row, labels_of, make_report, paper_metrics, show, write_files
from dheads_cli.run.evaluate import evaluate
from dheads_cli.run.sample import plan, sample
from dheads_cli.run.train import train
from dheads_cli.run.training_changes import differences, is_free
from dheads_cli.run.training_files import checkpoint_path

STAMP = "ablate.json"  # in a samples folder: what it was made and scored from


@dataclass(frozen=True)
class Sampling:
    """What is sampled from every model."""

    split: str
    limit: int | None
    shuffled: bool


def ablate(
    refs: Sequence[str],
    *,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    out: Path = Path("runs/ablation"),
    split: str = "test",
    limit: int | None = None,
    shuffled: bool = False,
    device: str = "auto",
    seed: int | None = None,
) -> dict[str, Any]:
    """Train, sample and score recipes; print the table; write ablation.json, ablation.md and motion-frames.png.

    Args:
        refs: paths or names of recipes, or patterns of shipped names such as "paper/ablation-*".
        data: preprocessed corpus; None is each recipe's data.path.
        overrides: `--set` values for all of them.
        out: folder of the runs, one a recipe, by its name.
        split: split that clips are made from.
        limit: at most this many clips for each recipe.
        shuffled: make each clip also with another's sound, the metrics' floor.
        device: torch device or "auto".
        seed: of every random draw; None is the recipe's.

    Returns:
        What ablation.json holds; also printed under --json.

    Raises:
        DheadsError: a recipe is wrong, or two share a name: before anything is trained; or, after all others are done,
            the recipes that failed.
    """
    given = [*overrides, *([f"data.path={flow(str(data))}"] if data else [])]
    given += [] if seed is None else [f"seed={seed}"]
    recipes = _load(_expand(refs), given)
    names = Counter(recipe.name for recipe in recipes.values())
    if repeated := [name for name, count in names.items() if count > 1]:
        raise DheadsError(f"several recipes are called {', '.join(repeated)}: each needs a run folder of its own")
    metrics, missing = paper_metrics()
    rows = []
    for number, (ref, recipe) in enumerate(recipes.items(), start=1):
        console.info(f"[{number}/{len(recipes)}] {ref}")
        rows.append(_run(ref, recipe, out, Sampling(split, limit, shuffled), metrics, device))
        if rows[-1].error:
            console.warn(f"{ref} failed: {rows[-1].error}")
    rows += _earlier(out, set(names))
    strips = _draw(rows, out / FIGURE)
    report = make_report(rows, strips, missing)
    write_files(out, report)
    show(out, report)
    console.result(report)
    if failed := [row.ref for row in rows if row.error]:
        raise DheadsError(f"{len(failed)} of {len(rows)} recipes failed: {', '.join(failed)}; why is said above")
    return report


def _expand(refs: Sequence[str]) -> list[str]:
    """Patterns of shipped recipes' names as those names; each recipe once."""
    expanded: list[str] = []
    for ref in refs:
        is_pattern = any(sign in ref for sign in "*?[") and not Path(ref).exists()
        found = fnmatch.filter(shipped_recipes(), ref) if is_pattern else [ref]
        if not found:
            known = ", ".join(shipped_recipes())
            raise DheadsError(f"{ref}: no such file, and no shipped recipe has such a name: {known}")
        expanded += found
    return list(dict.fromkeys(expanded))


def _load(refs: Sequence[str], overrides: Sequence[str]) -> dict[str, Recipe]:
    """All recipes, by how they were named.

    Raises:
        DheadsError: what is wrong with all of them, each mistake once, before anything is trained.
    """
    recipes, wrong = {}, []
    for ref in refs:
        try:
            recipes[ref] = load_recipe(ref, overrides).recipe
        except DheadsError as error:
            wrong += str(error).splitlines()
    if wrong:
        raise DheadsError("\n".join(dict.fromkeys(wrong)))
    return recipes


def _earlier(out: Path, names: set[str]) -> list[Row]:
    """The rows of the last table in `out` that this call does not make: a table made row by row comes together."""
    path = out / "ablation.json"
    try:
        records = json.loads(path.read_text(encoding="utf-8"))["recipes"] if path.exists() else []
    except (ValueError, KeyError) as error:
        raise DheadsError(f"{path}: is no report of `dheads ablate` ({error}); move it away") from error
    rows = []
    for record in records:
        if record["error"] or record["name"] in names:
            continue
        recipe, samples = out / record["name"] / "recipe.yaml", Path(record["samples"])
        if recipe.is_file() and (samples / MANIFEST).is_file():
            rows.append(Row(record["recipe"], load_recipe(str(recipe)).recipe, samples, record["scores"]))
    return rows


def _run(ref: str, recipe: Recipe, out: Path, sampling: Sampling, metrics: Sequence[Component], device: str) -> Row:
    """One recipe's training, samples and scores; a failure is the row's error."""
    run = out / recipe.name
    try:
        # A wrong split is told now, not when the training is done.
        plan(Corpus(recipe.data.paths[0]), sampling.split, None, sampling.limit, sampling.shuffled, recipe.seed)
        _train(recipe, run, device)
        samples = _sample(recipe, run, sampling, device)
        return Row(ref, recipe, samples=samples, scores=_evaluate(recipe, samples, metrics, device))
    except (DheadsError, torch.OutOfMemoryError) as error:
        return Row(ref, recipe, error=str(error))


def _train(recipe: Recipe, run: Path, device: str) -> None:
    """Bring a run to the recipe's last step.

    Raises:
        DheadsError: the run is one of another recipe, or was trained longer.
        KeyboardInterrupt: Ctrl-C came; what was learned is saved.
    """
    finished = checkpoint_path(run, recipe.train.steps).exists()
    if finished or (run / "resume.safetensors").exists():
        before = load_recipe(str(run / "recipe.yaml")).recipe.model_dump(mode="json")
        now = recipe.model_dump(mode="json")
        # Samples follow the checkpoint's own recipe: another `sample` section would not reach them.
        wrong = [key for key in differences(before, now) if not is_free(key) or key.startswith("sample.")]
        if wrong:
            raise DheadsError(
                f"{run}: holds a run of another recipe ({', '.join(wrong[:3])} differ): choose another folder with -o, "
                "rename the recipe, or remove that run"
            )
    if finished:
        console.info(f"{recipe.name}: trained already, {recipe.train.steps} steps")
        return
    step = train(recipe, run, device=device)["step"]
    if step < recipe.train.steps:
        raise KeyboardInterrupt
    if step > recipe.train.steps:
        raise DheadsError(f"{run}: was trained for {step} steps, beyond train.steps {recipe.train.steps}")


def _sample(recipe: Recipe, run: Path, sampling: Sampling, device: str) -> Path:
    """The samples folder of the run's last checkpoint, made where it is not there as it is wanted now."""
    checkpoint = checkpoint_path(run, recipe.train.steps)
    folder = run / "samples" / f"{checkpoint.stem}-{sampling.split}"
    made_from = {**asdict(sampling), "data": str(recipe.data.paths[0]), "checkpoint_sha256": sha256_of(checkpoint)}
    if (folder / MANIFEST).exists() and _stamp(folder).get("made_from") == made_from:
        console.info(f"{recipe.name}: sampled already, {folder}")
        return folder
    with console.aside():
        data = recipe.data.paths[0]
        sample(checkpoint, **asdict(sampling), out=folder, data=data, device=device, overwrite=True)
    write_atomically(folder / STAMP, json.dumps({"made_from": made_from}))
    return folder


def _evaluate(recipe: Recipe, samples: Path, metrics: Sequence[Component], device: str) -> dict[str, Any]:
    """The rows of the samples' eval.json, made where it is not there as it is wanted now."""
    own = recipe.evaluate.metrics
    wanted = [*own, *(metric for metric in metrics if metric.use not in {each.use for each in own})]
    scored_by = {
        "metrics": [metric.model_dump() for metric in wanted],
        "detector": recipe.evaluate.detector.model_dump(),
    }
    stamp = _stamp(samples)
    if stamp.get("scored_by") == scored_by:
        console.info(f"{recipe.name}: scored already, {samples / 'eval.json'}")
        report = json.loads((samples / "eval.json").read_text(encoding="utf-8"))
    else:
        with console.aside():
            report = evaluate(samples, metrics=wanted, detector=recipe.evaluate.detector, device=device)
        write_atomically(samples / STAMP, json.dumps({**stamp, "scored_by": scored_by}))
    return {row: {"n_clips": of_row["n_clips"], **of_row["values"]} for row, of_row in report["rows"].items()}


def _stamp(folder: Path) -> dict[str, Any]:
    """What a samples folder was made and scored from, as far as this command made it."""
    path = folder / STAMP
    stamp: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return stamp


def _draw(rows: Sequence[Row], path: Path) -> list[Strip]:
    """Draw the motion-frame figure of the recipes that are done; the strips that are in it."""
    done = {label: row.samples for label, row in zip(labels_of(rows), rows, strict=True) if row.samples is not None}
    strips = read_strips(done) if done else []
    if strips:
        draw_figure(strips, path)
    return strips
