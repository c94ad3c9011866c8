"""Diffusions whose exact answer is known; `python tests/analytic.py` prints the tables of docs/SAMPLERS.md.

Gaussian data: x_0 ~ N(MEAN, STD^2), so far inside [-1, 1] that clamping the estimates does not matter. The probability
flow keeps z in x_t = sqrt(abar_t) MEAN + sqrt(abar_t STD^2 + 1 - abar_t) z, so it leads to x_0 = MEAN + STD z.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dheads_cli import registry
from dheads_cli.model.diffusion import Denoised, Schedule, cosine_schedule
from dheads_components.samplers.grid import half_log_snr, nearest, visiting
from dheads_components.samplers.heun import edm_steps, noise_to_signal

MEAN, STD = 0.1, 0.2
COUNTS = (5, 10, 25, 100)
ODE_SAMPLERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ddim", {}),
    ("dpmpp_2m", {}),
    ("unipc", {"order": 1}),
    ("unipc", {"order": 2}),
    ("unipc", {"order": 3}),
    ("heun", {}),
)


def linear_schedule(n_timesteps: int) -> Schedule:
    """beta from 1e-4 to 0.02 (Ho et al. 2020, section 4) at T = 1000, as much noise in all at another T."""
    betas = torch.linspace(1e-4, 0.02, n_timesteps, dtype=torch.float64) * 1000 / n_timesteps
    return Schedule(torch.cumprod(1 - betas, 0), tuple(range(n_timesteps)), n_timesteps)


SCHEDULES: dict[str, Callable[[int], Schedule]] = {"cosine": cosine_schedule, "linear": linear_schedule}


class Exact:
    """A denoiser that gives E[x_0 | x_t] by a formula, and keeps the steps it was asked about."""

    def __init__(self, schedule: Schedule, estimate: Callable[[Tensor, float], Tensor]) -> None:
        self.abars = dict(zip(schedule.timesteps, schedule.alphas_cumprod.tolist(), strict=True))
        self.estimate = estimate
        self.asked: list[int] = []

    def __call__(self, x_t: Tensor, t: int) -> Denoised:
        self.asked.append(t)
        abar = self.abars[t]
        x_0 = self.estimate(x_t, abar)
        return Denoised(x_0, (x_t - abar**0.5 * x_0) / (1 - abar) ** 0.5, None)


def gaussian(x_t: Tensor, abar: float) -> Tensor:
    """E[x_0 | x_t] of Gaussian data."""
    return MEAN + abar**0.5 * STD**2 / (abar * STD**2 + 1 - abar) * (x_t - abar**0.5 * MEAN)


def two_points(x_t: Tensor, abar: float) -> Tensor:
    """E[x_0 | x_t] of data that is 0.5 or -0.5, each half of the time."""
    return 0.5 * torch.tanh(0.5 * abar**0.5 * x_t / (1 - abar))


def on_the_flow(abar: float, z: float) -> float:
    """x_t of Gaussian data."""
    return abar**0.5 * MEAN + (abar * STD**2 + 1 - abar) ** 0.5 * z


def no_noise(shape: tuple[int, ...]) -> Tensor:
    """The noise of a sampler that draws none."""
    raise AssertionError("noise was drawn")


def flow_error(sampler: Any, schedule: Schedule, last_estimate: bool = False) -> tuple[float, int]:
    """Distance to the exact answer in units of the data's spread, and the evaluations it took.

    All of it is linear in z and exact at z = 0, so the distance at z = 1 is the root mean square over all z.

    Args:
        sampler: a deterministic sampler.
        schedule: where it runs; it begins on the flow.
        last_estimate: compare with E[x_0 | x_t] at the schedule's lowest step, the nearest that any sampler can come
            there, in place of x_0.
    """
    x_t = torch.full((1, 3, 1, 1), on_the_flow(float(schedule.alphas_cumprod[-1]), 1), dtype=torch.float64)
    denoise = Exact(schedule, gaussian)
    found = sampler(denoise, x_t, schedule, no_noise)
    lowest = float(schedule.alphas_cumprod[0])
    x_lowest = torch.tensor(on_the_flow(lowest, 1), dtype=torch.float64)
    exact = gaussian(x_lowest, lowest) if last_estimate else MEAN + STD
    return float((found - exact).abs().max()) / STD, len(denoise.asked)


def build(name: str, options: dict[str, Any], n_evaluations: int, schedule: Schedule) -> Any:
    """The sampler that takes so many evaluations there; of `heun`, whose steps cost one or two, perhaps one less."""
    steps = n_evaluations
    if name == "heun":
        while heun_evaluations(schedule, steps) > n_evaluations:
            steps -= 1
    return registry.build("samplers", name, {**options, "steps": steps})


def heun_evaluations(schedule: Schedule, steps: int) -> int:
    """One for the highest of the noise levels, then one for each of Euler's steps and two for each of Heun's."""
    sigmas = noise_to_signal(edm_steps(schedule, steps)).tolist()
    return 1 + sum(2 if above <= 4 * below else 1 for below, above in itertools.pairwise(sigmas))


def convergence_order(name: str, options: dict[str, Any], schedule: Schedule) -> float:
    """Slope of log error over -log evaluations: of the line through the errors at three counts (least squares).

    Those of `heun` are twice the others', for its steps are all Heun's only from there on.
    """
    counts = (40, 80, 160) if name == "heun" else (20, 40, 80)
    errors = [flow_error(build(name, options, n, schedule), schedule, last_estimate=True)[0] for n in counts]
    x = torch.tensor(counts, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    return -float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def label(name: str, options: dict[str, Any]) -> str:
    """A sampler as a recipe names it."""
    return f"`{name}`" + "".join(f", {key} {value}" for key, value in options.items())


def by_count() -> list[str]:
    """Heads of the columns that hold schedules and numbers of evaluations."""
    return ["", *(f"{schedule}, {n}" for schedule in SCHEDULES for n in COUNTS)]


def distances() -> str:
    """Table: distance to the exact answer by sampler and evaluations."""
    rows = []
    for name, options in ODE_SAMPLERS:
        row = [label(name, options)]
        for make, n in itertools.product(SCHEDULES.values(), COUNTS):
            error, asked = flow_error(build(name, options, n, make(1000)), make(1000))
            row.append(f"{error:.2%}" + (f" ({asked})" if asked != n else ""))
        rows.append(row)
    return table(by_count(), rows)


def grids() -> str:
    """Table: distance to the exact answer of dpmpp_2m by the grid it takes its steps from."""
    places: dict[str, Callable[[Schedule], Tensor]] = {
        "t": lambda schedule: torch.tensor(schedule.timesteps, dtype=torch.float64),
        "lambda": half_log_snr,
        "log(1 + 3 exp(lambda))": lambda schedule: torch.log1p(3 * half_log_snr(schedule).exp()),
    }
    rows = []
    for name, place in places.items():
        row = [name]
        for make, n in itertools.product(SCHEDULES.values(), COUNTS):
            at = place(make(1000))
            wanted = torch.linspace(float(at[0]), float(at[-1]), n, dtype=torch.float64).tolist()
            schedule = visiting(make(1000), nearest(at, wanted))
            error, _ = flow_error(build("dpmpp_2m", {}, n, schedule), schedule)
            row.append(f"{error:.2%}")
        rows.append(row)
    return table(by_count(), rows)


def orders() -> str:
    """Table: orders of convergence."""
    rows = []
    for name, options in ODE_SAMPLERS:
        measured = (convergence_order(name, options, make(20_000)) for make in SCHEDULES.values())
        rows.append([label(name, options), *(f"{order:.2f}" for order in measured)])
    return table(["", *SCHEDULES], rows)


if __name__ == "__main__":
    print(distances(), grids(), orders(), sep="\n\n")
