"""What a word recogniser takes, for `dheads recipe check`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from dheads_cli import console
from dheads_cli.data.words import WordBatch
from dheads_cli.model.build import choose_device, choose_precision
from dheads_cli.model.speech import samples_of
from dheads_cli.model.words import build_recogniser
from dheads_cli.recipe_words import WordsRecipe
from dheads_cli.run.train_words import WordLoss
from dheads_cli.run.training_loop import optimise
from dheads_cli.run.training_state import fresh_state

N_WORDS = 500  # LRW's; how many there are is known from the corpus alone, and hardly changes what a step takes


@dataclass(frozen=True)
class WordsCost:
    """What a word recogniser takes; times are of training on sound that is in memory."""

    n_parameters: int  # that are trained, without the linear layer, whose size follows from the corpus
    device: str
    precision: str
    step_seconds: float
    hours: float

    @classmethod
    def of(cls, recipe: WordsRecipe, device_name: str) -> WordsCost:
        """Time training steps on noise, the faster of two after one that warms up."""
        device = choose_device(device_name)
        precision = choose_precision(recipe.train.precision, device)
        recogniser = build_recogniser(
            recipe.model, N_WORDS, device, freeze_audio_encoder=recipe.train.freeze_audio_encoder
        )
        state, loss_of = fresh_state(recogniser, recipe), WordLoss(recogniser, device, precision)
        batch = noise(recipe, recogniser.audio_encoder.embed_dim, recogniser.hears_embeddings)
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            optimise(recipe, state, loss_of, batch)  # reads the loss, and so waits for the device
            seconds.append(time.perf_counter() - began)
        fastest = min(seconds[1:])
        head = {id(parameter) for parameter in recogniser.head.parameters()}
        return cls(
            n_parameters=sum(each.numel() for each in state.parameters.values() if id(each) not in head),
            device=str(device),
            precision=str(precision).removeprefix("torch."),
            step_seconds=fastest,
            hours=fastest * recipe.train.steps / 3600,
        )

    def rows(self, recipe: WordsRecipe) -> list[list[str]]:
        """Rows for people."""
        what = f"{recipe.train.steps} steps of {self.step_seconds:.3g} s, {self.device}, {self.precision}"
        return [
            ["parameters", f"{self.n_parameters / 1e6:.2f} M", "and the linear layer's, by the number of words"],
            ["time to train", f"about {console.duration(self.hours * 3600)}", what],
        ]


def noise(recipe: WordsRecipe, embed_dim: int, embeddings: bool) -> WordBatch:
    """A batch of noise in place of words."""
    draws = torch.Generator().manual_seed(0)
    size, n_frames = recipe.train.batch_size, recipe.model.n_frames
    n_samples = samples_of(n_frames, recipe.preprocess.fps, recipe.preprocess.sample_rate)
    shape = (size, n_frames, embed_dim) if embeddings else (size, n_samples)
    return WordBatch(0.1 * torch.randn(shape, generator=draws), torch.randint(N_WORDS, (size,), generator=draws))
