"""What a lip-reader takes, for `dheads recipe check`."""

from __future__ import annotations

import torch

from dheads_cli.data.lip_clips import LipBatch
from dheads_cli.data.sync_input import MOUTH_PX
from dheads_cli.model.build import choose_device, choose_precision
from dheads_cli.model.lips import build_lip_reader
from dheads_cli.model.sentence import labels_of
from dheads_cli.recipe_lips import LipsRecipe
from dheads_cli.run.train_lips import LipLoss
from dheads_cli.run.training_cost import TrainingCost
from dheads_cli.run.training_state import fresh_state

N_FRAMES = 75  # of GRID's clips; how long those of a corpus are is known from it alone


def lips_cost(recipe: LipsRecipe, device_name: str) -> tuple[TrainingCost, list[list[str]]]:
    """What a lip-reader takes on clips of GRID's length, and rows of it for people."""
    device = choose_device(device_name)
    precision = choose_precision(recipe.train.precision, device)
    reader = build_lip_reader(recipe.model, device, freeze_lips=recipe.train.freeze_lips)
    state, loss_of = fresh_state(reader, recipe), LipLoss(reader, device, precision)
    cost = TrainingCost.of(recipe, state, loss_of, noise(recipe), device, precision)
    return cost, cost.rows(recipe, f"for {len(labels_of(recipe.model.sentence))} words")


def noise(recipe: LipsRecipe) -> LipBatch:
    """A batch of noise in place of clips, without words' times, which takes the longer way."""
    draws = torch.Generator().manual_seed(0)
    size, sentence = recipe.train.batch_size, recipe.model.sentence
    labels = labels_of(sentence)
    first_words = torch.tensor([[labels[words[0]] for words in sentence]]).expand(size, -1)
    return LipBatch(
        torch.randn((size, N_FRAMES, MOUTH_PX, MOUTH_PX), generator=draws),
        torch.full((size, N_FRAMES), -1), first_words, torch.full((size,), N_FRAMES),
    )  # fmt: skip
