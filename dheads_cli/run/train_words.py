"""`dheads train` of a recipe whose task is words: learn to tell spoken words apart. Read from `train_words` down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dheads_cli import console
from dheads_cli.data.clip_choice import Limits, choose_clips
from dheads_cli.data.hearing import Versions
from dheads_cli.data.shards import Corpus
from dheads_cli.data.words import Spoken, WordBatch, WordSet, WordViews, spoken_words
from dheads_cli.errors import DheadsError
from dheads_cli.model.words import Recogniser, build_recogniser
from dheads_cli.recipe_words import WordsRecipe
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.encode_ahead import embedding_caches, encode_ahead, versions_of
from dheads_cli.run.processes import current
from dheads_cli.run.training_files import prepare_run_dir
from dheads_cli.run.training_loop import begin, learn
from dheads_cli.run.training_state import State, begin_or_resume, brief_scores, ema_weights
from dheads_cli.run.word_report import REPORT, make_report, show, write

WORDS_AT_ONCE = 64  # in validation and scoring


def train_words(recipe: WordsRecipe, run_dir: Path, *, device: str = "auto", restart: bool = False) -> dict[str, Any]:
    """Train a word recogniser, from where run_dir left off where it did; at its end, say how many words it gets right.

    A run that is stopped and resumed writes the same bytes as one that was not, as for run/train.py. Called for a run
    that is at its end, it scores that again.

    Args:
        recipe: the recipe.
        run_dir: where recipe.yaml, log.jsonl, TensorBoard events, checkpoints and words.json go.
        device: torch device, or "auto".
        restart: begin anew although run_dir holds a run.

    Returns:
        {"run", "step", "checkpoint"}, the last logged means and, at the end, "words": what words.json holds.

    Raises:
        DheadsError: no usable shards, a run of another recipe is there, or the loss is no longer finite.
    """
    settings = recipe.train
    target, precision = begin(recipe, device)
    corpus = Corpus(Path(recipe.data.path))
    words = words_of(corpus, recipe.data.train_split, recipe.data.limits)
    vocabulary = sorted({spoken.word for spoken in words})
    recogniser = build_recogniser(
        recipe.model, len(vocabulary), target, freeze_audio_encoder=settings.freeze_audio_encoder
    )
    state = begin_or_resume(run_dir, recipe, recogniser, restart, {"vocabulary": vocabulary})
    word_set = partial(make_word_set, recipe, recogniser, corpus, vocabulary)
    data = word_set(words, augmented=True)
    validation = word_set(words_of(corpus, recipe.data.val_split, recipe.data.limits))
    prepare_run_dir(run_dir, recipe, state)
    if state.step == 0:
        (run_dir / REPORT).unlink(missing_ok=True)  # of the run that was here
    encode_ahead(data, (settings.steps - state.step) * settings.batch_size)
    encode_ahead(validation, len(validation.words))
    loss_of = WordLoss(recogniser, target, precision)
    n_parameters = sum(parameter.numel() for parameter in state.parameters.values())
    console.info(
        f"{recipe.name}: {n_parameters / 1e6:.2f} M parameters, {len(words)} words, {len(vocabulary)} different, "
        f"{target} {str(precision).removeprefix('torch.')}, from step {state.step} to {settings.steps} in {run_dir}"
    )
    done = learn(recipe, run_dir, state, data, loss_of, lambda: score_briefly(state, loss_of, validation))
    if state.step < settings.steps or not current().is_first:
        return done
    others = [split for split in corpus.splits if split != recipe.data.train_split]
    held_out = {split: spoken_words(corpus, corpus.clips(split)) for split in others}
    known = set(vocabulary)
    sets = {split: word_set(found) for split, found in held_out.items() if known & {each.word for each in found}}
    taken_for = {split: recognise(state, recogniser, each, target) for split, each in sets.items()}
    report = make_report(state.step, vocabulary, {split: sets[split].labels for split in sets}, taken_for)
    write(run_dir, report)
    show(run_dir, report)
    return {**done, "words": report}


def words_of(corpus: Corpus, split: str, keep: Mapping[str, Limits]) -> list[Spoken]:
    """The words of a split's clips whose measures lie within limits.

    Raises:
        DheadsError: there are none.
    """
    choice = choose_clips(corpus.clips(split), keep, f"{corpus.folder}, split {split!r},")
    if keep:
        console.info(f"split {split}: data.keep leaves {choice}")
    if words := spoken_words(corpus, choice.clips):
        return words
    raise DheadsError(
        f"{corpus.folder}: no clip of the split {split!r} has words with their times (GRID's .align files, read by "
        "`dheads preprocess`), or is of one word (LRW)"
    )


def make_word_set(
    recipe: WordsRecipe,
    recogniser: Recogniser,
    corpus: Corpus,
    vocabulary: list[str],
    words: list[Spoken],
    *,
    augmented: bool = False,
) -> WordSet:
    """The words of one split as the recipe wants them heard; says how many can't be told apart."""
    frozen = recogniser.hears_embeddings
    versions = versions_of(recipe) if augmented else Versions()
    views = WordViews(
        n_frames=recipe.model.n_frames,
        jitter_frames=recipe.train.jitter_frames,
        gain_db=recipe.train.gain_db,
        noise_max=recipe.train.noise_max,
        word_balance=recipe.data.word_balance,
    )
    made = WordSet(
        corpus,
        words,
        vocabulary,
        recogniser.audio_encoder,
        frozen=frozen,
        views=views,
        cache_bytes=recipe.data.cache_gb * 2**30,
        seed=recipe.seed,
        versions=versions,
        caches=embedding_caches(recipe, recogniser.audio_encoder, versions, corpus.folder) if frozen else (),
    )
    if made.n_unknown:
        console.warn(f"{made.n_unknown} words of {words[0].ref.split} are none of those trained on: left out")
    return made


@dataclass(frozen=True)
class WordLoss:
    """Cross entropy of a batch, and which words are right.

    Attributes:
        recogniser: what hears them.
        device: where it runs.
        precision: of the forward pass; the loss is float32.
    """

    recogniser: Recogniser
    device: torch.device
    precision: torch.dtype

    def __call__(self, batch: WordBatch, noise_seed: int, part: Part | None = None) -> dict[str, Tensor]:
        """Loss [B], nats, and accuracy [B], 0 or 1; nothing is drawn."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.recogniser.logits(batch.sound.to(self.device)).float()
        labels = batch.labels.to(self.device)
        loss = F.cross_entropy(logits, labels, reduction="none")
        return {"loss": loss, "accuracy": (logits.argmax(dim=1) == labels).float()}


def score_briefly(state: State, loss_of: WordLoss, data: WordSet) -> dict[str, float]:
    """Mean loss and accuracy of the EMA weights over all words of a split, each in its sample's middle."""
    return brief_scores(state, loss_of, data.in_order(WORDS_AT_ONCE))


@torch.no_grad()
def recognise(state: State, recogniser: Recogniser, data: WordSet, device: torch.device) -> list[int]:
    """What the EMA weights take each word for: places in the vocabulary, in the order of the set."""
    with ema_weights(state):
        logits = [recogniser.logits(batch.sound.to(device)) for batch in data.in_order(WORDS_AT_ONCE)]
    return [int(label) for label in torch.cat(logits).argmax(dim=1)]
