"""What training a small network takes, for `dheads recipe check`: how large it is, and how long its steps last."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TypeVar

import torch

from dheads_cli import console
from dheads_cli.recipe_tasks import AnyRecipe
from dheads_cli.run.training_loop import Loss, optimise
from dheads_cli.run.training_state import State

B = TypeVar("B")


@dataclass(frozen=True)
class TrainingCost:
    """What a network takes; times are of training on batches that are in memory.

    Attributes:
        n_parameters: that are trained.
        device, precision: of the arithmetic.
        step_seconds: of a training step.
        hours: of all of them.
    """

    n_parameters: int
    device: str
    precision: str
    step_seconds: float
    hours: float

    @classmethod
    def of(
        cls,
        recipe: AnyRecipe,
        state: State,
        loss_of: Loss[B],
        batch: B,
        device: torch.device,
        precision: torch.dtype,
        n_parameters: int | None = None,
    ) -> TrainingCost:
        """Time training steps on a batch, the faster of two after one that warms up.

        Args:
            recipe: the recipe.
            state: of the network, which changes.
            loss_of: its loss.
            batch: what it learns from.
            device, precision: of the arithmetic.
            n_parameters: to be told; None is all that are trained.
        """
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            optimise(recipe, state, loss_of, batch)  # reads the loss, and so waits for the device
            seconds.append(time.perf_counter() - began)
        fastest = min(seconds[1:])
        if n_parameters is None:
            n_parameters = sum(parameter.numel() for parameter in state.parameters.values())
        hours = fastest * recipe.train.steps / 3600
        return cls(n_parameters, str(device), str(precision).removeprefix("torch."), fastest, hours)

    def rows(self, recipe: AnyRecipe, of_parameters: str) -> list[list[str]]:
        """Rows for people, with what the parameters are of."""
        what = f"{recipe.train.steps} steps of {self.step_seconds:.3g} s, {self.device}, {self.precision}"
        return [
            ["parameters", f"{self.n_parameters / 1e6:.2f} M", of_parameters],
            ["time to train", f"about {console.duration(self.hours * 3600)}", what],
        ]
