"""What every sampler must do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dheads_cli.model.diffusion import Denoised, Schedule, cosine_schedule

SHAPE = (2, 3, 8, 6)


@dataclass
class _KnownAnswer:
    """A denoiser that always says x_0, and keeps what it was asked.

    Attributes:
        x_0: its answer.
        abars: abar by step.
        nu: the learned variance, where there is one.
        asked: the steps it was asked about.
        noise: the standard deviation of eps in x_t there, 1 where x_t is noised as the step says.
        strangers: what it was asked about that is no step.
    """

    x_0: Tensor
    abars: Mapping[int, float]
    nu: float | None = None
    asked: list[int] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    strangers: list[Any] = field(default_factory=list)

    def __call__(self, x_t: Tensor, t: int) -> Denoised:
        if not isinstance(t, int) or t not in self.abars:
            self.strangers.append(t)
            t = min(self.abars, key=lambda step: abs(step - int(t)))
        abar = self.abars[t]
        eps = (x_t - abar**0.5 * self.x_0) / (1 - abar) ** 0.5
        self.asked.append(t)
        self.noise.append(float(eps.std()))
        return Denoised(self.x_0, eps, None if self.nu is None else torch.full_like(x_t, self.nu))


def _sample(sampler: Any, denoise: Any, schedule: Schedule, signal: Tensor, seed: int = 0) -> Tensor:
    """Begin with the signal, sqrt(abar) of a frame, plus noise as at the schedule's highest step."""
    generator = torch.Generator().manual_seed(seed)

    def noise(wanted: tuple[int, ...]) -> Tensor:
        return torch.randn(wanted, generator=generator)

    sigma = (1 - float(schedule.alphas_cumprod[-1])) ** 0.5
    x_0: Tensor = sampler(denoise, signal + sigma * noise(tuple(signal.shape)), schedule, noise)
    return x_0


def _schedules() -> Iterator[tuple[str, Schedule]]:
    """Whole, short and respaced schedules, one that ends in noise alone, and lower parts: for x_t that is no noise."""
    full = cosine_schedule(1000)
    yield "on 1000 of 1000 steps", full
    yield "on 25 of 1000 steps", full.respace(25)
    for n_kept in range(1, 8):
        yield f"on {n_kept} of 7 steps", cosine_schedule(7).respace(n_kept)
    abars = torch.linspace(0.99, 0, 20, dtype=torch.float64)
    yield "on a schedule that ends in nothing but noise", Schedule(abars, tuple(range(20)), 20)
    for n_kept in (1, 2, 40, 500):
        lower = Schedule(full.alphas_cumprod[:n_kept], full.timesteps[:n_kept], 1000)
        yield f"on the lowest {n_kept} of 1000 steps", lower


def _abars(schedule: Schedule) -> dict[int, float]:
    return dict(zip(schedule.timesteps, schedule.alphas_cumprod.tolist(), strict=True))


def sampler_returns_the_true_x_0(sampler: Any) -> Iterator[str]:
    """A denoiser that knows x_0 gets it back, learned variance or not, from whatever x_t the sampler begins with."""
    generator = torch.Generator().manual_seed(0)
    x_0, other = torch.rand(2, *SHAPE, generator=generator) * 2 - 1
    faults: dict[str, str] = {}  # each kind of fault once, with the first schedule that shows it
    for (place, schedule), nu in itertools.product(_schedules(), (None, 0.5)):
        abar = float(schedule.alphas_cumprod[-1])
        denoise = _KnownAnswer(x_0, _abars(schedule), nu)
        found = _sample(sampler, denoise, schedule, abar**0.5 * other)
        where = f"{place}{'' if nu is None else ' with a learned variance'}"
        if found.shape != x_0.shape or found.dtype != torch.float32:
            what = f"it gives {found.dtype} {list(found.shape)} in place of torch.float32 {list(x_0.shape)}"
            faults.setdefault("form", f"{where}, {what}")
        elif not torch.allclose(found, x_0, atol=1e-3):
            error = float((found - x_0).abs().max())
            what = f"a denoiser that knows x_0 does not get it back (largest error {error:.3g})"
            faults.setdefault("value", f"{where}, {what}")
        if denoise.strangers:
            what = "it asks for steps that the schedule does not have: t is an int of schedule.timesteps"
            faults.setdefault("steps", f"{where}, {what}")
        elif denoise.asked != sorted(denoise.asked, reverse=True):
            faults.setdefault("order", f"{where}, it does not go from the highest step down")
    yield from faults.values()


def sampler_keeps_the_noise_of_each_step(sampler: Any) -> Iterator[str]:
    """Begun with x_t noised as the schedule's highest step says, it asks only about x_t noised as their t says."""
    x_0 = torch.rand((2, 3, 32, 24), generator=torch.Generator().manual_seed(0)) * 2 - 1
    for place, schedule in _schedules():
        denoise = _KnownAnswer(x_0, _abars(schedule))
        _sample(sampler, denoise, schedule, float(schedule.alphas_cumprod[-1]) ** 0.5 * x_0)
        for t, level in zip(denoise.asked, denoise.noise, strict=True):
            if not abs(level - 1) <= 0.1:  # NaN too
                yield f"{place}, it asks about x_t at t = {t} with {level:.2f} times the noise that belongs there"
                return


def sampler_is_a_function_of_its_noise(sampler: Any) -> Iterator[str]:
    """The same noise gives the same x_0; torch's own generator is not used, and x_t is not written to."""
    schedule = cosine_schedule(1000)

    def denoise(x_t: Tensor, t: int) -> Denoised:  # its answer depends on x_t, as a network's does
        x_0 = (0.7 * x_t).tanh()
        abar = float(schedule.alphas_cumprod[t])
        return Denoised(x_0, (x_t - abar**0.5 * x_0) / (1 - abar) ** 0.5, None)

    before = torch.get_rng_state()
    first, again = (_sample(sampler, denoise, schedule, torch.zeros(SHAPE)) for _ in range(2))
    if not torch.equal(before, torch.get_rng_state()):
        yield "it draws from torch's global generator; all noise comes from `noise`"
    if not torch.equal(first, again):
        yield "called twice with the same noise, it gives different frames"
    if torch.equal(first, _sample(sampler, denoise, schedule, torch.zeros(SHAPE), seed=1)):
        yield "other noise gives the same frames"
    x_t = torch.randn(SHAPE)
    kept = x_t.clone()
    sampler(denoise, x_t, schedule, lambda shape: torch.zeros(shape))
    if not torch.equal(x_t, kept):
        yield "it writes into the x_t it is given"


def sampler_stays_in_range(sampler: Any) -> Iterator[str]:
    """Estimates of x_0 far out of range still give finite frames in [-1, 1]."""
    schedule = cosine_schedule(1000)
    denoise = _KnownAnswer(torch.full(SHAPE, 3.0), _abars(schedule))
    found = _sample(sampler, denoise, schedule, torch.zeros(SHAPE))
    if not found.isfinite().all() or found.abs().max() > 1 + 1e-4:
        yield f"where the network says 3, frames reach {float(found.abs().max()):.3g}: they must stay in [-1, 1]"


TESTS = (
    sampler_returns_the_true_x_0,
    sampler_keeps_the_noise_of_each_step,
    sampler_is_a_function_of_its_noise,
    sampler_stays_in_range,
)
