"""`dheads train`: learn a model from shards. Read from `train` downwards."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from dheads_cli import console
from dheads_cli.data.dataset import Batch, TrainingSet, Views
from dheads_cli.data.hearing import Versions
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically
from dheads_cli.model.build import Parts, build_model, choose_device, choose_precision
from dheads_cli.model.diffusion import Objective, q_sample, training_losses
from dheads_cli.model.generate import stack_motion
from dheads_cli.recipe import Recipe
from dheads_cli.run.encode_ahead import embedding_caches, encode_ahead
from dheads_cli.run.sample_grid import save_sample_grid
from dheads_cli.run.training_state import (
    State,
    checkpoint_path,
    ema_weights,
    fresh_state,
    prepare_run_dir,
    save,
)

PREFETCH = 4  # batches made ahead of the step that needs them
N_VALIDATION = 128  # frames of the validation loss, the same ones each time


@dataclass
class Meter:
    """Means since the last line of the log."""

    sums: dict[str, float] = field(default_factory=dict)
    n_steps: int = 0
    wait_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def add(self, values: dict[str, float], wait_s: float) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.n_steps += 1
        self.wait_s += wait_s

    def means(self, batch_size: int) -> dict[str, float]:
        elapsed = time.monotonic() - self.began
        return {
            **{name: total / self.n_steps for name, total in self.sums.items()},
            "samples_per_s": self.n_steps * batch_size / elapsed,
            "wait_share": self.wait_s / elapsed,
        }


def train(recipe: Recipe, run_dir: Path, *, device: str = "auto", restart: bool = False) -> dict[str, Any]:
    """Train a recipe's model, from where run_dir left off where it did.

    On the CPU a run that is stopped and resumed writes the same bytes as one that was not: every random draw follows
    from the seed and the step.

    Args:
        recipe: the recipe.
        run_dir: where recipe.yaml, log.jsonl, TensorBoard events, checkpoints and sample grids go.
        device: torch device, or "auto".
        restart: begin anew although run_dir holds a run.

    Returns:
        {"run", "step", "checkpoint"} and the last logged means.

    Raises:
        DheadsError: no usable shards, a run of another recipe is there, or the loss is no longer finite.
    """
    settings = recipe.train
    target = choose_device(device)
    precision = choose_precision(settings.precision, target)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(recipe.seed)
    parts = build_model(recipe.model, target)
    data = training_set(recipe, parts, recipe.data.train_split, augmented=True)
    validation = training_set(recipe, parts, recipe.data.val_split, seed_offset=1)
    state = fresh_state(parts, recipe)
    prepare_run_dir(run_dir, recipe, state, restart)
    encode_ahead(data, (settings.steps - state.step) * settings.batch_size)
    encode_ahead(validation, N_VALIDATION)
    objective = Objective(
        prediction=recipe.model.prediction,
        snr_weight_max=settings.snr_weight_max,
        vlb_weight=settings.vlb_weight,
        lip_sync_weight=settings.lip_sync_weight,
    )
    loss_of = TrainingLoss(parts, objective, target, precision, recipe.seed)
    n_parameters = sum(parameter.numel() for parameter in state.parameters.values())
    console.info(
        f"{recipe.name}: {n_parameters / 1e6:.2f} M parameters, {len(data.clips)} clips, "
        f"{target} {str(precision).removeprefix('torch.')}, from step {state.step} to {settings.steps} in {run_dir}"
    )
    last: dict[str, float] = {}
    with (
        open_log(run_dir, state.step) as log,
        stop_on_interrupt() as stopped,
        batches(data, state.step, settings.steps, settings.batch_size) as queue,
        console.progress("train", total=settings.steps, unit="steps", done=state.step) as bar,
    ):
        meter = Meter()
        for batch, wait_s in queue:
            state.step += 1
            values = optimise(recipe, state, loss_of, batch)
            meter.add(values, wait_s)
            bar.advance(1)
            if not math.isfinite(values["loss"]):
                raise DheadsError(
                    f"{run_dir}: the loss is {values['loss']} at step {state.step}; earlier checkpoints are whole. "
                    "Lower train.lr and train again with --restart"
                )
            done = stopped() or state.step == settings.steps
            if state.step % settings.log_every == 0 or done:
                last = meter.means(settings.batch_size)
                log({"step": state.step, **last})
                bar.note(f"loss {last['loss']:.4f}")
                meter = Meter()
            if state.step % settings.checkpoint_every == 0 or done:
                loss = validation_loss(recipe, state, loss_of, validation)
                log({"step": state.step, "val_loss": loss})
                save(run_dir, recipe, state, loss)
                meter = Meter()
            if settings.sample_every and state.step % settings.sample_every == 0:
                with ema_weights(state):
                    save_sample_grid(run_dir / f"grid-{state.step:06d}.png", recipe, parts, validation.corpus)
                meter = Meter()
            if stopped():
                console.info(f"stopped at step {state.step}; the same command goes on from there")
                break
    return {"run": str(run_dir), "step": state.step, "checkpoint": str(checkpoint_path(run_dir, state.step)), **last}


def training_set(
    recipe: Recipe, parts: Parts, split: str, seed_offset: int = 0, *, augmented: bool = False
) -> TrainingSet:
    """The clips of one split as the recipe wants them seen."""
    settings = recipe.train
    views = Views(
        n_motion_frames=recipe.model.n_motion_frames,
        audio_context=recipe.model.audio_context,
        mouth_margin=settings.mouth_margin,
        motion_noise_max=settings.motion_noise_max,
        motion_drop=settings.motion_drop,
        flip=settings.flip,
        colour_jitter=settings.colour_jitter,
        speaker_balance=recipe.data.speaker_balance,
    )
    frozen = "audio_encoder" not in parts.trained_modules()
    kinds = settings.augment.active() if augmented else {}
    versions = Versions(settings.augment.variants if kinds else 0, kinds, recipe.seed)
    return TrainingSet(
        Path(recipe.data.path),
        split,
        parts.audio_encoder,
        frozen=frozen,
        size=recipe.model.size,
        views=views,
        cache_bytes=recipe.data.cache_gb * 2**30,
        seed=recipe.seed + seed_offset,
        versions=versions,
        caches=embedding_caches(recipe, parts.audio_encoder, versions) if frozen else (),
    )


def optimise(recipe: Recipe, state: State, loss_of: TrainingLoss, batch: Batch) -> dict[str, float]:
    """One step of AdamW on one batch, then of the EMA; the step's losses and gradient norm."""
    settings = recipe.train
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, state.step)
    torch.manual_seed(recipe.seed * 1_000_003 + state.step)  # dropout
    for module in state.parts.trained_modules().values():
        module.train()
    losses = loss_of(batch, noise_seed=state.step)
    loss = losses["loss"].mean()
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(state.parameters.values(), settings.grad_clip)
    state.optimizer.step()
    decay = min(settings.ema_decay, (1 + state.step) / (10 + state.step))  # a young average forgets faster
    with torch.no_grad():
        torch._foreach_lerp_(list(state.ema.values()), list(state.averaged().values()), 1 - decay)
    return {**{name: values.mean().item() for name, values in losses.items()}, "grad_norm": norm.item()}


@dataclass(frozen=True)
class TrainingLoss:
    """Noise a batch, run the network on it, and weigh what comes out.

    Attributes:
        parts: the model's parts.
        objective: the weights of the loss terms.
        device: where it runs.
        precision: of the forward pass; the loss is float32.
        seed: the run's.
    """

    parts: Parts
    objective: Objective
    device: torch.device
    precision: torch.dtype
    seed: int

    def __call__(self, batch: Batch, noise_seed: int) -> dict[str, Tensor]:
        """The loss and its terms, each [B]; the same noise_seed draws the same steps and noises."""
        schedule, unet, encoder = self.parts.schedule, self.parts.unet, self.parts.audio_encoder
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + noise_seed)
        t = torch.randint(schedule.n_timesteps, (len(batch.x_0),), generator=generator)
        eps = torch.randn(batch.x_0.shape, generator=generator).to(self.device)
        x_0, identity = batch.x_0.to(self.device), batch.identity.to(self.device)
        motion = stack_motion([frame.to(self.device) for frame in batch.motion], identity, unet.grayscale_motion)
        level = None
        if unet.motion_noise_embed is not None:
            level = batch.motion_noise.to(self.device)
            noise = torch.randn(motion.shape, generator=generator).to(self.device)
            motion = motion + level.view(-1, 1, 1, 1) * noise
        x_t = q_sample(schedule, x_0, t, eps)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            audio = batch.audio.to(self.device)
            if batch.audio_index is not None:
                n_frames = batch.audio_index.shape[1] + 2 * encoder.context_frames
                embeddings = encoder(audio, n_frames)
                index = batch.audio_index.to(self.device)[:, :, None].expand(-1, -1, embeddings.shape[-1])
                audio = embeddings.gather(1, index)
            output = unet(x_t, t.to(self.device), identity, motion, audio, level)
        mask = batch.mouth_mask.to(self.device)
        return training_losses(self.objective, schedule, output, x_0, x_t, eps, t, identity, mask)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up to lr, then a cosine from lr to lr * lr_final at the last step."""
    settings = recipe.train
    warmup = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / settings.steps, 1.0)))
    return settings.lr * warmup * (settings.lr_final + (1 - settings.lr_final) * cosine)


@torch.no_grad()
def validation_loss(recipe: Recipe, state: State, loss_of: TrainingLoss, data: TrainingSet) -> float:
    """Mean loss of the EMA weights on a fixed set of frames, noises and noise levels."""
    size = min(recipe.train.batch_size, N_VALIDATION)
    with ema_weights(state):
        losses = [loss_of(data.batch(i, size), noise_seed=i)["loss"] for i in range(N_VALIDATION // size)]
    return torch.cat(losses).mean().item()


@contextmanager
def open_log(run_dir: Path, step: int) -> Iterator[Any]:
    """A function that logs one line of values to log.jsonl and TensorBoard; lines after `step` are dropped first."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

    path = run_dir / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_atomically(path, "".join(line + "\n" for line in kept))
    board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)
    with open(path, "a", encoding="utf-8") as file:

        def log(values: dict[str, float]) -> None:
            file.write(json.dumps(values) + "\n")
            file.flush()
            for name, value in values.items():
                if name != "step":
                    board.add_scalar(name, value, int(values["step"]))

        try:
            yield log
        finally:
            board.close()


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


@contextmanager
def batches(data: TrainingSet, done: int, steps: int, size: int) -> Iterator[Iterator[tuple[Batch, float]]]:
    """Batches of steps done + 1 ... steps, made ahead in a thread, each with the seconds waited for it."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def run() -> Iterator[tuple[Batch, float]]:
        ahead: list[Future[Batch]] = []
        next_step = done + 1
        for _ in range(done, steps):
            while next_step <= steps and len(ahead) < PREFETCH:
                ahead.append(pool.submit(data.batch, next_step, size))
                next_step += 1
            began = time.monotonic()
            batch = ahead.pop(0).result()
            yield batch, time.monotonic() - began

    try:
        yield run()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
