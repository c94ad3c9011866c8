"""A model of a few weights that is trained by the real loop in no time, alone or in several processes."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dheads_cli.data.manifest import MANIFEST
from dheads_cli.recipe import Recipe
from dheads_cli.run import processes, training_loop
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.training_files import prepare_run_dir
from dheads_cli.run.training_state import State, begin_or_resume

WIDTH = 6
Loss = Callable[..., dict[str, Tensor]]


class Toy:
    """A linear layer, and batch norm where asked for."""

    audio_encoder: Any = None

    def __init__(self, norm: bool = False) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(WIDTH, 3), *([nn.BatchNorm1d(3)] if norm else []))

    def own_modules(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    trained_modules = own_modules


@dataclass(frozen=True)
class ToyBatch:
    x: Tensor
    motion: list[Tensor]
    index: Tensor | None = None


class Numbers:
    """Batch number `step` is drawn with that seed."""

    def batch(self, step: int, size: int, samples: range | None = None) -> ToyBatch:
        x = torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(step))
        x = x if samples is None else x[samples.start : samples.stop]
        return ToyBatch(x, [x + 1, x - 1])


def make_loss(toy: Toy) -> Loss:
    """Squared error of the noised input's image, over all samples of a part."""

    def loss_of(batch: ToyBatch, noise_seed: int, part: Part | None = None) -> dict[str, Tensor]:
        part = part or Part(0, len(batch.x), len(batch.x))
        noise = part.randn(batch.x.shape, torch.Generator().manual_seed(noise_seed))
        loss = (toy.net(batch.x + noise + batch.motion[0] * batch.motion[1]) - 1).square().mean(dim=1)
        return {"loss": loss, "twice": 2 * loss.detach()}

    return loss_of


def recipe(folder: Path, steps: int = 6, **changes: Any) -> Recipe:
    """A recipe of which the loop's settings count; `folder` holds what stands for a corpus."""
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_text("")
    settings = {"steps": steps, "batch_size": 8, "lr": 1e-2, "log_every": 1, "checkpoint_every": 2, "threads": 1}
    return Recipe.model_validate({"name": "toy", "data": {"path": str(folder)}, "train": {**settings, **changes}})


def learn(
    settings: Recipe,
    run: Path,
    toy: Toy | None = None,
    loss_of: Loss | None = None,
    pictures: training_loop.Pictures | None = None,
) -> State:
    """Train, or go on; the state at the end."""
    toy = toy or Toy()
    state = begin_or_resume(run, settings, toy, restart=False)
    prepare_run_dir(run, settings, state)
    validate = lambda: {"val_loss": 0.5}  # noqa: E731
    training_loop.learn(settings, run, state, Numbers(), loss_of or make_loss(toy), validate, pictures)
    return state


def learn_as(rank: int, n: int, port: int, settings: Recipe, run: Path, change: Callable[[Loss], Loss] | None) -> None:
    """The same as process `rank` of n, with a changed loss; for a process of its own."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    with processes.joined("cpu"):
        toy = Toy()
        loss_of = make_loss(toy)
        learn(settings, run, toy, change(loss_of) if change else loss_of)
