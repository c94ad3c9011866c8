"""The files of a run's folder that a training writes: checkpoints, the resume state, the recipe."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import dheads_cli
from dheads_cli.errors import DheadsError
from dheads_cli.files import remove_parts, write_atomically
from dheads_cli.model.checkpoint import checkpoints_of, save_tensors
from dheads_cli.recipe_io import recipe_to_yaml
from dheads_cli.recipe_tasks import AnyRecipe
from dheads_cli.run.processes import current
from dheads_cli.run.training_state import State, kept


def checkpoint_path(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step:06d}.safetensors"


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name."""
    return int(checkpoint.stem.removeprefix("step-"))


def save(run_dir: Path, recipe: AnyRecipe, state: State, val_loss: float) -> None:
    """Write the checkpoint (EMA) and then the resume state (weights, buffers, EMA, moments); drop old checkpoints.

    Weights that are frozen are in both: neither depends on the file that they came from. Killed between the two, a run
    goes on from the resume state before, and comes to the same checkpoint again.
    """
    state.val_loss = val_loss
    save_checkpoint(run_dir, recipe, state)
    tensors = kept(state)
    for name, parameter in state.parameters.items():
        moments = state.optimizer.state[parameter]
        tensors |= {f"exp_avg.{name}": moments["exp_avg"], f"exp_avg_sq.{name}": moments["exp_avg_sq"]}
    save_tensors(run_dir / "resume.safetensors", tensors, info_of(recipe, state))
    drop_old_checkpoints(run_dir, recipe, state)


def drop_old_checkpoints(run_dir: Path, recipe: AnyRecipe, state: State) -> None:
    """Leave the newest ones of the steps done; a later one, which a kill kept from its resume state, is no old one."""
    done = [path for path in checkpoints_of(run_dir) if step_of(path) <= state.step]
    for old in done[: -recipe.train.keep_checkpoints]:
        old.unlink()


def info_of(recipe: AnyRecipe, state: State) -> dict[str, Any]:
    """What the files of a state say of it."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "step": state.step,
        "val_loss": state.val_loss,
        "version": dheads_cli.__version__,
        "health": asdict(state.health),
        **state.facts,
    }


def save_checkpoint(run_dir: Path, recipe: AnyRecipe, state: State) -> None:
    """Write the checkpoint: all that the modules' state_dicts ask for, averaged."""
    path = checkpoint_path(run_dir, state.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, {**state.frozen(), **state.buffers(), **state.ema}, info_of(recipe, state))


def prepare_run_dir(run_dir: Path, recipe: AnyRecipe, state: State) -> None:
    """Make the run's folder; before a run's first step, remove what another one left there. The first process does it.

    What a kill left half written or half done is put right: parts of files, old checkpoints, one that is missing.

    Raises:
        DheadsError: the folder can't be written.
    """
    if not current().is_first:
        return
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DheadsError(f"{run_dir}: can't make the run folder: {error.strerror}") from error
    if state.step == 0:
        checkpoints = checkpoints_of(run_dir)
        for old in [run_dir / "resume.safetensors", run_dir / "log.jsonl", *checkpoints]:
            old.unlink(missing_ok=True)
    else:
        if not checkpoint_path(run_dir, state.step).exists():
            save_checkpoint(run_dir, recipe, state)
        drop_old_checkpoints(run_dir, recipe, state)
    remove_parts(run_dir)
    remove_parts(run_dir / "checkpoints")
    write_atomically(run_dir / "recipe.yaml", recipe_to_yaml(recipe))
