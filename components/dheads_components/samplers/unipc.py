"""UniPC (Zhao et al. 2023, "UniPC: a unified predictor-corrector framework ...", arXiv 2302.04867)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dheads_cli.model.diffusion import Schedule
from dheads_cli.protocols import Denoise, Noise
from dheads_components.samplers.grid import checked_steps, half_log_snr, spread


class UniPC:
    """Predict with UniP-p (algorithm 2), evaluate, correct with UniC-p (algorithm 1), in terms of x_0. Deterministic.

    With alpha = sqrt(abar), sigma = sqrt(1 - abar), lambda = log(alpha / sigma), the probability flow from s to t is

        x_t = (sigma_t / sigma_s) x_s + alpha_t * integral from lambda_s to lambda_t of exp(lambda - lambda_t) x_0.

    The predictor puts in for x_0 the polynomial through the last p estimates, the corrector the one through these and
    the estimate at the predicted x_t, which the next predictor takes too: a step costs one evaluation. The orders of
    convergence are p and p + 1 (corollary 3.2, theorem 3.1). The paper's linear system for the coefficients a_m, solved
    exactly, says just this polynomial: each a_m is then inversely proportional to the free function B(h), which
    cancels. (Theorem 3.1 asks for a solution to the order alone, and so admits a_1 = 1/2 for a single term; B(h) then
    matters. Exactly solved, a first step that is huge in lambda is no danger: the corrector's weights there, of x_0(s)
    and x_0(t), are positive and below 1.)

    The first steps have the order that the estimates allow; each estimate is clamped to [-1, 1]. The steps are those
    of `grid.spread`; the paper takes them evenly in lambda or in t.

    Args:
        steps: noise levels, each one evaluation of the network.
        order: p, 1 to 3.
    """

    def __init__(self, steps: int = 10, order: int = 2) -> None:
        if order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, not {order}")
        self.steps, self.order = checked_steps(steps), order

    def __call__(self, denoise: Denoise, x_t: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
        """[B, 3, H, W] noised as the schedule's highest step says -> x_0 in [-1, 1]."""
        visited = spread(schedule, min(self.steps, len(schedule.timesteps)))
        abars, lambdas = visited.alphas_cumprod.tolist(), half_log_snr(visited).tolist()
        highest = len(abars) - 1
        estimates = [denoise(x_t, visited.timesteps[highest]).x_0.clamp(-1, 1)]  # of x_0, the newest first
        for i in reversed(range(highest)):  # s is i + 1, t is i
            estimates = estimates[: self.order]
            shrunk = ((1 - abars[i]) / (1 - abars[i + 1])) ** 0.5 * x_t
            predictor = interpolation_weights(lambdas[i + 1], lambdas[i], lambdas[i + 1 : i + 1 + len(estimates)])
            x_t = shrunk + abars[i] ** 0.5 * weighted_sum(predictor, estimates)
            estimates.insert(0, denoise(x_t, visited.timesteps[i]).x_0.clamp(-1, 1))
            if i == 0:
                break  # the lowest step: its estimate is the answer, and no step follows that a correction would serve
            corrector = interpolation_weights(lambdas[i + 1], lambdas[i], lambdas[i : i + len(estimates)])
            x_t = shrunk + abars[i] ** 0.5 * weighted_sum(corrector, estimates)
        return estimates[0]


def weighted_sum(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    """Of tensors of one shape."""
    return sum((w * tensor for w, tensor in zip(weights, tensors, strict=True)), start=torch.zeros_like(tensors[0]))


def interpolation_weights(s: float, t: float, nodes: Sequence[float]) -> list[float]:
    """Weights of f's values at the nodes in the integral of exp(lambda - t) f(lambda) over [s, t].

    f is the polynomial through these values. With u = (lambda - s) / (t - s), the weights make the integral exact for
    f = 1, u, u^2, ...: as many equations as there are nodes.
    """
    h = t - s
    places = (torch.tensor(nodes, dtype=torch.float64) - s) / h
    powers = torch.stack([places**j for j in range(len(nodes))])
    integrals = torch.tensor([exponential_moment(h, j) for j in range(len(nodes))], dtype=torch.float64)
    weights: list[float] = torch.linalg.solve(powers, integrals).tolist()
    return weights


def exponential_moment(h: float, j: int) -> float:
    """h times the integral of exp(h (u - 1)) u^j over [0, 1].

    With the exponential's power series it is h E[1 / (j + 1 + k)], k Poisson with mean h: no term cancels another,
    however small or large h is, as they do in the recursion 1 - (j / h) moment(j - 1).
    """
    total, poisson = 0.0, math.exp(-h)  # the probability of k
    for k in range(60 + int(2 * h)):
        total += poisson / (j + 1 + k)
        poisson *= h / (k + 1)
    return h * total
