"""Batches of samples from several corpora, each with its share of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)

CORPORA = 3  # after the seed and the step: the stream that a batch's corpora are drawn with; 1 and 2 are dataset.py's


class SampleSet(Protocol[B_co]):
    """The samples of one corpus. Sample i of a batch is the same whichever others are made with it."""

    def batch(self, step: int, size: int, samples: Sequence[int] | None = None) -> B_co: ...


class Mixture(Generic[B]):
    """Batches whose samples come from several corpora: the corpus of each is drawn by the shares.

    A batch follows from the seed and the step alone, as each corpus's batches do: sample i is sample i of a whole batch
    of the corpus that is drawn for it.

    Args:
        sets: the samples of each corpus; their batches are dataclasses with a field `corpus`.
        shares: of the samples, for each corpus; together 1.
        seed: of the draws.
        targets_per_clip: so many samples after one another are of one clip, and so of one corpus.
    """

    def __init__(
        self, sets: Sequence[SampleSet[B]], shares: Sequence[float], *, seed: int, targets_per_clip: int = 1
    ) -> None:
        self.sets, self.shares, self.seed, self.targets_per_clip = sets, shares, seed, targets_per_clip

    def batch(self, step: int, size: int, samples: Sequence[int] | None = None) -> B:
        """The batch of a step, `size` samples, or of these only those with the numbers `samples`."""
        rng = np.random.default_rng([self.seed, step, CORPORA])
        drawn = rng.choice(len(self.sets), size // self.targets_per_clip, p=self.shares)
        numbers = np.array(samples or range(size))
        corpora = drawn[numbers // self.targets_per_clip]
        present: list[int] = np.unique(corpora).tolist()
        batches = [self.sets[corpus].batch(step, size, numbers[corpora == corpus].tolist()) for corpus in present]
        # The batches one after another have the samples in the stable order of their corpora.
        places = torch.from_numpy(np.argsort(np.argsort(corpora, kind="stable")))
        return _with(_joined(batches, places), corpus=torch.from_numpy(corpora))


def mixed(
    sets: Sequence[SampleSet[B]], shares: Sequence[float], *, seed: int, targets_per_clip: int = 1
) -> SampleSet[B]:
    """The mixture of several corpora's samples; those of a single corpus as they are."""
    return sets[0] if len(sets) == 1 else Mixture(sets, shares, seed=seed, targets_per_clip=targets_per_clip)


def _joined(batches: Sequence[B], places: Tensor) -> B:
    """Batches as one; sample i of it lies at places[i] when they stand one after another."""
    joined: dict[str, Any] = {}
    for field in fields(batches[0]):  # type: ignore[arg-type]
        values = [getattr(batch, field.name) for batch in batches]
        if isinstance(values[0], Tensor):
            joined[field.name] = torch.cat(values)[places]
        elif isinstance(values[0], list):
            joined[field.name] = [torch.cat(each)[places] for each in zip(*values, strict=True)]
        else:
            assert values[0] is None, f"{field.name} of batches can't be joined"
    return _with(batches[0], **joined)


def _with(batch: B, **values: Any) -> B:
    """A batch with other values in some of its fields."""
    return replace(batch, **values)  # type: ignore[type-var]
