"""The health of a training run: steps that came to nothing, a loss that grows; when it ends, and what to do then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dheads_cli import console
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import checkpoints_of
from dheads_cli.recipe_tasks import AnyRecipe

SMOOTHING = 0.98  # decay of the loss's moving average a step, which thus covers about 50
YOUNG = 50  # steps before the average is judged


@dataclass
class Health:
    """How a run's steps went; saved with it, so that a resumed run ends where an unbroken one does.

    Attributes:
        n_skipped: steps that were not applied, their loss or gradient not being finite.
        in_a_row: how many of them the newest steps are.
        n_noted: steps that `smoothed` has seen.
        smoothed: moving average of the loss.
        best: the lowest it was, once it had seen enough steps.
        best_step: when.
    """

    n_skipped: int = 0
    in_a_row: int = 0
    n_noted: int = 0
    smoothed: float = 0.0
    best: float | None = None
    best_step: int = 0

    def note(self, step: int, loss: float, applied: bool) -> None:
        """Take up a step; `applied` is whether its loss and gradient were finite."""
        if not applied:
            self.n_skipped, self.in_a_row = self.n_skipped + 1, self.in_a_row + 1
            return
        self.in_a_row = 0
        self.smoothed = SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss if self.n_noted else loss
        self.n_noted += 1
        if self.n_noted >= YOUNG and (self.best is None or self.smoothed < self.best):
            self.best, self.best_step = self.smoothed, step

    def to_log(self) -> dict[str, float]:
        """What a line of the log says of it: nothing where all is well."""
        return {"steps_left_out": self.n_skipped} if self.n_skipped else {}


def check_health(recipe: AnyRecipe, run_dir: Path, step: int, health: Health, values: Mapping[str, float]) -> None:
    """Warn of a step that was left out; end the run after too many of them, or when its loss has grown too far.

    Args:
        recipe: the recipe.
        run_dir: the run.
        step: the newest step.
        health: after it.
        values: what it gave.

    Raises:
        DheadsError: it must end.
    """
    settings = recipe.train
    if health.in_a_row:
        what = f"loss {values['loss']:.4g}, gradient norm {values['grad_norm']:.4g}"
        if health.in_a_row >= settings.max_bad_steps or step == settings.steps:
            raise DheadsError(
                f"{run_dir}: not finite at step {step} ({what}), the last {health.in_a_row} steps were left out. "
                f"{what_to_do(recipe, run_dir, step)}"
            )
        console.warn(f"step {step} is left out, for it is not finite: {what}")
    elif settings.divergence and health.best is not None and health.smoothed > settings.divergence * health.best:
        raise DheadsError(
            f"{run_dir}: diverges: the smoothed loss is {health.smoothed:.4g} at step {step}, more than "
            f"train.divergence={settings.divergence:g} times the {health.best:.4g} of step {health.best_step}. "
            f"{what_to_do(recipe, run_dir, health.best_step)}"
        )


def check_validation(recipe: AnyRecipe, run_dir: Path, step: int, val_loss: float) -> None:
    """Make sure that weights are worth keeping.

    Raises:
        DheadsError: the averaged weights' loss is not finite.
    """
    if not math.isfinite(val_loss):
        raise DheadsError(
            f"{run_dir}: the validation loss is {val_loss} at step {step}, which is not kept. "
            f"{what_to_do(recipe, run_dir, step - 1)}"
        )


def what_to_do(recipe: AnyRecipe, run_dir: Path, step: int) -> str:
    """The last good checkpoint, one of step `step` or before, and how to go on from it."""
    lower = f"--set train.lr={recipe.train.lr / 2:g}"
    good = [path for path in checkpoints_of(run_dir) if int(path.stem.removeprefix("step-")) <= step]
    if not good:
        return f"There is no good checkpoint yet: begin anew with {lower} --restart"
    return f"Last good checkpoint: {good[-1]}; go on from it with {lower} --set train.weights={good[-1]} --run OTHER"
