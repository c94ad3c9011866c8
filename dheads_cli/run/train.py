"""`dheads train`: learn a model from shards. Read from `train` downwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dheads_cli import console
from dheads_cli.data.batch import Batch
from dheads_cli.data.dataset import TrainingSet, Views
from dheads_cli.data.hearing import Versions
from dheads_cli.data.mixture import SampleSet, mixed
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import Parts, build_component, build_model, random_inputs
from dheads_cli.model.diffusion import Objective
from dheads_cli.model.generate import Continuity
from dheads_cli.model.guidance import ConditionDropout
from dheads_cli.model.rollout import Rollout
from dheads_cli.model.timesteps import TIMESTEPS, Timesteps, Uniform
from dheads_cli.recipe import Recipe
from dheads_cli.run.batches_ahead import n_workers
from dheads_cli.run.compiled import compiled
from dheads_cli.run.decode_ahead import decode_ahead
from dheads_cli.run.device_speed import Speed, convolution_peak, flop_of_training
from dheads_cli.run.encode_ahead import embedding_caches, encode_ahead, versions_of
from dheads_cli.run.frames import check_motion_noise, continuity_of
from dheads_cli.run.noise_levels import level_means
from dheads_cli.run.processes import current
from dheads_cli.run.training_files import prepare_run_dir
from dheads_cli.run.training_log import Drawn
from dheads_cli.run.training_loop import Pictures, begin, learn
from dheads_cli.run.training_loss import TrainingLoss
from dheads_cli.run.training_state import State, begin_or_resume, ema_weights
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
    network = compiled(parts.unet, target) if settings.compile else None
    timesteps = TIMESTEPS[settings.timesteps](recipe.model.n_timesteps)
    state = begin_or_resume(run_dir, recipe, parts, restart, timesteps=timesteps.state)
    training = training_sets(recipe, parts, recipe.data.train_split, augmented=True)
    validation = training_sets(recipe, parts, recipe.data.val_split, seed_offset=1)
    prepare_run_dir(run_dir, recipe, state)
    n_samples = (settings.steps - state.step) * settings.batch_size
    for sets, n in ((training, n_samples), (validation, N_VALIDATION)):
        for each, share in zip(sets, recipe.data.shares, strict=True):
            encode_ahead(each, round(share * n))
    if recipe.data.cache == "ram":
        decode_ahead(training, n_workers(recipe.data.workers, target))
    loss_of = training_loss(recipe, parts, target, precision, timesteps)
    loss_of = replace(loss_of, network=network)
    peak = current().n * convolution_peak(target, precision)
    one = random_inputs(recipe.model, parts.audio_encoder.embed_dim, 1, target)
    speed = Speed(flop_of_training(parts.unet, one), peak)
    n_parameters = sum(parameter.numel() for parameter in state.parameters.values())
    console.info(
        f"{recipe.name}: {n_parameters / 1e6:.2f} M parameters, {sum(len(each.clips) for each in training)} clips, "
        f"{target} {str(precision).removeprefix('torch.')}, from step {state.step} to {settings.steps} in {run_dir}; "
        f"{speed.flop_per_sample / 1e9:.3g} GFLOP a sample, peak {peak / 1e9:.4g} GFLOP/s"
    )
    pictures = None
    if settings.sample_every and current().is_first:
        watch = watch_of(recipe, parts, validation[0].corpus, validation[0].clips, run_dir, state.step)
        pictures = Pictures(settings.sample_every, partial(draw, state, watch))
    return learn(
        recipe,
        run_dir,
        state,
        mixed_sets(recipe, training),
        loss_of,
        lambda: validation_losses(recipe, state, loss_of, mixed_sets(recipe, validation)),
        pictures,
        speed,
    )


def training_loss(
    recipe: Recipe, parts: Parts, device: torch.device, precision: torch.dtype, timesteps: Timesteps
) -> TrainingLoss:
    """The loss that a recipe asks for."""
    settings = recipe.train
    objective = Objective(
        prediction=recipe.model.prediction,
        snr_weight_max=settings.snr_weight_max,
        vlb_weight=settings.vlb_weight,
        lip_sync_weight=settings.lip_sync_weight,
    )
    dropout = ConditionDropout(settings.audio_drop, settings.identity_drop)
    return TrainingLoss(
        parts, objective, device, precision, recipe.seed, timesteps, dropout,
        settings.motion_patch_drop, settings.motion_patch_px, rollout_of(recipe, precision),
        corpora=recipe.data.corpus_names,
    )  # fmt: skip


def draw(state: State, watch: Watch, step: int) -> Drawn:
    """Draw what is watched with the EMA weights."""
    with ema_weights(state):
        return watch(step)


def training_sets(
    recipe: Recipe, parts: Parts, split: str, seed_offset: int = 0, *, augmented: bool = False
) -> list[TrainingSet]:
    """The clips of one split of each corpus, as the recipe wants them seen; they share one memory.

    Raises:
        DheadsError: a corpus can't be used, or its frame rate is not that of the others.
    """
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
        controls=tuple(recipe.model.controls),
        control_drop=settings.control_drop if augmented else 0.0,  # likewise
    )
    frozen = "audio_encoder" not in parts.trained_modules()
    versions = versions_of(recipe) if augmented else Versions()
    sets: list[TrainingSet] = []
    for path, name in zip(recipe.data.paths, recipe.data.corpus_names, strict=True):
        made = TrainingSet(
            path,
            split,
            parts.audio_encoder,
            frozen=frozen,
            size=recipe.model.size,
            views=views,
            cache_bytes=recipe.data.cache_gb * 2**30,
            seed=recipe.seed + seed_offset,
            keep=recipe.data.limits,
            targets_per_clip=recipe.data.targets_per_clip if augmented else 1,  # the validation loss: of as many clips
            versions=versions,
            caches=embedding_caches(recipe, parts.audio_encoder, versions, path) if frozen else (),
        )
        sets.append(made)
        if made.fps != sets[0].fps:
            raise DheadsError(
                f"{path}: has {made.fps:g} frames/s, but {sets[0].corpus.folder} {sets[0].fps:g}: all corpora of "
                f"data.path need the same; preprocess it again with --set preprocess.fps={sets[0].fps:g}"
            )
        made.memory = sets[0].memory
        if recipe.data.keep:
            where = f"split {split}" if len(recipe.data.paths) == 1 else f"{name}, split {split}"
            console.info(f"{where}: data.keep leaves {made.choice}")
    return sets


def mixed_sets(recipe: Recipe, sets: Sequence[TrainingSet]) -> SampleSet[Batch]:
    """The samples of all corpora, each with its share."""
    first = sets[0]
    return mixed(sets, recipe.data.shares, seed=first.seed, targets_per_clip=first.targets_per_clip)


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


@torch.no_grad()
def validation_losses(
    recipe: Recipe, state: State, loss_of: TrainingLoss, data: SampleSet[Batch]
) -> dict[str, float]:
    """Mean loss of the EMA weights on a fixed set of frames, noises and noise levels.

    "val_loss", and the same by noise level and, where there are several, by corpus.

    Steps are drawn uniformly and the model is given all its conditions, whole: the same measure however it is trained.
    """
    size = min(recipe.train.batch_size, N_VALIDATION)
    uniform = Uniform(recipe.model.n_timesteps)
    # Not compiled: that would be one more compilation, for a few batches.
    plain = replace(loss_of, timesteps=uniform, dropout=ConditionDropout(), patch_drop=0.0, network=None)
    with ema_weights(state):
        losses = [plain(data.batch(i, size), noise_seed=i) for i in range(N_VALIDATION // size)]
    means = level_means({name: torch.cat([each[name] for each in losses]).mean().item() for name in losses[0]})
    return {f"val_{name}": mean for name, mean in means.items() if name.partition("/")[0] == "loss"}
