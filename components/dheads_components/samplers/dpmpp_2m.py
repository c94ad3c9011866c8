"""DPM-Solver++(2M) (Lu, Zhou, Bao et al. 2022, "DPM-Solver++", arXiv 2211.01095)."""

from __future__ import annotations

import math

from torch import Tensor

from dheads_cli.model.diffusion import Schedule
from dheads_cli.protocols import Denoise, Noise
from dheads_components.samplers.grid import checked_steps, half_log_snr, spread


class DPMpp2M:
    """The multistep solver of second order for the probability flow in terms of x_0 (algorithm 2). Deterministic.

    With alpha = sqrt(abar), sigma = sqrt(1 - abar), lambda = log(alpha / sigma), a step from s to t of length
    h = lambda_t - lambda_s, the step before it of length r h, is

        x_t = (sigma_t / sigma_s) x_s + alpha_t (1 - exp(-h)) D,    D = (1 + 1 / 2r) x_0(s) - (1 / 2r) x_0(before s),

    each x_0 clamped to [-1, 1]. The first step has D = x_0(s), which makes it DDIM's. The steps are those of
    `grid.spread`; the paper takes them evenly in lambda or in t.

    Args:
        steps: noise levels, each one evaluation of the network.
    """

    def __init__(self, steps: int = 10) -> None:
        self.steps = checked_steps(steps)

    def __call__(self, denoise: Denoise, x_t: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
        """[B, 3, H, W] noised as the schedule's highest step says -> x_0 in [-1, 1]."""
        visited = spread(schedule, min(self.steps, len(schedule.timesteps)))
        abars, lambdas = visited.alphas_cumprod.tolist(), half_log_snr(visited).tolist()
        highest = len(abars) - 1
        x_0 = x_0_before = denoise(x_t, visited.timesteps[highest]).x_0.clamp(-1, 1)
        for i in reversed(range(highest)):  # s is i + 1, t is i
            h = lambdas[i] - lambdas[i + 1]
            half_inverse_r = h / (lambdas[i + 1] - lambdas[i + 2]) / 2 if i + 2 <= highest else 0.0
            extrapolated = x_0 + half_inverse_r * (x_0 - x_0_before)
            shrink = ((1 - abars[i]) / (1 - abars[i + 1])) ** 0.5
            x_t = shrink * x_t - abars[i] ** 0.5 * math.expm1(-h) * extrapolated
            x_0_before, x_0 = x_0, denoise(x_t, visited.timesteps[i]).x_0.clamp(-1, 1)
        return x_0
