"""What every sampler must do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dheads_cli.model.diffusion import Denoised, cosine_schedule

SHAPE = (2, 3, 8, 6)


@dataclass
class _KnownAnswer:
    """A denoiser that always says x_0, and keeps what it was asked."""

    x_0: Tensor
    alphas_cumprod: Tensor
    nu: float | None = None

    def __post_init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, x_t: Tensor, t: int) -> Denoised:
        self.asked.append(t)
        abar = float(self.alphas_cumprod[t])
        eps = (x_t - abar**0.5 * self.x_0) / (1 - abar) ** 0.5
        return Denoised(self.x_0, eps, None if self.nu is None else torch.full_like(x_t, self.nu))


def _sample(sampler: Any, denoise: Any, schedule: Any, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)

    def noise(wanted: tuple[int, ...]) -> Tensor:
        return torch.randn(wanted, generator=generator)

    x_0: Tensor = sampler(denoise, noise(shape), schedule, noise)
    return x_0


def sampler_returns_the_true_x_0(sampler: Any) -> Iterator[str]:
    """A denoiser that knows x_0 gets it back, learned variance or not, on whole, short and respaced schedules."""
    x_0 = torch.rand(SHAPE) * 2 - 1
    for n_timesteps, n_kept, nu in ((1000, 1000, None), (1000, 1000, 0.5), (1000, 25, 0.5), (7, 7, None), (7, 1, None)):
        full = cosine_schedule(n_timesteps)
        denoise = _KnownAnswer(x_0, full.alphas_cumprod, nu)
        found = _sample(sampler, denoise, full.respace(n_kept), SHAPE)
        where = f"on {n_kept} of {n_timesteps} steps{'' if nu is None else ' with a learned variance'}"
        if found.shape != x_0.shape or found.dtype != torch.float32:
            yield f"{where}, it gives {found.dtype} {list(found.shape)} in place of torch.float32 {list(x_0.shape)}"
        elif not torch.allclose(found, x_0, atol=1e-3):
            error = float((found - x_0).abs().max())
            yield f"{where}, a denoiser that knows x_0 does not get it back (largest error {error:.3g})"
        steps = full.respace(n_kept).timesteps
        if any(not isinstance(t, int) or t not in steps for t in denoise.asked):
            yield f"{where}, it asks for steps that the schedule does not have: t is an int of schedule.timesteps"
        elif denoise.asked != sorted(denoise.asked, reverse=True):
            yield f"{where}, it does not go from the highest step down"


def sampler_is_a_function_of_its_noise(sampler: Any) -> Iterator[str]:
    """The same noise gives the same x_0; torch's own generator is not used, and x_t is not written to."""
    schedule = cosine_schedule(1000)

    def denoise(x_t: Tensor, t: int) -> Denoised:  # its answer depends on x_t, as a network's does
        x_0 = (0.7 * x_t).tanh()
        abar = float(schedule.alphas_cumprod[t])
        return Denoised(x_0, (x_t - abar**0.5 * x_0) / (1 - abar) ** 0.5, None)

    before = torch.get_rng_state()
    first, again = (_sample(sampler, denoise, schedule, SHAPE) for _ in range(2))
    if not torch.equal(before, torch.get_rng_state()):
        yield "it draws from torch's global generator; all noise comes from `noise`"
    if not torch.equal(first, again):
        yield "called twice with the same noise, it gives different frames"
    if torch.equal(first, _sample(sampler, denoise, schedule, SHAPE, seed=1)):
        yield "other noise gives the same frames"
    x_t = torch.randn(SHAPE)
    kept = x_t.clone()
    sampler(denoise, x_t, schedule, lambda shape: torch.zeros(shape))
    if not torch.equal(x_t, kept):
        yield "it writes into the x_t it is given"


def sampler_stays_in_range(sampler: Any) -> Iterator[str]:
    """Estimates of x_0 far out of range still give finite frames in [-1, 1]."""
    schedule = cosine_schedule(1000)
    denoise = _KnownAnswer(torch.full(SHAPE, 3.0), schedule.alphas_cumprod)
    found = _sample(sampler, denoise, schedule, SHAPE)
    if not found.isfinite().all() or found.abs().max() > 1 + 1e-4:
        yield f"where the network says 3, frames reach {float(found.abs().max()):.3g}: they must stay in [-1, 1]"


TESTS = (sampler_returns_the_true_x_0, sampler_is_a_function_of_its_noise, sampler_stays_in_range)
