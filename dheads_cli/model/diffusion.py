"""Gaussian diffusion: the float64 schedule, what the network's output means, and the training objective.

Notation is that of Ho et al. 2020 and Nichol & Dhariwal 2021: q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LN2 = math.log(2.0)


@dataclass(frozen=True)
class Schedule:
    """The tables of a diffusion, float64 on the CPU, one entry for each step it takes.

    Attributes:
        alphas_cumprod: abar [N].
        timesteps: the original step, 0 ... n_timesteps - 1, that each entry stands for (the network is given these).
        n_timesteps: T of the full diffusion.
    """

    alphas_cumprod: Tensor
    timesteps: tuple[int, ...]
    n_timesteps: int

    @property
    def alphas_cumprod_prev(self) -> Tensor:
        """abar of the step before, 1 before the first [N]."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])

    @property
    def betas(self) -> Tensor:
        """beta_t = 1 - abar_t / abar_{t-1} [N]."""
        return 1 - self.alphas_cumprod / self.alphas_cumprod_prev

    @property
    def posterior_variance(self) -> Tensor:
        """beta~_t, the variance of q(x_{t-1} | x_t, x_0) [N]; beta~_0, which is 0, is replaced by beta~_1."""
        variance = self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        if len(variance) == 1:  # one step: there is no beta~_1, and no noise is ever drawn with it
            return self.betas
        return torch.cat([variance[1:2], variance[1:]])

    def posterior_mean_weights(self) -> tuple[Tensor, Tensor]:
        """Weights of x_0 and of x_t in the mean of q(x_{t-1} | x_t, x_0), each [N] (Ho et al. 2020, eq. 7)."""
        abar, prev, betas = self.alphas_cumprod, self.alphas_cumprod_prev, self.betas
        return prev.sqrt() * betas / (1 - abar), (1 - betas).sqrt() * (1 - prev) / (1 - abar)

    def respace(self, n_steps: int) -> Schedule:
        """The schedule of a diffusion that visits only n_steps of these steps, first and last among them.

        Steps are Python's round of a running sum of (T - 1) / (n_steps - 1); one step visits the last alone.

        Raises:
            ValueError: n_steps is not in 1 ... len(timesteps).
        """
        n_all = len(self.timesteps)
        if not 1 <= n_steps <= n_all:
            raise ValueError(f"steps must be from 1 to {n_all}, not {n_steps}")
        kept = [n_all - 1]
        if n_steps > 1:
            stride, position, kept = (n_all - 1) / (n_steps - 1), 0.0, []
            for _ in range(n_steps):
                kept.append(min(round(position), n_all - 1))
                position += stride
        return Schedule(self.alphas_cumprod[kept], tuple(self.timesteps[i] for i in kept), self.n_timesteps)


def cosine_schedule(n_timesteps: int, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """The cosine schedule (Nichol & Dhariwal 2021, eq. 17), beta clipped to max_beta."""

    def f(u: float) -> float:
        return math.cos((u + s) / (1 + s) * math.pi / 2) ** 2

    betas = [min(1 - f((i + 1) / n_timesteps) / f(i / n_timesteps), max_beta) for i in range(n_timesteps)]
    alphas_cumprod = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)
    return Schedule(alphas_cumprod, tuple(range(n_timesteps)), n_timesteps)


def at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Entries t [B] of a float64 table, as [B, 1, 1, 1] in the dtype and on the device of `like`."""
    return table[t.cpu()].to(like.device, like.dtype).view(-1, 1, 1, 1)


def q_sample(schedule: Schedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps; all [B, C, H, W], t int64 [B]."""
    abar = schedule.alphas_cumprod
    return at(abar.sqrt(), t, x_0) * x_0 + at((1 - abar).sqrt(), t, x_0) * eps


@dataclass(frozen=True)
class Denoised:
    """The model's view of x_t.

    Attributes:
        x_0: estimate of the clean frame [B, 3, H, W], not clamped.
        eps: the noise that goes with it [B, 3, H, W].
        nu: where the variance is learned, nu' in log var = nu' log beta_t + (1 - nu') log beta~_t; else None.
    """

    x_0: Tensor
    eps: Tensor
    nu: Tensor | None


def denoised_from_eps(output: Tensor, x_t: Tensor, abar: Tensor, identity: Tensor) -> Denoised:
    """The paper's: the first three channels of the output are eps."""
    eps, nu = split_output(output)
    return Denoised((x_t - (1 - abar).sqrt() * eps) / abar.sqrt(), eps, nu)


def denoised_from_identity_residual(output: Tensor, x_t: Tensor, abar: Tensor, identity: Tensor) -> Denoised:
    """x_0 = identity frame + output. Not in the paper: learns to speak in far fewer samples (docs/TRAINING.md)."""
    residual, nu = split_output(output)
    x_0 = identity + residual
    return Denoised(x_0, (x_t - abar.sqrt() * x_0) / (1 - abar).sqrt(), nu)


def split_output(output: Tensor) -> tuple[Tensor, Tensor | None]:
    """[B, 3 or 6, H, W] -> float32 prediction [B, 3, H, W] and nu' = (nu + 1) / 2 or None; nu' is not clamped."""
    prediction, nu = output[:, :3].float(), output[:, 3:].float()
    return prediction, (nu + 1) / 2 if nu.shape[1] else None


Prediction = Callable[[Tensor, Tensor, Tensor, Tensor], Denoised]
PREDICTIONS: dict[str, Prediction] = {
    "eps": denoised_from_eps,
    "identity_residual": denoised_from_identity_residual,
}


@dataclass(frozen=True)
class Objective:
    """How the terms of the loss are weighed: L = L_simple + vlb_weight L_vlb + lip_sync_weight L_ls."""

    prediction: str
    snr_weight_max: float
    vlb_weight: float
    lip_sync_weight: float


def training_losses(
    objective: Objective,
    schedule: Schedule,
    output: Tensor,
    x_0: Tensor,
    x_t: Tensor,
    eps: Tensor,
    t: Tensor,
    identity: Tensor,
    mouth_mask: Tensor,
) -> dict[str, Tensor]:
    """Loss terms, one value for each sample.

    Args:
        objective: the weights.
        schedule: the full schedule (N = T).
        output: the network's output [B, 3 or 6, H, W].
        x_0: target frame [B, 3, H, W] in [-1, 1]; x_t, eps, identity alike.
        x_t: the noised target.
        eps: its noise.
        t: int64 [B].
        identity: identity frame.
        mouth_mask: 1 inside the target frame's mouth box, else 0 [B, 1, H, W]; all 0 where there is no box.

    Returns:
        "loss" and its parts "simple", "lip_sync" and, with a learned variance, "vlb", each [B].
    """
    abar = at(schedule.alphas_cumprod, t, x_0)
    model = PREDICTIONS[objective.prediction](output, x_t, abar, identity)
    error = (model.eps - eps) ** 2 if objective.prediction == "eps" else (model.x_0 - x_0) ** 2
    if objective.snr_weight_max:
        error = error * (1 + (abar / (1 - abar)).clamp(max=objective.snr_weight_max))
    simple = error.mean(dim=(1, 2, 3))
    lip_sync = (error * mouth_mask).sum(dim=(1, 2, 3)) / (3 * mouth_mask.sum(dim=(1, 2, 3))).clamp(min=1)
    losses = {"simple": simple, "lip_sync": lip_sync}
    total = simple + objective.lip_sync_weight * lip_sync
    if model.nu is not None:
        losses["vlb"] = variational_bound(schedule, model, x_0, x_t, t)
        total = total + objective.vlb_weight * losses["vlb"]
    return {"loss": total, **losses}


def variational_bound(schedule: Schedule, model: Denoised, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """L_vlb of each sample [B], bits a dimension: trains the variance alone, for the mean is detached.

    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), and the discretised NLL at t = 0 (Ho et al. 2020, eq. 5 and 13).
    """
    assert model.nu is not None
    of_x_0, of_x_t = schedule.posterior_mean_weights()
    mean_q = at(of_x_0, t, x_0) * x_0 + at(of_x_t, t, x_0) * x_t
    mean_p = at(of_x_0, t, x_0) * model.x_0.detach() + at(of_x_t, t, x_0) * x_t
    log_q = at(schedule.posterior_variance.log(), t, x_0)
    log_p = model.nu * at(schedule.betas.log(), t, x_0) + (1 - model.nu) * log_q
    kl = 0.5 * (log_p - log_q + torch.exp(log_q - log_p) + (mean_q - mean_p) ** 2 * torch.exp(-log_p) - 1)
    nll = discretised_gaussian_nll(x_0, mean_p, 0.5 * log_p)
    return torch.where(t.view(-1, 1, 1, 1) == 0, nll, kl).mean(dim=(1, 2, 3)) / LN2


def discretised_gaussian_nll(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """-log of a Gaussian's mass in x's 1/255-wide bin, nats; the outermost bins reach to infinity."""
    centred, inv_std = x - mean, torch.exp(-log_std)
    cdf_above = _normal_cdf(inv_std * (centred + 1 / 255))
    cdf_below = _normal_cdf(inv_std * (centred - 1 / 255))
    mass = torch.where(x < -0.999, cdf_above, torch.where(x > 0.999, 1 - cdf_below, cdf_above - cdf_below))
    return -mass.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """tanh approximation of the standard normal's distribution function (Page 1977), as the field's codes use it."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def to_grayscale(frames: Tensor) -> Tensor:
    """RGB [..., 3, H, W] -> luma [..., 1, H, W] (ITU-R BT.601)."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=frames.dtype, device=frames.device)
    return F.conv2d(frames.reshape(-1, *frames.shape[-3:]), weights.view(1, 3, 1, 1)).view(
        *frames.shape[:-3], 1, *frames.shape[-2:]
    )
