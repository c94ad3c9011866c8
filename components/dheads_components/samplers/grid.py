"""Which steps of a schedule a sampler visits, for those that don't take them evenly (`Schedule.respace`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dheads_cli.model.diffusion import Schedule

SNR_SHARE = 3.0  # of `spread`


def checked_steps(steps: int) -> int:
    """`steps` itself.

    Raises:
        ValueError: it is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    return steps


def half_log_snr(schedule: Schedule) -> Tensor:
    """lambda = log(alpha / sigma) with alpha = sqrt(abar), sigma = sqrt(1 - abar) [N]; no less than -20: all noise."""
    return (schedule.alphas_cumprod.logit() / 2).clamp(min=-20)


def spread(schedule: Schedule, n_steps: int) -> Schedule:
    """The n_steps steps nearest to even distances in log(1 + 3 alpha / sigma), first and last among them.

    A multistep solver goes wrong where a step is far longer than the one before, from which it extrapolates, and even
    distances in t are that: of 10 steps on the cosine schedule, the last one to the lowest is 3.4 long in lambda, the
    one before 0.7. There, at low noise, DPM-Solver's even distances in lambda are right, and so are these. But at high
    noise the estimate of x_0 changes with alpha, and lambda has no end: on the cosine schedule, half of the steps would
    lie where noise is 10 times the signal and more. There these are even in alpha / sigma. docs/SAMPLERS.md compares
    the three; 3 was best among 1, 3, 10, 30 and 100 over Gaussian data of spread 0.05 to 0.5.
    """
    if n_steps == 1:
        return schedule.respace(1)
    place = torch.log1p(SNR_SHARE * half_log_snr(schedule).exp())
    wanted = torch.linspace(float(place[0]), float(place[-1]), n_steps, dtype=torch.float64)
    return visiting(schedule, nearest(place, wanted.tolist()))


def nearest(values: Tensor, wanted: Sequence[float]) -> list[int]:
    """Rising indices, all different, of the values that are nearest to the wanted ones; no more than there are values.

    Args:
        values: rising or falling [N].
        wanted: in the same order.
    """
    found: list[int] = []
    for value in wanted:
        found.append(max(int((values - value).abs().argmin()), found[-1] + 1 if found else 0))
    room = len(values) - len(found)
    return [min(index, room + k) for k, index in enumerate(found)]


def visiting(schedule: Schedule, kept: Sequence[int]) -> Schedule:
    """The schedule of a diffusion that visits only these entries, which rise."""
    timesteps = tuple(schedule.timesteps[i] for i in kept)
    return Schedule(schedule.alphas_cumprod[list(kept)], timesteps, schedule.n_timesteps)
