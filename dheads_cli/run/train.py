"""`dheads train`: learn a model from shards. Read from `train` downwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dheads_cli import console
from dheads_cli.data.dataset import Batch, TrainingSet, Views
from dheads_cli.data.hearing import Versions
from dheads_cli.data.shards import Corpus
from dheads_cli.model.build import Parts, build_model
from dheads_cli.model.diffusion import Objective, q_sample, training_losses
from dheads_cli.model.generate import stack_motion
from dheads_cli.recipe import Recipe
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.encode_ahead import embedding_caches, encode_ahead, versions_of
from dheads_cli.run.sample_grid import save_sample_grid
from dheads_cli.run.training_loop import Pictures, begin, learn
from dheads_cli.run.training_state import State, begin_or_resume, ema_weights, prepare_run_dir

N_VALIDATION = 128  # frames of the validation loss, the same ones each time


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
    target, precision = begin(recipe, device)
    parts = build_model(recipe.model, target, freeze_audio_encoder=settings.freeze_audio_encoder)
    parts.unet.recompute_activations = settings.recompute_activations
    state = begin_or_resume(run_dir, recipe, parts, restart)
    data = training_set(recipe, parts, recipe.data.train_split, augmented=True)
    validation = training_set(recipe, parts, recipe.data.val_split, seed_offset=1)
    prepare_run_dir(run_dir, recipe, state)
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
    draw = Pictures(settings.sample_every, partial(draw_grid, recipe, state, parts, validation.corpus, run_dir))
    return learn(
        recipe,
        run_dir,
        state,
        data,
        loss_of,
        lambda: {"val_loss": validation_loss(recipe, state, loss_of, validation)},
        draw if settings.sample_every else None,
    )


def draw_grid(recipe: Recipe, state: State, parts: Parts, corpus: Corpus, run_dir: Path, step: int) -> None:
    """Draw the sample grid of a step with the EMA weights."""
    with ema_weights(state):
        save_sample_grid(run_dir / f"grid-{step:06d}.png", recipe, parts, corpus)


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
        warp=settings.warp,
        speaker_balance=recipe.data.speaker_balance,
    )
    frozen = "audio_encoder" not in parts.trained_modules()
    versions = versions_of(recipe) if augmented else Versions()
    data = TrainingSet(
        Path(recipe.data.path),
        split,
        parts.audio_encoder,
        frozen=frozen,
        size=recipe.model.size,
        views=views,
        cache_bytes=recipe.data.cache_gb * 2**30,
        seed=recipe.seed + seed_offset,
        keep=recipe.data.limits,
        versions=versions,
        caches=embedding_caches(recipe, parts.audio_encoder, versions) if frozen else (),
    )
    if recipe.data.keep:
        console.info(f"split {split}: data.keep leaves {data.choice}")
    return data


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

    def __call__(self, batch: Batch, noise_seed: int, part: Part | None = None) -> dict[str, Tensor]:
        """The loss and its terms, each [B]; the same noise_seed draws the same steps and noises.

        Where the batch is a part of a larger one, its samples' steps and noises are those they have in that.
        """
        part = part or Part(0, len(batch.x_0), len(batch.x_0))
        schedule, unet, encoder = self.parts.schedule, self.parts.unet, self.parts.audio_encoder
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + noise_seed)
        t = part.randint(schedule.n_timesteps, generator)
        eps = part.randn(batch.x_0.shape, generator).to(self.device)
        x_0, identity = batch.x_0.to(self.device), batch.identity.to(self.device)
        motion = stack_motion([frame.to(self.device) for frame in batch.motion], identity, unet.grayscale_motion)
        level = None
        if unet.motion_noise_embed is not None:
            level = batch.motion_noise.to(self.device)
            noise = part.randn(motion.shape, generator).to(self.device)
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


@torch.no_grad()
def validation_loss(recipe: Recipe, state: State, loss_of: TrainingLoss, data: TrainingSet) -> float:
    """Mean loss of the EMA weights on a fixed set of frames, noises and noise levels."""
    size = min(recipe.train.batch_size, N_VALIDATION)
    with ema_weights(state):
        losses = [loss_of(data.batch(i, size), noise_seed=i)["loss"] for i in range(N_VALIDATION // size)]
    return torch.cat(losses).mean().item()
