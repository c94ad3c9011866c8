"""Ancestral sampling (Ho et al. 2020, algorithm 2), respaced (Nichol & Dhariwal 2021, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from dheads_cli.model.diffusion import Schedule
from dheads_cli.protocols import Denoise, Noise
from dheads_components.samplers.grid import checked_steps


class DDPM:
    """x_{t-1} ~ N(mu~(x_t, x_0), var): mu~ of eq. 7 with x_0 clamped to [-1, 1].

    The variance is exp(nu' log beta_t + (1 - nu') log beta~_t) where the model learned it (Nichol & Dhariwal 2021,
    eq. 15), beta~_t where not. No noise at the last step.

    Args:
        steps: steps of the respaced diffusion, each one evaluation of the network; the paper takes a fifth of T.
    """

    def __init__(self, steps: int = 200) -> None:
        self.steps = checked_steps(steps)

    def __call__(self, denoise: Denoise, x_t: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
        """[B, 3, H, W] noised as the schedule's highest step says -> x_0 in [-1, 1]."""
        respaced = schedule.respace(min(self.steps, len(schedule.timesteps)))
        of_x_0, of_x_t = (weights.tolist() for weights in respaced.posterior_mean_weights())
        log_beta, log_posterior = respaced.betas.log().tolist(), respaced.posterior_variance.log().tolist()
        for i in reversed(range(len(respaced.timesteps))):
            model = denoise(x_t, respaced.timesteps[i])
            x_t = of_x_0[i] * model.x_0.clamp(-1, 1) + of_x_t[i] * x_t
            if i > 0:
                nu = torch.zeros(()) if model.nu is None else model.nu
                log_variance = nu * log_beta[i] + (1 - nu) * log_posterior[i]
                x_t = x_t + (0.5 * log_variance).exp() * noise(tuple(x_t.shape))
        return x_t
