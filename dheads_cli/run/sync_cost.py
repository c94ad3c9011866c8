"""What a network for lips and sound takes, for `dheads recipe check`."""

from __future__ import annotations

import torch

from dheads_cli.data.sync_clips import SyncBatch
from dheads_cli.data.sync_input import MOUTH_PX, N_MELS, SPECTRA_PER_FRAME
from dheads_cli.model.build import choose_device, choose_precision
from dheads_cli.model.sync import build_sync
from dheads_cli.recipe_sync import SyncRecipe
from dheads_cli.run.train_sync import SyncLoss
from dheads_cli.run.training_cost import TrainingCost
from dheads_cli.run.training_state import fresh_state


def sync_cost(recipe: SyncRecipe, device_name: str) -> tuple[TrainingCost, list[list[str]]]:
    """What a network for lips and sound takes, and rows of it for people."""
    device = choose_device(device_name)
    precision = choose_precision(recipe.train.precision, device)
    network = build_sync(recipe.model.channels, recipe.model.embed_dim, device)
    state, loss_of = fresh_state(network, recipe), SyncLoss(network, recipe.train.temperature, device, precision)
    cost = TrainingCost.of(recipe, state, loss_of, noise(recipe), device, precision)
    return cost, cost.rows(recipe, "of both towers")


def noise(recipe: SyncRecipe) -> SyncBatch:
    """A batch of noise in place of pieces of clips."""
    draws = torch.Generator().manual_seed(0)
    size, n_frames = recipe.train.batch_size, recipe.train.n_frames
    spectra = (size, N_MELS, SPECTRA_PER_FRAME * n_frames)
    shapes = ((size, n_frames, MOUTH_PX, MOUTH_PX), spectra, spectra)
    return SyncBatch(*(torch.randn(shape, generator=draws) for shape in shapes))
