"""The loop that every task's training runs: batches, steps, log, checkpoints. Read from `learn` downwards."""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dheads_cli import console
from dheads_cli.data.manifest import MANIFEST
from dheads_cli.files import sha256_of
from dheads_cli.model.build import choose_device, choose_precision
from dheads_cli.model.checkpoint import checkpoints_of
from dheads_cli.recipe_tasks import AnyRecipe
from dheads_cli.run.batch_parts import Part, cut
from dheads_cli.run.batches_ahead import Batches, batches, n_workers
from dheads_cli.run.device_speed import Speed
from dheads_cli.run.noise_levels import level_means
from dheads_cli.run.processes import Processes, current, without_exchange
from dheads_cli.run.training_files import save
from dheads_cli.run.training_health import check_health, check_validation
from dheads_cli.run.training_log import Drawn, Meter, in_words, open_log
from dheads_cli.run.training_state import State

ALONE = Processes()

B = TypeVar("B")
B_contra = TypeVar("B_contra", contravariant=True)


class Loss(Protocol[B_contra]):
    """The loss of a batch, under "loss", and what else is logged, each [B]; noise_seed decides its random draws.

    Where the batch is a part of a larger one, `part` says which, so that the draws are those of its samples.
    """

    def __call__(self, batch: B_contra, noise_seed: int, part: Part | None = None) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Pictures:
    """What is drawn of the model every so many steps."""

    every: int
    draw: Callable[[int], Drawn]


def begin(recipe: AnyRecipe, device: str) -> tuple[torch.device, torch.dtype]:
    """Set torch's threads and seed as the recipe says, before a model is built; the device and the precision."""
    processes = current()
    processes.share(recipe.train.batch_size, recipe.train.accumulate)
    target = processes.device(choose_device(device))
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    torch.manual_seed(recipe.seed)
    return target, choose_precision(recipe.train.precision, target)


def learn(
    recipe: AnyRecipe,
    run_dir: Path,
    state: State,
    data: Batches[B],
    loss_of: Loss[B],
    validate: Callable[[], dict[str, float]],
    pictures: Pictures | None = None,
    speed: Speed | None = None,
) -> dict[str, Any]:
    """Train from the state's step to the recipe's last, or until Ctrl-C.

    Args:
        recipe: the recipe.
        run_dir: where log.jsonl, TensorBoard events and checkpoints go.
        state: what changes; it is left at the last step.
        data: the batches.
        loss_of: the loss that is brought down.
        validate: what is logged with each checkpoint; its "val_loss" goes into the checkpoint.
        pictures: what is drawn now and then.
        speed: what the log's share of the peak is measured by; None tells none.

    Under torchrun each process makes and computes its part of every batch, and the first alone draws and writes.

    Returns:
        {"run", "step", "checkpoint"} and the last logged means.

    Raises:
        DheadsError: the loss is no longer finite or has grown too far, or the processes do not begin with the same.
    """
    settings, processes = recipe.train, current()
    if processes.n > 1:
        processes.check_alike(beginning(recipe, state))
    spread = processes.spread(loss_of, state.parts.trained_modules())
    share, device = processes.share(settings.batch_size, settings.accumulate), state.device
    last: dict[str, float] = {}
    with (
        open_log(run_dir, state.step) if processes.is_first else nullcontext(lambda *_: None) as log,
        stop_on_interrupt() as stopped,
        batches(data, state.step, settings.steps, share, n_workers(recipe.data.workers, device)) as queue,
        console.progress("train", total=settings.steps, unit="steps", done=state.step) as bar,
    ):
        meter = Meter()
        for batch, wait_s in queue:
            state.step += 1
            values = optimise(recipe, state, spread, batch, processes)
            if not state.health.in_a_row:
                meter.add(values, wait_s)
            bar.advance(1)
            check_health(recipe, run_dir, state.step, state.health, values)
            # Asked once a step: what comes later ends the next one, which is saved first.
            stop = processes.any(stopped())
            done = stop or state.step == settings.steps
            if (state.step % settings.log_every == 0 or done) and meter.n_steps:
                last = level_means(meter.means(settings.batch_size, speed))
                log({"step": state.step, **last, **state.health.to_log()})
                bar.note(in_words(last))
                meter = Meter()
            if pictures and state.step % pictures.every == 0 and processes.is_first:
                drawn = pictures.draw(state.step)  # before the checkpoint: killed meanwhile, a run comes here again
                log({"step": state.step, **drawn.values}, drawn.pictures)
                meter = Meter()
            keeps = (state.step % settings.checkpoint_every == 0 or done) and not state.health.in_a_row
            if keeps and processes.is_first:
                validation = validate()
                check_validation(recipe, run_dir, state.step, validation["val_loss"])
                log({"step": state.step, **validation})
                save(run_dir, recipe, state, validation["val_loss"])
                meter = Meter()
            if stop:
                console.info(f"stopped at step {state.step}; the same command goes on from the newest checkpoint")
                break
    newest = checkpoints_of(run_dir)[-1:]
    return {"run": str(run_dir), "step": state.step, "checkpoint": str(newest[0]) if newest else None, **last}


def beginning(recipe: AnyRecipe, state: State) -> dict[str, str]:
    """What all processes of a run must begin with, in words."""
    return {
        "run folder, step": str(state.step),
        "recipe, sha256": hashlib.sha256(recipe.model_dump_json().encode()).hexdigest(),
        **{f"{path}/{MANIFEST}, sha256": sha256_of(path / MANIFEST) for path in recipe.data.paths},
    }


def optimise(
    recipe: AnyRecipe, state: State, loss_of: Loss[B], batch: B, processes: Processes = ALONE
) -> dict[str, float]:
    """One step of AdamW on one batch, then of the EMA; the step's losses and gradient norm.

    A step whose loss or gradient norm is not finite is not applied: it leaves all as it was, but for `state.health`.

    Args:
        recipe: the recipe.
        state: what changes; its step is this one's number.
        loss_of: the loss, as `Processes.spread` gives it.
        batch: this process's part of the step's batch.
        processes: which process this is.
    """
    settings = recipe.train
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, state.step)
    for module in state.parts.trained_modules().values():
        module.train()
    buffers = list(state.buffers().values())
    before = [buffer.clone() for buffer in buffers]
    state.optimizer.zero_grad(set_to_none=True)
    values = backward(recipe, state, loss_of, batch, processes)
    norm = nn.utils.clip_grad_norm_(state.parameters.values(), settings.grad_clip)
    values = {**processes.mean(values), "grad_norm": norm.item()}
    applied = math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])
    state.health.note(state.step, values["loss"], applied)
    if not applied:
        for buffer, old in zip(buffers, before, strict=True):
            buffer.copy_(old)
        return values
    state.optimizer.step()
    decay = min(settings.ema_decay, (1 + state.step) / (10 + state.step))  # a young average forgets faster
    with torch.no_grad():
        torch._foreach_lerp_(list(state.ema.values()), list(state.averaged().values()), 1 - decay)
    return values


def backward(
    recipe: AnyRecipe, state: State, loss_of: Loss[B], batch: B, processes: Processes
) -> dict[str, float]:
    """The gradient of the mean loss of this process's batch, part after part; the means of its losses.

    Dropout is drawn for each part, and so depends on how many there are.
    """
    share = processes.share(recipe.train.batch_size, recipe.train.accumulate)
    parts = share.split(recipe.train.accumulate)
    sums: dict[str, float] = {}
    for part in parts:
        torch.manual_seed(recipe.seed * 1_000_003 + state.step + part.first * 2**40)  # dropout
        with without_exchange(loss_of) if part is not parts[-1] else nullcontext():
            losses = loss_of(cut(batch, part.within(share)), noise_seed=state.step, part=part)
            torch.autograd.backward(losses["loss"].mean() / len(parts))
        means = torch.stack([values.detach().mean() for values in losses.values()]).tolist()  # a GPU is waited for once
        for name, mean in zip(losses, means, strict=True):
            sums[name] = sums.get(name, 0.0) + mean
    return {name: total / len(parts) for name, total in sums.items()}


def learning_rate(recipe: AnyRecipe, step: int) -> float:
    """Linear warm-up to lr, then a cosine from lr to lr * lr_final at the last step."""
    settings = recipe.train
    warmup = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / settings.steps, 1.0)))
    return settings.lr * warmup * (settings.lr_final + (1 - settings.lr_final) * cosine)


@contextmanager
def stop_on_interrupt() -> Iterator[Any]:
    """A function that tells whether Ctrl-C or SIGTERM came: the step at hand is finished and saved first."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt  # a second one does not wait
        received.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
