"""`dheads train` of a recipe whose task is lips: learn to read words from the mouth. Read from `train_lips` down."""

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
from dheads_cli.data.lip_clips import UNKNOWN, LipBatch, LipSet, spoken_clips
from dheads_cli.data.mixture import mixed
from dheads_cli.data.shards import Corpus
from dheads_cli.data.sync_clips import SyncViews
from dheads_cli.errors import DheadsError
from dheads_cli.model.lips import LipReader, build_lip_reader, take_lips
from dheads_cli.model.sentence import SILENCE, labels_of
from dheads_cli.recipe_lips import LipsRecipe
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.lip_report import REPORT, make_report, show, write
from dheads_cli.run.noise_levels import by_corpus
from dheads_cli.run.processes import current
from dheads_cli.run.training_files import prepare_run_dir
from dheads_cli.run.training_loop import begin, learn
from dheads_cli.run.training_state import State, begin_or_resume, brief_scores_of_all, ema_weights

CLIPS_AT_ONCE = 8  # in validation


def train_lips(recipe: LipsRecipe, run_dir: Path, *, device: str = "auto", restart: bool = False) -> dict[str, Any]:
    """Train a lip-reader, from where run_dir left off where it did; at its end, say how many words it gets wrong.

    A run that is stopped and resumed writes the same bytes as one that was not, as for run/train.py. Called for a run
    that is at its end, it is judged again.

    Args:
        recipe: the recipe.
        run_dir: where recipe.yaml, log.jsonl, TensorBoard events, checkpoints and lips.json go.
        device: torch device, or "auto".
        restart: begin anew although run_dir holds a run.

    Returns:
        {"run", "step", "checkpoint"}, the last logged means and, at the end, "lips": what lips.json holds.

    Raises:
        DheadsError: no usable shards, a run of another recipe is there, or the loss is no longer finite.
    """
    settings = recipe.train
    target, precision = begin(recipe, device)
    corpora = {name: Corpus(path) for name, path in zip(recipe.data.corpus_names, recipe.data.paths, strict=True)}
    data = lip_sets(recipe, corpora, recipe.data.train_split)
    validation = lip_sets(recipe, corpora, recipe.data.val_split)
    mixture = mixed(list(data.values()), recipe.data.shares, seed=recipe.seed)
    reader = build_lip_reader(recipe.model, target, freeze_lips=settings.freeze_lips)
    if settings.lips_weights is not None and (restart or not (run_dir / "resume.safetensors").exists()):
        console.info(f"begins with the convolutions of {take_lips(settings.lips_weights, reader)}")
    state = begin_or_resume(run_dir, recipe, reader, restart)
    prepare_run_dir(run_dir, recipe, state)
    if state.step == 0:
        (run_dir / REPORT).unlink(missing_ok=True)  # of the run that was here
    loss_of = LipLoss(reader, target, precision, list(corpora))
    n_parameters = sum(parameter.numel() for parameter in state.parameters.values())
    clips = [clip for each in data.values() for clip in each.clips]
    n_timed = sum(bool((clip.labels != UNKNOWN).any()) for clip in clips)
    console.info(
        f"{recipe.name}: {n_parameters / 1e6:.2f} M parameters, {len(clips)} clips, {n_timed} of them with words' "
        f"times, {target} {str(precision).removeprefix('torch.')}, from step {state.step} to {settings.steps} in "
        f"{run_dir}"
    )
    done = learn(recipe, run_dir, state, mixture, loss_of, lambda: score_briefly(recipe, state, loss_of, validation))
    if state.step < settings.steps or not current().is_first:
        return done
    with ema_weights(state):
        report = make_report(state.step, reader, held_out(recipe, corpora), target)
    write(run_dir, report)
    show(run_dir, report)
    return {**done, "lips": report}


def held_out(recipe: LipsRecipe, corpora: Mapping[str, Corpus]) -> dict[str, LipSet]:
    """The clips of each split that is not trained on, where any of it says a sentence of the pattern."""
    sets = {}
    for name, corpus in corpora.items():
        for split in corpus.splits:
            if split == recipe.data.train_split:
                continue
            try:
                sets[split if len(corpora) == 1 else f"{name}, {split}"] = lip_set(recipe, corpus, split, {})
            except DheadsError as error:
                console.warn(f"{error}: left out of the report")
    return sets


def lip_sets(recipe: LipsRecipe, corpora: Mapping[str, Corpus], split: str) -> dict[str, LipSet]:
    """A split's clips that `data.keep` leaves, by the corpora's names; they share one memory and one length."""
    sets = {name: lip_set(recipe, corpus, split, recipe.data.limits) for name, corpus in corpora.items()}
    memory, n_frames = next(iter(sets.values())).memory, max(each.n_frames for each in sets.values())
    for each in sets.values():
        each.memory, each.n_frames = memory, n_frames
    return sets


def lip_set(recipe: LipsRecipe, corpus: Corpus, split: str, keep: Mapping[str, Limits]) -> LipSet:
    """The clips of one split whose measures lie within limits, as the recipe wants them seen.

    Raises:
        DheadsError: there are none, or they can't be used.
    """
    choice = choose_clips(corpus.clips(split), keep, f"{corpus.folder}, split {split!r},")
    if keep:
        console.info(f"{corpus.folder}, split {split}: data.keep leaves {choice}")
    train, sentence = recipe.train, recipe.model.sentence
    clips = spoken_clips(corpus, choice.clips, sentence)
    return LipSet(
        corpus, clips, labels_of(sentence), views=SyncViews(1, train.flip, train.warp, train.light, train.blur),
        speaker_balance=recipe.data.speaker_balance, cache_bytes=recipe.data.cache_gb * 2**30, seed=recipe.seed,
    )  # fmt: skip


@dataclass(frozen=True)
class LipLoss:
    """What each frame says, where that is known; else only that the words are said one after another (CTC).

    CTC (Graves et al. 2006) sums over all times at which the words may be said; its blank is silence.

    Attributes:
        reader: what reads.
        device: where it runs.
        precision: of the forward pass; the loss is float32.
        corpora: names of several corpora, whose losses are told apart.
    """

    reader: LipReader
    device: torch.device
    precision: torch.dtype
    corpora: Sequence[str] = ()

    def __call__(self, batch: LipBatch, noise_seed: int, part: Part | None = None) -> dict[str, Tensor]:
        """Loss [B], nats a frame, and the share of spoken frames whose word is right [B] (0 where none is known)."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.reader.logits(batch.mouths.to(self.device)).float()
        labels = batch.labels.to(self.device)
        known = labels != UNKNOWN
        by_frame = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=UNKNOWN, reduction="none").sum(1)
        losses = by_frame / known.sum(1).clamp(min=1)
        timeless = ~known.any(1)
        if timeless.any():
            log_probs = F.log_softmax(logits[timeless], dim=2).transpose(0, 1)
            lengths, sentences = batch.lengths.to(self.device)[timeless], batch.sentences.to(self.device)[timeless]
            n_words = torch.full_like(lengths, sentences.shape[1])
            ctc = F.ctc_loss(log_probs, sentences, lengths, n_words, SILENCE, "none", zero_infinity=True)
            losses = losses.masked_scatter(timeless, ctc / lengths)
        spoken = known & (labels != SILENCE)
        right = ((logits.argmax(dim=2) == labels) & spoken).sum(1) / spoken.sum(1).clamp(min=1)
        return {"loss": losses, "accuracy": right} | by_corpus(losses, batch.corpus, self.corpora)


def score_briefly(
    recipe: LipsRecipe, state: State, loss_of: LipLoss, data: Mapping[str, LipSet]
) -> dict[str, float]:
    """Mean loss and accuracy of the EMA weights over a split's clips."""
    batches = {name: each.in_order(CLIPS_AT_ONCE) for name, each in data.items()}
    return brief_scores_of_all(state, loss_of, batches, recipe.data.shares)
