"""Gaussian diffusion: the float64 schedule, what the network's output means, and the training objective.

Notation is that of Ho et al. 2020 and Nichol & Dhariwal 2021: q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LN2 = math.log(2.0)


@dataclass(frozen=True)
class Schedule:
    """The tables of a diffusion on the CPU, one entry for each step it takes; float64, or float32 for parity alone.

    Attributes:
        betas: beta_t = 1 - abar_t / abar_{t-1} [N].
        alphas_cumprod: abar [N].
        timesteps: the original step, 0 ... n_timesteps - 1, that each entry stands for (the network is given these).
        n_timesteps: T of the full diffusion.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    timesteps: tuple[int, ...]
    n_timesteps: int

    @classmethod
    def from_betas(cls, betas: Tensor) -> Schedule:
        """The full schedule of these betas [T], in their arithmetic."""
        return cls(betas, torch.cumprod(1 - betas, 0), tuple(range(len(betas))), len(betas))

    @property
    def alphas_cumprod_prev(self) -> Tensor:
        """abar of the step before, 1 before the first [N]."""
        return shifted(self.alphas_cumprod)

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

    def alpha_cumprod_at(self, timestep: int) -> Tensor:
        """abar of an original step, one of `timesteps`: [1, 1, 1, 1]."""
        return self.alphas_cumprod[bisect_left(self.timesteps, timestep)].view(1, 1, 1, 1)

    def respace(self, n_steps: int) -> Schedule:
        """The schedule of a diffusion that visits only n_steps of these steps, first and last among them.

        Raises:
            ValueError: n_steps is not in 1 ... len(timesteps).
        """
        return self if n_steps == len(self.timesteps) else self._only(respaced(len(self.timesteps), n_steps))

    def until(self, share: float) -> Schedule:
        """The schedule of a diffusion that ends at this share (0 ... 1) of the steps; at least one stays."""
        return self._only(range(max(round(share * len(self.timesteps)), 1)))

    def _only(self, kept: Sequence[int]) -> Schedule:
        abar = self.alphas_cumprod[list(kept)]
        return Schedule(1 - abar / shifted(abar), abar, tuple(self.timesteps[i] for i in kept), self.n_timesteps)


def shifted(alphas_cumprod: Tensor) -> Tensor:
    """abar one step later, with 1 in front [N]."""
    return torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])


def respaced(n_all: int, n_steps: int) -> list[int]:
    """Which of n_all steps a diffusion of n_steps visits: Python's round of a running sum of (T - 1) / (n_steps - 1).

    One step visits the last alone.

    Raises:
        ValueError: n_steps is not in 1 ... n_all.
    """
    if not 1 <= n_steps <= n_all:
        raise ValueError(f"steps must be from 1 to {n_all}, not {n_steps}")
    if n_steps == 1:
        return [n_all - 1]
    stride = (n_all - 1) / (n_steps - 1)
    position, kept = 0.0, []
    for _ in range(n_steps):
        kept.append(min(round(position), n_all - 1))
        position += stride
    return kept


def cosine_betas(n_timesteps: int, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """float64 [T]: the cosine schedule (Nichol & Dhariwal 2021, eq. 17), beta clipped to max_beta."""

    def f(u: float) -> float:
        return math.cos((u + s) / (1 + s) * math.pi / 2) ** 2

    betas = [min(1 - f((i + 1) / n_timesteps) / f(i / n_timesteps), max_beta) for i in range(n_timesteps)]
    return torch.tensor(betas, dtype=torch.float64)


def linear_betas(n_timesteps: int, first: float = 1e-4, last: float = 0.02, max_beta: float = 0.999) -> Tensor:
    """float64 [T]: betas in even steps (Ho et al. 2020, section 4), which they give for T = 1000.

    For another T they are scaled by 1000 / T, so that the last step is as noisy, and clipped to max_beta.
    """
    scale = 1000 / n_timesteps
    return torch.linspace(scale * first, scale * last, n_timesteps, dtype=torch.float64).clamp(max=max_beta)


def cosine_schedule(n_timesteps: int) -> Schedule:
    """The full cosine schedule, the paper's."""
    return Schedule.from_betas(cosine_betas(n_timesteps))


def linear_schedule(n_timesteps: int) -> Schedule:
    """The full linear schedule."""
    return Schedule.from_betas(linear_betas(n_timesteps))


SCHEDULES: dict[str, Callable[[int], Schedule]] = {"cosine": cosine_schedule, "linear": linear_schedule}


def at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Entries t [B] of a table, as [B, 1, 1, 1] in the dtype and on the device of `like`."""
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
    """The paper's: the first three channels of the output are eps; x_0 = x_t / sqrt(abar) - sqrt(1 / abar - 1) eps."""
    eps, nu = split_output(output)
    of_x_t, of_eps = (1 / abar).sqrt().to(x_t.dtype), (1 / abar - 1).sqrt().to(x_t.dtype)
    return Denoised(of_x_t * x_t - of_eps * eps, eps, nu)


def denoised_from_identity_residual(output: Tensor, x_t: Tensor, abar: Tensor, identity: Tensor) -> Denoised:
    """x_0 = identity frame + output. Not in the paper: learns to speak in far fewer samples (docs/TRAINING.md)."""
    residual, nu = split_output(output)
    x_0 = identity + residual
    of_x_t, of_x_0 = (1 / (1 - abar)).sqrt().to(x_t.dtype), (abar / (1 - abar)).sqrt().to(x_t.dtype)
    return Denoised(x_0, of_x_t * x_t - of_x_0 * x_0, nu)


def split_output(output: Tensor) -> tuple[Tensor, Tensor | None]:
    """[B, 3 or 6, H, W] -> float32 prediction [B, 3, H, W] and nu' = (nu + 1) / 2 or None; nu' is not clamped."""
    prediction, nu = output[:, :3].float(), output[:, 3:].float()
    return prediction, (nu + 1) / 2 if nu.shape[1] else None


# (output [B, 3 or 6, H, W], x_t [B, 3, H, W], abar in the schedule's dtype [B or 1, 1, 1, 1], identity) -> Denoised
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
    abar = schedule.alphas_cumprod[t.cpu()].view(-1, 1, 1, 1).to(x_0.device)
    model = PREDICTIONS[objective.prediction](output, x_t, abar, identity)
    error = (model.eps - eps) ** 2 if objective.prediction == "eps" else (model.x_0 - x_0) ** 2
    if objective.snr_weight_max:
        error = error * (1 + (abar / (1 - abar)).clamp(max=objective.snr_weight_max)).to(error.dtype)
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

    x_0 is clamped to [-1, 1] as in sampling, and as the release does.

    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), and the discretised NLL at t = 0 (Ho et al. 2020, eq. 5 and 13).
    """
    assert model.nu is not None
    of_x_0, of_x_t = schedule.posterior_mean_weights()
    mean_q = at(of_x_0, t, x_0) * x_0 + at(of_x_t, t, x_0) * x_t
    mean_p = at(of_x_0, t, x_0) * model.x_0.detach().clamp(-1, 1) + at(of_x_t, t, x_0) * x_t
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
    """RGB [..., 3, H, W] -> luma [..., 1, H, W] (ITU-R BT.601, rounded as torchvision and so the release have it)."""
    weights = torch.tensor([0.2989, 0.587, 0.114], dtype=frames.dtype, device=frames.device)
    return F.conv2d(frames.reshape(-1, *frames.shape[-3:]), weights.view(1, 3, 1, 1)).view(
        *frames.shape[:-3], 1, *frames.shape[-2:]
    )
