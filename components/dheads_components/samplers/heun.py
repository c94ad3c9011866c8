"""EDM's deterministic sampler (Karras et al. 2022, "Elucidating the design space ...", arXiv 2206.00364)."""

from __future__ import annotations

import torch
from torch import Tensor

from dheads_cli.model.diffusion import Schedule
from dheads_cli.protocols import Denoise, Noise
from dheads_components.samplers.grid import checked_steps, nearest, visiting

SIGMA_MAX, RHO = 80.0, 7.0  # table 1, last column
LONGEST = 4.0  # sigma_s / sigma_t of a step that is still Heun's


class Heun:
    """Heun's method of second order on dx/dsigma = (x - x_0) / sigma (algorithm 1 with sigma(t) = t, s(t) = 1).

    Here x = x_t / sqrt(abar) and sigma = sqrt((1 - abar) / abar) is the noise in it. Algorithm 2 without churn is the
    same. The noise levels are those of eq. 5 with rho = 7, from 80 down to the schedule's lowest, each moved to the
    schedule's nearest step, as appendix C.3 does for models of discrete steps. With x_0 estimated at s and, after
    Euler's step, at t, a step from s to t is

        Euler:  x_t = (sigma_t / sigma_s) x_s + (1 - sigma_t / sigma_s) x_0(s)
        Heun:   this + (sigma_s / sigma_t - 1) (x_0(t) - x_0(s)) / 2

    which is the paper's mean of the two slopes without the difference of large numbers; x_0 is clamped to [-1, 1].

    Where sigma_s is more than 4 sigma_t, the step stays Euler's: not in the paper, which has no such step in its own
    setting (18 levels down to 0.002, the longest ratio is 3.8). Heun's correction overshoots there: with 5 levels it
    is up to 53 times the change of x_0, and ruins the frame. The step that leads to 80 from the top of the cosine
    schedule, at 20,000, is of this kind however many levels there are. It is all but exact, because up there x_0 hardly
    depends on x: for data of spread s its relative error is s^2 / (2 * 80^2), less than 8e-5.

    Args:
        steps: noise levels, 1 + the number of steps. Each of Heun's steps costs two evaluations of the network, each of
            Euler's one, and the highest level one. On the cosine schedule that is `steps` up to 5, 16 for 10 and
            2 steps - 2 from 15 on.
    """

    def __init__(self, steps: int = 18) -> None:
        self.steps = checked_steps(steps)

    def __call__(self, denoise: Denoise, x_t: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
        """[B, 3, H, W] noised as the schedule's highest step says -> x_0 in [-1, 1]."""
        visited = edm_steps(schedule, min(self.steps, len(schedule.timesteps)))
        abars, sigmas = visited.alphas_cumprod.tolist(), noise_to_signal(visited).tolist()
        highest = len(abars) - 1
        x_0 = denoise(x_t, visited.timesteps[highest]).x_0.clamp(-1, 1)
        for i in reversed(range(highest)):  # s is i + 1, t is i
            ratio, alpha = sigmas[i] / sigmas[i + 1], abars[i] ** 0.5
            x_t = ((1 - abars[i]) / (1 - abars[i + 1])) ** 0.5 * x_t + alpha * (1 - ratio) * x_0
            x_0_before, x_0 = x_0, denoise(x_t, visited.timesteps[i]).x_0.clamp(-1, 1)
            if sigmas[i + 1] <= LONGEST * sigmas[i]:
                x_t = x_t + alpha * (1 / ratio - 1) / 2 * (x_0 - x_0_before)
                x_0 = denoise(x_t, visited.timesteps[i]).x_0.clamp(-1, 1)
        return x_0


def noise_to_signal(schedule: Schedule) -> Tensor:
    """EDM's sigma: sqrt((1 - abar) / abar) [N]."""
    return ((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod).sqrt()


def edm_steps(schedule: Schedule, n_steps: int) -> Schedule:
    """The schedule's steps nearest to the noise levels of eq. 5; also its highest step, where that is above 80."""
    if n_steps == 1:
        return schedule.respace(1)
    sigmas = noise_to_signal(schedule)
    highest = len(sigmas) - 1
    n_reached = max(int((sigmas <= SIGMA_MAX).sum()), 1)  # the lowest step is always taken
    above = [highest] if n_reached <= highest else []
    ends = float(sigmas[0]) ** (1 / RHO), min(float(sigmas[highest]), SIGMA_MAX) ** (1 / RHO)
    wanted = torch.linspace(*ends, min(n_steps - len(above), n_reached), dtype=torch.float64) ** RHO
    return visiting(schedule, nearest(sigmas[:n_reached], wanted.tolist()) + above)
