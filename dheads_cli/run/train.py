"""`dheads train`: learn a model from shards. Read from `train` downwards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dheads_cli import console
from dheads_cli.data.dataset import Batch, TrainingSet, Views
from dheads_cli.data.hearing import Versions
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import Parts, build_component, build_model
from dheads_cli.model.diffusion import Objective, q_sample, training_losses
from dheads_cli.model.generate import Continuity
from dheads_cli.model.guidance import ConditionDropout, Conditions
from dheads_cli.model.motion_frames import add_noise, drop_patches, stack_motion
from dheads_cli.model.rollout import Rollout, evaluating
from dheads_cli.model.timesteps import TIMESTEPS, Timesteps, Uniform
from dheads_cli.recipe import Recipe
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.encode_ahead import embedding_caches, encode_ahead, versions_of
from dheads_cli.run.frames import check_motion_noise, continuity_of
from dheads_cli.run.noise_levels import by_noise_level, level_means
from dheads_cli.run.processes import current
from dheads_cli.run.training_log import Drawn
from dheads_cli.run.training_loop import Pictures, begin, learn
from dheads_cli.run.training_state import State, begin_or_resume, ema_weights, prepare_run_dir
from dheads_cli.run.watch import Watch, watch_of

N_VALIDATION = 128  # frames of the validation loss, the same ones each time


def train(recipe: Recipe, run_dir: Path, *, device: str = "auto", restart: bool = False) -> dict[str, Any]:
    """Train a recipe's model, from where run_dir left off where it did.

    On the CPU a run that is stopped and resumed writes the same bytes as one that was not: every random draw follows
    from the seed and the step.

    Args:
        recipe: the recipe.
        run_dir: where recipe.yaml, log.jsonl, TensorBoard events, checkpoints and pictures go.
        device: torch device, or "auto".
        restart: begin anew although run_dir holds a run.

    Returns:
        {"run", "step", "checkpoint"} and the last logged means.

    Raises:
        DheadsError: no usable shards, a run of another recipe is there, or the loss is no longer finite.
    """
    settings = recipe.train
    if isinstance(recipe.sample.motion_noise, list):
        check_motion_noise(recipe, recipe.sample.motion_noise)  # else told when the first grid is drawn
    if settings.timesteps == "loss_aware" and (current().n > 1 or settings.accumulate > 1):
        raise DheadsError(
            "train.timesteps=loss_aware learns from whole batches: it takes one process and train.accumulate=1; "
            "use stratified"
        )
    target, precision = begin(recipe, device)
    parts = build_model(recipe.model, target, freeze_audio_encoder=settings.freeze_audio_encoder)
    parts.unet.recompute_activations = settings.recompute_activations
    timesteps = TIMESTEPS[settings.timesteps](recipe.model.n_timesteps)
    state = begin_or_resume(run_dir, recipe, parts, restart, timesteps=timesteps.state)
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
    dropout = ConditionDropout(settings.audio_drop, settings.identity_drop)
    loss_of = TrainingLoss(
        parts, objective, target, precision, recipe.seed, timesteps, dropout,
        settings.motion_patch_drop, settings.motion_patch_px, rollout_of(recipe, precision),
    )  # fmt: skip
    n_parameters = sum(parameter.numel() for parameter in state.parameters.values())
    console.info(
        f"{recipe.name}: {n_parameters / 1e6:.2f} M parameters, {len(data.clips)} clips, "
        f"{target} {str(precision).removeprefix('torch.')}, from step {state.step} to {settings.steps} in {run_dir}"
    )
    pictures = None
    if settings.sample_every and current().is_first:
        watch = watch_of(recipe, parts, validation.corpus, validation.clips, run_dir, state.step)
        pictures = Pictures(settings.sample_every, partial(draw, state, watch))
    return learn(
        recipe,
        run_dir,
        state,
        data,
        loss_of,
        lambda: validation_losses(recipe, state, loss_of, validation),
        pictures,
    )


def draw(state: State, watch: Watch, step: int) -> Drawn:
    """Draw what is watched with the EMA weights."""
    with ema_weights(state):
        return watch(step)


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
        mouth_warp=settings.mouth_warp if augmented else 0.0,
        clutter=settings.clutter if augmented else 0.0,
        speaker_balance=recipe.data.speaker_balance,
        motion_noise_levels=settings.motion_noise_levels,
        motion_noise_per_frame=recipe.model.motion_noise_per_frame,
        rollout_share=settings.rollout_share if augmented else 0.0,  # the validation loss means the same for all
        rollout_frames=settings.rollout_frames,
        rollout_from_step=settings.rollout_from_step,
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


def rollout_of(recipe: Recipe, precision: torch.dtype) -> Rollout | None:
    """How the network draws its own motion frames, or None where it never does.

    Raises:
        DheadsError: it has none, or the sampler can't be built.
    """
    if not recipe.train.rollout_share:
        return None
    if not recipe.model.n_motion_frames:
        raise DheadsError("train.rollout_share: the network sees no motion frames (model.n_motion_frames=0); use 0")
    sampler = build_component("samplers", recipe.train.rollout_sampler)
    continuity = Continuity(motion_noise=continuity_of(recipe.sample).motion_noise)
    return Rollout(sampler, recipe.model.prediction, continuity, precision)


@dataclass(frozen=True)
class TrainingLoss:
    """Noise a batch, run the network on it, and weigh what comes out.

    Attributes:
        parts: the model's parts.
        objective: the weights of the loss terms.
        device: where it runs.
        precision: of the forward pass; the loss is float32.
        seed: the run's.
        timesteps: how the steps of a batch are drawn.
        dropout: how often a condition is taken away.
        patch_drop: share of the motion frames' squares that are set to zero.
        patch_px: side of such a square, px.
        rollout: how the network draws the motion frames of a batch that is to be had so.
    """

    parts: Parts
    objective: Objective
    device: torch.device
    precision: torch.dtype
    seed: int
    timesteps: Timesteps
    dropout: ConditionDropout = field(default_factory=ConditionDropout)
    patch_drop: float = 0.0
    patch_px: int = 1
    rollout: Rollout | None = None

    def __call__(self, batch: Batch, noise_seed: int, part: Part | None = None) -> dict[str, Tensor]:
        """The loss and its terms, also by noise level, each [B]; noise_seed decides all random draws.

        Where the batch is a part of a larger one, its samples' draws are those they have in that.
        """
        part = part or Part(0, len(batch.x_0), len(batch.x_0))
        schedule, unet = self.parts.schedule, self.parts.unet
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + noise_seed)
        t, weights = map(part.of, self.timesteps.draw(part.whole, generator))
        eps = part.randn(batch.x_0.shape, generator).to(self.device)
        x_0, identity = batch.x_0.to(self.device), batch.identity.to(self.device)
        audio = self.hear(batch.audio, batch.audio_index)
        given = Conditions(identity, self.motion_frames(batch, identity, noise_seed, part), audio)
        given = self.dropout(given, part.uniform(generator))
        motion = stack_motion(given.motion, given.identity, unet.grayscale_motion)
        level = None
        if self.patch_drop:  # of a stream of its own, so that with it or without, the other draws are the same
            own = torch.Generator().manual_seed(self.seed * 1_000_003 + noise_seed + 2**40)
            motion = drop_patches(motion, unet.n_motion_frames, self.patch_drop, self.patch_px, part.uniform(own))
        if unet.motion_noise_embed is not None:
            level = batch.motion_noise.to(self.device)
            noise = part.randn(motion.shape, generator).to(self.device)
            motion = add_noise(motion, level, noise)
        x_t = q_sample(schedule, x_0, t, eps)
        with self.autocast():
            output = unet(x_t, t.to(self.device), given.identity, motion, given.audio, level)
        mask = batch.mouth_mask.to(self.device)
        losses = training_losses(self.objective, schedule, output, x_0, x_t, eps, t, given.identity, mask)
        self.timesteps.observe(t, losses["loss"].detach())
        return by_noise_level(losses, t, weights, schedule.n_timesteps)

    def motion_frames(self, batch: Batch, identity: Tensor, noise_seed: int, part: Part) -> list[Tensor]:
        """The frames before the target, M x [B, 3, H, W]: real ones, or those that the network draws itself."""
        if self.rollout is None or batch.start_exists is None:
            return [frame.to(self.device) for frame in batch.motion]
        own = torch.Generator().manual_seed(self.seed * 1_000_003 + noise_seed + 2**41)
        with torch.no_grad(), evaluating(*self.parts.trained_modules().values()):
            windows = [
                self.hear(audio, index)
                for audio, index in zip_longest(batch.start_audio, batch.start_index)  # no index: a frozen encoder
            ]
        return self.rollout(
            self.parts.unet,
            self.parts.schedule,
            identity,
            [frame.to(self.device) for frame in batch.start],
            windows,
            batch.start_exists.to(self.device),
            lambda shape: part.randn(torch.Size(shape), own).to(self.device),
        )

    def hear(self, audio: Tensor, audio_index: Tensor | None) -> Tensor:
        """Audio windows [B, K, D] of a batch's sound, and their places in it."""
        audio = audio.to(self.device)
        if audio_index is None:
            return audio
        encoder = self.parts.audio_encoder
        with self.autocast():
            embeddings = encoder(audio, audio_index.shape[1] + 2 * encoder.context_frames)
        index = audio_index.to(self.device)[:, :, None].expand(-1, -1, embeddings.shape[-1])
        return embeddings.gather(1, index)

    def autocast(self) -> torch.autocast:
        """The forward pass's arithmetic."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)


@torch.no_grad()
def validation_losses(recipe: Recipe, state: State, loss_of: TrainingLoss, data: TrainingSet) -> dict[str, float]:
    """Mean loss of the EMA weights on a fixed set of frames, noises and noise levels: "val_loss", and by noise level.

    Steps are drawn uniformly and the model is given all its conditions, whole: the same measure however it is trained.
    """
    size = min(recipe.train.batch_size, N_VALIDATION)
    plain = replace(loss_of, timesteps=Uniform(recipe.model.n_timesteps), dropout=ConditionDropout(), patch_drop=0.0)
    with ema_weights(state):
        losses = [plain(data.batch(i, size), noise_seed=i) for i in range(N_VALIDATION // size)]
    means = level_means({name: torch.cat([each[name] for each in losses]).mean().item() for name in losses[0]})
    return {f"val_{name}": mean for name, mean in means.items() if name.partition("/")[0] == "loss"}
