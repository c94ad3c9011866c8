"""Which steps t of the diffusion a batch is trained at: a function of a generator, and of a state where there is one.

All keep the objective, the mean over uniform t: what is drawn more often weighs less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

N_BINS = 50  # stretches of steps whose losses are followed together
MEMORY = 100  # losses of a bin that its running mean goes over
MIN_SEEN = 10  # losses of every bin before they decide anything (Nichol & Dhariwal 2021, section 3.3: as many a step)
UNIFORM_SHARE = 0.1  # of the draws that the losses do not decide: no weight exceeds its inverse


class Timesteps(Protocol):
    """How the steps of a batch are drawn.

    Attributes:
        n_timesteps: T.
        state: what `observe` changes in place; a resumed run needs it. Empty where nothing is learned.
    """

    n_timesteps: int
    state: dict[str, Tensor]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps t, int64 [n] in 0 ... T - 1, and the weights of their losses, float32 [n] of mean 1; on the CPU.

        All of a batch is drawn at once, wherever its parts are computed.
        """
        ...

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Learn from the losses [n], without weights, that a batch had at its steps [n]."""
        ...


class Uniform:
    """Each step drawn by itself (Ho et al. 2020, algorithm 1)."""

    def __init__(self, n_timesteps: int) -> None:
        self.n_timesteps = n_timesteps
        self.state: dict[str, Tensor] = {}

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randint(self.n_timesteps, (n,), generator=generator), torch.ones(n)

    def observe(self, t: Tensor, losses: Tensor) -> None:
        pass


class Stratified(Uniform):
    """The batch's steps spread evenly over 0 ... T - 1 from one random offset, in random order.

    Each sample's step is uniform; the batch has them from everywhere (Kingma et al. 2021, Variational Diffusion Models,
    appendix I.1).
    """

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        even = torch.full((self.n_timesteps,), 1 / self.n_timesteps, dtype=torch.float64)
        return spread(even, n, generator), torch.ones(n)


class LossAware:
    """Steps in proportion to the root of their running mean squared loss, spread as Stratified spreads them.

    That share makes the variance of the loss least (Nichol & Dhariwal 2021, section 3.3, eq. 18). Here the means are
    those of bins of steps, and a share of the draws stays uniform.
    """

    def __init__(self, n_timesteps: int) -> None:
        self.n_timesteps = n_timesteps
        self.n_bins = min(N_BINS, n_timesteps)
        self.bins = torch.arange(n_timesteps) * self.n_bins // n_timesteps  # [T]
        self.state: dict[str, Tensor] = {
            "mean_square": torch.zeros(self.n_bins, dtype=torch.float64),
            "n_seen": torch.zeros(self.n_bins, dtype=torch.int64),
        }

    def probabilities(self) -> Tensor:
        """Of each step, float64 [T]; even until every bin has been seen often enough."""
        even = torch.full((self.n_timesteps,), 1 / self.n_timesteps, dtype=torch.float64)
        if (self.state["n_seen"] < MIN_SEEN).any():
            return even
        root = self.state["mean_square"].sqrt()[self.bins]
        return UNIFORM_SHARE * even + (1 - UNIFORM_SHARE) * root / root.sum()

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        probabilities = self.probabilities()
        t = spread(probabilities, n, generator)
        return t, (1 / (self.n_timesteps * probabilities[t])).float()

    def observe(self, t: Tensor, losses: Tensor) -> None:
        t, losses = t.cpu(), losses.cpu()
        t, losses = t[losses.isfinite()], losses[losses.isfinite()]  # a step with any other is left out of training
        bins = self.bins[t]
        counts = torch.bincount(bins, minlength=self.n_bins)
        squares = torch.bincount(bins, losses.double() ** 2, minlength=self.n_bins).double() / counts.clamp(min=1)
        first = counts / (self.state["n_seen"] + counts).clamp(min=1)  # a plain mean, until MEMORY losses are in it
        rate = torch.maximum(first, 1 - (1 - 1 / MEMORY) ** counts.double())
        self.state["mean_square"].lerp_(squares, rate)
        self.state["n_seen"] += counts


# By name, each made for T steps.
TIMESTEPS: dict[str, Callable[[int], Timesteps]] = {
    "uniform": Uniform, "stratified": Stratified, "loss_aware": LossAware,
}  # fmt: skip


def spread(probabilities: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n steps of these probabilities [T], drawn at even distances of their running sum, in random order: int64 [n].

    A step of probability p is drawn n p times, rounded down or up (systematic sampling).
    """
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    places = (torch.arange(n, dtype=torch.float64) + offset) / n
    t = torch.searchsorted(probabilities.cumsum(0), places, right=True).clamp(max=len(probabilities) - 1)
    return t[torch.randperm(n, generator=generator)]
