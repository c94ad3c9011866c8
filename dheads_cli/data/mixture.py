"""Training sets of several corpora as one: each sample of a batch comes from a corpus that is drawn by its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dheads_cli.data.batch import Batch
from dheads_cli.data.dataset import TrainingSet
from dheads_cli.errors import DheadsError

CORPORA = 3  # after the seed and the step: the stream that draws the samples' corpora; 1 and 2 are the dataset's own


class Mixture:
    """Batches of several corpora; batch number `step` is a function of the seed and the step alone.

    Each sample's corpus is drawn by itself. The sample is then what that corpus's training set makes of its number, so
    it is the same whichever others are made with it.

    Args:
        sets: one for each corpus, of the same seed, split and way of choosing frames.
        weights: share of the samples that each gives; they are divided by their sum.

    Raises:
        DheadsError: the corpora differ in their frame rate.
    """

    def __init__(self, sets: Sequence[TrainingSet], weights: Sequence[float]) -> None:
        self.sets, self.seed = list(sets), sets[0].seed
        self.shares = np.array(weights, np.float64) / sum(weights)
        self.names = corpus_names([each.corpus.folder for each in sets])
        for other in sets[1:]:
            if other.fps != sets[0].fps:
                raise DheadsError(
                    f"data.path: {other.corpus.folder} has {other.fps:g} frames a second, and "
                    f"{sets[0].corpus.folder} {sets[0].fps:g}: preprocess one again with --set preprocess.fps"
                )

    def batch(self, step: int, size: int, samples: range | None = None) -> Batch:
        """The batch of a step, `size` samples, or of these only those with the numbers `samples`."""
        which = np.random.default_rng([self.seed, step, CORPORA]).choice(len(self.sets), size, p=self.shares)
        numbers = np.array(samples or range(size))
        chosen = [numbers[which[numbers] == index] for index in range(len(self.sets))]
        parts = [
            made.batch(step, size, own.tolist()) for made, own in zip(self.sets, chosen, strict=True) if len(own)
        ]
        order = torch.from_numpy(np.argsort(np.concatenate(chosen)))
        joined = {name: _joined([getattr(part, name) for part in parts], order) for name in BATCH_FIELDS}
        return Batch(**joined, corpus=torch.from_numpy(which[numbers]))


BATCH_FIELDS = [field.name for field in fields(Batch) if field.name != "corpus"]


def corpus_names(folders: Sequence[Path]) -> list[str]:
    """Names of corpora for the log: their folders' names, or their paths where two names are equal."""
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else [folder.as_posix() for folder in folders]


def _joined(values: Sequence[Any], order: Tensor) -> Any:
    """A field of batches that follow one another, as a field of one batch in another order."""
    first = values[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(values))[order]
    return [torch.cat(each)[order] for each in zip(*values, strict=True)]
