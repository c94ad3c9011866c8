"""What a network for lips and sound takes, for `dheads recipe check`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from dheads_cli import console
from dheads_cli.data.sync_clips import SyncBatch
from dheads_cli.data.sync_input import MOUTH_PX, N_MELS, SPECTRA_PER_FRAME
from dheads_cli.model.build import choose_device, choose_precision
from dheads_cli.model.sync import build_sync
from dheads_cli.recipe_sync import SyncRecipe
from dheads_cli.run.train_sync import SyncLoss
from dheads_cli.run.training_loop import optimise
from dheads_cli.run.training_state import fresh_state


@dataclass(frozen=True)
class SyncCost:
    """What a network for lips and sound takes; times are of training on clips that are in memory."""

    n_parameters: int
    device: str
    precision: str
    step_seconds: float
    hours: float

    @classmethod
    def of(cls, recipe: SyncRecipe, device_name: str) -> SyncCost:
        """Time training steps on noise, the faster of two after one that warms up."""
        device = choose_device(device_name)
        precision = choose_precision(recipe.train.precision, device)
        network = build_sync(recipe.model.channels, recipe.model.embed_dim, device)
        state = fresh_state(network, recipe)
        loss_of = SyncLoss(network, recipe.train.temperature, device, precision)
        batch, seconds = noise(recipe), []
        for _ in range(3):
            began = time.perf_counter()
            optimise(recipe, state, loss_of, batch)  # reads the loss, and so waits for the device
            seconds.append(time.perf_counter() - began)
        fastest = min(seconds[1:])
        return cls(
            n_parameters=sum(parameter.numel() for parameter in state.parameters.values()),
            device=str(device),
            precision=str(precision).removeprefix("torch."),
            step_seconds=fastest,
            hours=fastest * recipe.train.steps / 3600,
        )

    def rows(self, recipe: SyncRecipe) -> list[list[str]]:
        """Rows for people."""
        what = f"{recipe.train.steps} steps of {self.step_seconds:.3g} s, {self.device}, {self.precision}"
        return [
            ["parameters", f"{self.n_parameters / 1e6:.2f} M", "of both towers"],
            ["time to train", f"about {console.duration(self.hours * 3600)}", what],
        ]


def noise(recipe: SyncRecipe) -> SyncBatch:
    """A batch of noise in place of pieces of clips."""
    draws = torch.Generator().manual_seed(0)
    size, n_frames = recipe.train.batch_size, recipe.train.n_frames
    spectra = (size, N_MELS, SPECTRA_PER_FRAME * n_frames)
    shapes = ((size, n_frames, MOUTH_PX, MOUTH_PX), spectra, spectra)
    return SyncBatch(*(torch.randn(shape, generator=draws) for shape in shapes))
