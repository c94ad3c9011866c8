"""What a lip-reader takes, for `dheads recipe check`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from dheads_cli import console
from dheads_cli.data.lip_clips import LipBatch
from dheads_cli.data.sync_input import MOUTH_PX
from dheads_cli.model.build import choose_device, choose_precision
from dheads_cli.model.lips import build_lip_reader
from dheads_cli.model.sentence import labels_of
from dheads_cli.recipe_lips import LipsRecipe
from dheads_cli.run.train_lips import LipLoss
from dheads_cli.run.training_loop import optimise
from dheads_cli.run.training_state import fresh_state

N_FRAMES = 75  # of GRID's clips; how long those of a corpus are is known from it alone


@dataclass(frozen=True)
class LipsCost:
    """What a lip-reader takes; times are of training on clips of GRID's length that are in memory."""

    n_parameters: int
    device: str
    precision: str
    step_seconds: float
    hours: float

    @classmethod
    def of(cls, recipe: LipsRecipe, device_name: str) -> LipsCost:
        """Time training steps on noise, the faster of two after one that warms up."""
        device = choose_device(device_name)
        precision = choose_precision(recipe.train.precision, device)
        reader = build_lip_reader(recipe.model, device, freeze_lips=recipe.train.freeze_lips)
        state, loss_of = fresh_state(reader, recipe), LipLoss(reader, device, precision)
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

    def rows(self, recipe: LipsRecipe) -> list[list[str]]:
        """Rows for people."""
        what = f"{recipe.train.steps} steps of {self.step_seconds:.3g} s, {self.device}, {self.precision}"
        return [
            ["parameters", f"{self.n_parameters / 1e6:.2f} M", f"for {len(labels_of(recipe.model.sentence))} words"],
            ["time to train", f"about {console.duration(self.hours * 3600)}", what],
        ]


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
