"""Parts of a batch: what one process takes of it, and what is computed at a time of that (gradient accumulation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

B = TypeVar("B")
Draw: TypeAlias = Callable[[tuple[int, ...]], Tensor]  # of a shape


@dataclass(frozen=True)
class Part:
    """Samples first ... first + n - 1 of a batch of `whole` samples."""

    first: int
    n: int
    whole: int

    def of(self, values: Tensor) -> Tensor:
        """This part of something that the whole batch has: [whole, ...] -> [n, ...]."""
        assert len(values) == self.whole
        return values[self.first : self.first + self.n]

    def randn(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Standard normal noise of this part's shape [n, ...], cut from that of the whole batch.

        Each sample's noise is thus the same, however many processes and parts a batch is spread over.
        """
        assert shape[0] == self.n
        return self.of(torch.randn((self.whole, *shape[1:]), generator=generator))

    def uniform(self, generator: torch.Generator) -> Draw:
        """Uniform draws in [0, 1) of a shape [n, ...], cut from those of the whole batch likewise."""

        def draw(shape: tuple[int, ...]) -> Tensor:
            assert shape[0] == self.n
            return self.of(torch.rand((self.whole, *shape[1:]), generator=generator))

        return draw

    @property
    def samples(self) -> range:
        """The numbers of its samples in the whole batch."""
        return range(self.first, self.first + self.n)

    def within(self, other: Part) -> Part:
        """This part as a part of another one that holds it."""
        assert other.first <= self.first
        assert self.first + self.n <= other.first + other.n
        return Part(self.first - other.first, self.n, other.n)

    def split(self, n_parts: int) -> list[Part]:
        """This part in n_parts of the same size, which must divide it."""
        size = self.n // n_parts
        assert size * n_parts == self.n
        return [Part(self.first + i * size, size, self.whole) for i in range(n_parts)]


def cut(batch: B, part: Part) -> B:
    """A part of a whole batch: a dataclass of tensors [whole, ...], lists of them, and None.

    A batch that is the part already is given back as it is.
    """
    return batch if part.n == part.whole else replace(batch, **dict(_cut_fields(batch, part)))  # type: ignore[type-var]


def _cut_fields(batch: Any, part: Part) -> Iterator[tuple[str, Any]]:
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            yield field.name, part.of(value)
        elif isinstance(value, list):
            yield field.name, [part.of(each) for each in value]
        else:
            assert value is None, f"{field.name} of a batch can't be cut"
