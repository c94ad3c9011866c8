"""`dheads train` of a recipe whose task is sync: learn whether lips and sound are in step. Read from the top down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dheads_cli import console
from dheads_cli.data.clip_choice import Limits, choose_clips
from dheads_cli.data.hearing import Versions
from dheads_cli.data.mixture import mixed
from dheads_cli.data.shards import Corpus
from dheads_cli.data.sync_clips import SyncBatch, SyncSet, SyncViews
from dheads_cli.model.sync import SyncNet, build_sync
from dheads_cli.recipe_sync import SyncRecipe
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.encode_ahead import versions_of
from dheads_cli.run.noise_levels import by_corpus
from dheads_cli.run.processes import current
from dheads_cli.run.sync_report import REPORT, SHORT_FRAMES, make_report, show, write
from dheads_cli.run.training_files import prepare_run_dir
from dheads_cli.run.training_loop import begin, learn
from dheads_cli.run.training_state import State, begin_or_resume, brief_scores_of_all, ema_weights

CLIPS_AT_ONCE = 8  # in validation


def train_sync(recipe: SyncRecipe, run_dir: Path, *, device: str = "auto", restart: bool = False) -> dict[str, Any]:
    """Train a network for lips and sound, from where run_dir left off where it did; at its end, say how good it is.

    A run that is stopped and resumed writes the same bytes as one that was not, as for run/train.py. Called for a run
    that is at its end, it is judged again.

    Args:
        recipe: the recipe.
        run_dir: where recipe.yaml, log.jsonl, TensorBoard events, checkpoints and sync.json go.
        device: torch device, or "auto".
        restart: begin anew although run_dir holds a run.

    Returns:
        {"run", "step", "checkpoint"}, the last logged means and, at the end, "sync": what sync.json holds.

    Raises:
        DheadsError: no usable shards, a run of another recipe is there, or the loss is no longer finite.
    """
    settings = recipe.train
    target, precision = begin(recipe, device)
    corpora = {name: Corpus(path) for name, path in zip(recipe.data.corpus_names, recipe.data.paths, strict=True)}
    network = build_sync(recipe.model.channels, recipe.model.embed_dim, target)
    state = begin_or_resume(run_dir, recipe, network, restart)
    data = sync_sets(recipe, corpora, recipe.data.train_split, augmented=True)
    validation = sync_sets(recipe, corpora, recipe.data.val_split)
    mixture = mixed(list(data.values()), recipe.data.shares, seed=recipe.seed)
    prepare_run_dir(run_dir, recipe, state)
    if state.step == 0:
        (run_dir / REPORT).unlink(missing_ok=True)  # of the run that was here
    loss_of = SyncLoss(network, settings.temperature, target, precision, list(corpora))
    n_parameters = sum(parameter.numel() for parameter in state.parameters.values())
    console.info(
        f"{recipe.name}: {n_parameters / 1e6:.2f} M parameters, "
        f"{sum(len(each.clips) for each in data.values())} clips, "
        f"{target} {str(precision).removeprefix('torch.')}, from step {state.step} to {settings.steps} in {run_dir}"
    )
    done = learn(recipe, run_dir, state, mixture, loss_of, lambda: score_briefly(recipe, state, loss_of, validation))
    if state.step < settings.steps or not current().is_first:
        return done
    sets = {
        split if len(corpora) == 1 else f"{name}, {split}": sync_set(recipe, corpus, split, n_frames=SHORT_FRAMES)
        for name, corpus in corpora.items()
        for split in corpus.splits
        if split != recipe.data.train_split and any(ref.n_frames >= SHORT_FRAMES for ref in corpus.clips(split))
    }
    with ema_weights(state):
        report = make_report(state.step, network, sets, target)
    write(run_dir, report)
    show(run_dir, report)
    return {**done, "sync": report}


def sync_sets(
    recipe: SyncRecipe, corpora: Mapping[str, Corpus], split: str, *, augmented: bool = False
) -> dict[str, SyncSet]:
    """A split's clips that `data.keep` leaves, by the corpora's names; they share one memory."""
    sets = {
        name: sync_set(recipe, corpus, split, recipe.data.limits, augmented=augmented)
        for name, corpus in corpora.items()
    }
    memory = next(iter(sets.values())).memory
    for each in sets.values():
        each.memory = memory
    return sets


def sync_set(
    recipe: SyncRecipe,
    corpus: Corpus,
    split: str,
    keep: Mapping[str, Limits] | None = None,
    *,
    n_frames: int | None = None,
    augmented: bool = False,
) -> SyncSet:
    """The clips of one split as the recipe wants them seen and heard; says how many are too short.

    Args:
        recipe: the recipe.
        corpus: where they are.
        split: which.
        keep: limits of clips' measures.
        n_frames: of a piece; None takes the recipe's.
        augmented: whether sound has its augmented versions too.

    Raises:
        DheadsError: there are none, or they can't be used.
    """
    choice = choose_clips(corpus.clips(split), keep or {}, f"{corpus.folder}, split {split!r},")
    if keep:
        console.info(f"{corpus.folder}, split {split}: data.keep leaves {choice}")
    train = recipe.train
    length = n_frames or train.n_frames
    views = SyncViews(length, train.flip, train.warp, train.light, train.blur, recipe.data.speaker_balance)
    made = SyncSet(
        corpus, choice.clips, views=views, cache_bytes=recipe.data.cache_gb * 2**30, seed=recipe.seed,
        versions=versions_of(recipe) if augmented else Versions(),
    )  # fmt: skip
    if made.n_short:
        console.info(f"{corpus.folder}, split {split}: {made.n_short} clips are shorter than {length} frames: left out")
    return made


@dataclass(frozen=True)
class SyncLoss:
    """How well windows of lips and of sound find each other (InfoNCE, van den Oord et al. 2018).

    Each window of lips is to be told which of all windows of its piece's sound, and of another sentence's, is its own;
    each window of sound, which of its piece's windows of lips. Negatives are within a sample, so a loss does not
    depend on what else is in the batch.

    Attributes:
        network: the towers.
        temperature: what cosines are divided by.
        device: where they run.
        precision: of the forward pass; the loss is float32.
        corpora: names of several corpora, whose losses are told apart.
    """

    network: SyncNet
    temperature: float
    device: torch.device
    precision: torch.dtype
    corpora: Sequence[str] = ()

    def __call__(self, batch: SyncBatch, noise_seed: int, part: Part | None = None) -> dict[str, Tensor]:
        """Loss [B], nats, and the share of windows of lips that find their own [B]; nothing is drawn."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            lips = self.network.lips(batch.mouths.to(self.device)).float()
            sound = self.network.sound(torch.cat([batch.sound, batch.other]).to(self.device)).float()
        own, other = (lips @ each.transpose(1, 2) / self.temperature for each in sound.chunk(2))  # [B, N, N]
        right = torch.arange(lips.shape[1], device=self.device).expand(lips.shape[:2])
        to_sound = torch.cat([own, other], dim=2)
        losses = [
            F.cross_entropy(logits.transpose(1, 2), right, reduction="none").mean(1)
            for logits in (to_sound, own.transpose(1, 2))
        ]
        found = (to_sound.argmax(dim=2) == right).float().mean(1)
        loss = (losses[0] + losses[1]) / 2
        return {"loss": loss, "accuracy": found} | by_corpus(loss, batch.corpus, self.corpora)


def score_briefly(
    recipe: SyncRecipe, state: State, loss_of: SyncLoss, data: Mapping[str, SyncSet]
) -> dict[str, float]:
    """Mean loss and accuracy of the EMA weights over the beginnings of a split's clips."""
    batches = {name: each.in_order(CLIPS_AT_ONCE) for name, each in data.items()}
    return brief_scores_of_all(state, loss_of, batches, recipe.data.shares)
