"""Denoising diffusion implicit models (Song, Meng, Ermon 2021)."""

from __future__ import annotations

from torch import Tensor

from dheads_cli.model.diffusion import Schedule
from dheads_cli.protocols import Denoise, Noise
from dheads_components.samplers.grid import checked_steps


class DDIM:
    """x_{t-1} = sqrt(abar_{t-1}) x_0 + sqrt(1 - abar_{t-1} - sigma^2) eps + sigma z (eq. 12), x_0 clamped to [-1, 1].

    Args:
        steps: steps of the respaced diffusion, each one evaluation of the network.
        eta: sigma as a share of the ancestral sampler's (eq. 16): 0 is deterministic, 1 is DDPM with variance beta~.
    """

    def __init__(self, steps: int = 50, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be from 0 to 1, not {eta}")
        self.steps, self.eta = checked_steps(steps), eta

    def __call__(self, denoise: Denoise, x_t: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
        """[B, 3, H, W] noised as the schedule's highest step says -> x_0 in [-1, 1]."""
        respaced = schedule.respace(min(self.steps, len(schedule.timesteps)))
        abars, abars_prev = respaced.alphas_cumprod.tolist(), respaced.alphas_cumprod_prev.tolist()
        for i in reversed(range(len(respaced.timesteps))):
            abar, prev = abars[i], abars_prev[i]
            x_0 = denoise(x_t, respaced.timesteps[i]).x_0.clamp(-1, 1)
            eps = (x_t - abar**0.5 * x_0) / (1 - abar) ** 0.5
            sigma = self.eta * ((1 - prev) / (1 - abar) * (1 - abar / prev)) ** 0.5
            x_t = prev**0.5 * x_0 + max(1 - prev - sigma**2, 0.0) ** 0.5 * eps
            if sigma > 0:
                x_t = x_t + sigma * noise(tuple(x_t.shape))
        return x_t
