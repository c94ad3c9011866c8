"""What a word recogniser takes, for `dheads recipe check`."""

from __future__ import annotations

import torch

from dheads_cli.data.words import WordBatch
from dheads_cli.model.build import choose_device, choose_precision
from dheads_cli.model.speech import samples_of
from dheads_cli.model.words import build_recogniser
from dheads_cli.recipe_words import WordsRecipe
from dheads_cli.run.train_words import WordLoss
from dheads_cli.run.training_cost import TrainingCost
from dheads_cli.run.training_state import fresh_state

N_WORDS = 500  # LRW's; how many there are is known from the corpus alone, and hardly changes what a step takes


def words_cost(recipe: WordsRecipe, device_name: str) -> tuple[TrainingCost, list[list[str]]]:
    """What a word recogniser takes, without its linear layer, whose size follows from the corpus; and rows of it."""
    device = choose_device(device_name)
    precision = choose_precision(recipe.train.precision, device)
    recogniser = build_recogniser(recipe.model, N_WORDS, device, freeze_audio_encoder=recipe.train.freeze_audio_encoder)
    state, loss_of = fresh_state(recogniser, recipe), WordLoss(recogniser, device, precision)
    head = {id(parameter) for parameter in recogniser.head.parameters()}
    n_parameters = sum(each.numel() for each in state.parameters.values() if id(each) not in head)
    batch = noise(recipe, recogniser.audio_encoder.embed_dim, recogniser.hears_embeddings)
    cost = TrainingCost.of(recipe, state, loss_of, batch, device, precision, n_parameters)
    return cost, cost.rows(recipe, "and the linear layer's, by the number of words")


def noise(recipe: WordsRecipe, embed_dim: int, embeddings: bool) -> WordBatch:
    """A batch of noise in place of words."""
    draws = torch.Generator().manual_seed(0)
    size, n_frames = recipe.train.batch_size, recipe.model.n_frames
    n_samples = samples_of(n_frames, recipe.preprocess.fps, recipe.preprocess.sample_rate)
    shape = (size, n_frames, embed_dim) if embeddings else (size, n_samples)
    return WordBatch(0.1 * torch.randn(shape, generator=draws), torch.randint(N_WORDS, (size,), generator=draws))
