"""Schedules and the training objective against known answers."""

import math

import pytest
import torch

from dheads_cli.model.diffusion import (
    PREDICTIONS,
    Denoised,
    Objective,
    cosine_schedule,
    discretised_gaussian_nll,
    linear_schedule,
    q_sample,
    to_grayscale,
    training_losses,
    variational_bound,
)

SCHEDULE = cosine_schedule(1000)


def test_the_cosine_schedule_is_equation_17():
    abar = SCHEDULE.alphas_cumprod
    assert abar.dtype == torch.float64
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    for t in (0, 10, 500, 900):
        assert abar[t].item() == pytest.approx(f[t + 1] / f[0], rel=1e-9)
    assert SCHEDULE.betas.max().item() == pytest.approx(0.999)


def test_respacing_to_100_steps_visits_the_papers_steps():
    steps = SCHEDULE.respace(100).timesteps
    assert steps[:8] == (0, 10, 20, 30, 40, 50, 61, 71)
    assert steps[-2:] == (989, 999)
    assert SCHEDULE.respace(200).timesteps[:3] == (0, 5, 10)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 99, 250, 999, 1000])
def test_every_respacing_has_finite_tables(n):
    respaced = SCHEDULE.respace(n)
    assert len(respaced.timesteps) == n
    assert respaced.timesteps[-1] == 999
    for table in (respaced.betas, respaced.posterior_variance, *respaced.posterior_mean_weights()):
        assert torch.isfinite(table).all()
    assert (respaced.posterior_variance > 0).all()
    assert torch.equal(respaced.alphas_cumprod, SCHEDULE.alphas_cumprod[list(respaced.timesteps)])


def test_respacing_to_all_steps_changes_nothing():
    assert torch.equal(SCHEDULE.respace(1000).alphas_cumprod, SCHEDULE.alphas_cumprod)


@pytest.mark.parametrize("n", [0, 1001])
def test_impossible_respacings_are_refused(n):
    with pytest.raises(ValueError, match="steps must be from 1 to 1000"):
        SCHEDULE.respace(n)


def batch(size=16):
    generator = torch.Generator().manual_seed(0)
    x_0, eps, identity = (torch.randn(4, 3, size, size, generator=generator) for _ in range(3))
    return x_0.clamp(-1, 1), eps, identity.clamp(-1, 1), torch.tensor([1, 100, 500, 900])


def test_the_true_eps_gives_x_0_back():
    x_0, eps, identity, t = batch()
    x_t = q_sample(SCHEDULE, x_0, t, eps)
    abar = SCHEDULE.alphas_cumprod[t].float().view(-1, 1, 1, 1)
    model = PREDICTIONS["eps"](eps, x_t, abar, identity)
    torch.testing.assert_close(model.x_0, x_0, atol=2e-4, rtol=0)


def test_the_true_residual_gives_x_0_and_eps_back():
    x_0, eps, identity, t = batch()
    x_t = q_sample(SCHEDULE, x_0, t, eps)
    abar = SCHEDULE.alphas_cumprod[t].float().view(-1, 1, 1, 1)
    model = PREDICTIONS["identity_residual"](x_0 - identity, x_t, abar, identity)
    torch.testing.assert_close(model.x_0, x_0)
    torch.testing.assert_close(model.eps, eps, atol=1e-3, rtol=1e-3)


def losses_of(prediction, output, objective=None, mask=None):
    x_0, eps, identity, t = batch()
    mask = torch.ones(4, 1, 16, 16) if mask is None else mask
    objective = objective or Objective(prediction, snr_weight_max=0, vlb_weight=1e-4, lip_sync_weight=0.2)
    return training_losses(
        objective, SCHEDULE, output, x_0, q_sample(SCHEDULE, x_0, t, eps), eps, t, identity, mask
    )


def test_a_perfect_prediction_costs_nothing():
    x_0, eps, identity, _ = batch()
    assert losses_of("eps", eps)["loss"].abs().max() < 1e-10
    assert losses_of("identity_residual", x_0 - identity)["loss"].abs().max() < 1e-10


def test_the_lip_sync_loss_is_the_mean_error_inside_the_box_alone():
    _, eps, _, _ = batch()
    mask = torch.zeros(4, 1, 16, 16)
    mask[:, :, 8:12, 4:12] = 1
    wrong = eps.clone()
    wrong[:, :, 8:12, 4:12] += 2.0
    losses = losses_of("eps", wrong, mask=mask)
    torch.testing.assert_close(losses["lip_sync"], torch.full((4,), 4.0))
    torch.testing.assert_close(losses["simple"], torch.full((4,), 4.0 * 32 / 256))
    torch.testing.assert_close(losses["loss"], losses["simple"] + 0.2 * losses["lip_sync"])


def test_a_frame_without_a_mouth_box_has_no_lip_sync_loss():
    _, eps, _, _ = batch()
    losses = losses_of("eps", eps + 1, mask=torch.zeros(4, 1, 16, 16))
    assert torch.equal(losses["lip_sync"], torch.zeros(4))


def test_the_variational_bound_trains_the_variance_alone():
    _, eps, _, _ = batch()
    output = torch.cat([eps + 0.1, torch.zeros_like(eps)], 1).requires_grad_()
    losses_of("eps", output)["vlb"].sum().backward()
    assert output.grad is not None
    assert output.grad[:, :3].abs().max() == 0
    assert output.grad[:, 3:].abs().max() > 0


def test_the_variational_bound_vanishes_for_the_true_posterior():
    _, eps, _, _ = batch()
    lower_bound = torch.cat([eps, torch.full_like(eps, -1.0)], 1)  # nu' = 0: variance beta~, as q has
    assert losses_of("eps", lower_bound)["vlb"].abs().max() < 1e-4


def test_a_discretised_gaussian_is_a_distribution_over_the_256_levels():
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean, log_std in ((0.1, -2.0), (-0.9, -3.0)):
        nll = discretised_gaussian_nll(levels, torch.tensor(mean), torch.tensor(log_std))
        assert nll.neg().exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_grayscale_is_luma_with_the_release_s_weights():
    pure = torch.eye(3).view(3, 3, 1, 1)
    torch.testing.assert_close(to_grayscale(pure).flatten(), torch.tensor([0.2989, 0.587, 0.114]))


def test_the_linear_schedule_is_ho_et_al_s_and_as_noisy_at_any_length():
    schedule = linear_schedule(1000)
    assert schedule.betas[0].item() == pytest.approx(1e-4)
    assert schedule.betas[-1].item() == pytest.approx(0.02)
    assert schedule.betas.diff().std() < 1e-12
    ends = [linear_schedule(n).alphas_cumprod[-1].log().item() for n in (500, 1000, 4000)]
    assert ends == pytest.approx([ends[1]] * 3, rel=0.05)
    assert linear_schedule(5).betas.max() < 1  # short schedules stay finite


def test_the_lower_part_of_a_schedule_is_the_same_diffusion():
    lower = SCHEDULE.until(0.25)
    assert lower.timesteps == tuple(range(250))
    assert torch.equal(lower.alphas_cumprod, SCHEDULE.alphas_cumprod[:250])
    torch.testing.assert_close(lower.betas, SCHEDULE.betas[:250], rtol=1e-10, atol=1e-12)
    assert SCHEDULE.until(1e-9).timesteps == (0,)


def test_abar_is_found_by_its_original_step_after_respacing():
    respaced = SCHEDULE.respace(7)
    for i, t in enumerate(respaced.timesteps):
        assert respaced.alpha_cumprod_at(t).item() == SCHEDULE.alphas_cumprod[t].item() == respaced.alphas_cumprod[i]


def test_the_bound_s_mean_takes_x_0_clamped_as_sampling_does():
    x_0, x_t, t = torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.tensor([400])

    def bound(estimate):
        model = Denoised(torch.full_like(x_0, estimate), x_t, torch.full_like(x_0, 0.5))
        return variational_bound(SCHEDULE, model, x_0, x_t, t)

    assert torch.equal(bound(1.0), bound(3.0))
    assert bound(0.5) > bound(1.0)
