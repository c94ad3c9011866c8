"""Samplers against diffusions whose exact answer is known (analytic.py)."""

from pathlib import Path

import pytest
import torch
from analytic import (
    MEAN,
    ODE_SAMPLERS,
    SCHEDULES,
    STD,
    Exact,
    build,
    convergence_order,
    distances,
    flow_error,
    gaussian,
    grids,
    heun_evaluations,
    linear_schedule,
    no_noise,
    orders,
    two_points,
)

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.diffusion import Denoised, Schedule, cosine_schedule
from dheads_components.samplers.grid import nearest, spread
from dheads_components.samplers.heun import edm_steps, noise_to_signal
from dheads_components.samplers.unipc import exponential_moment, interpolation_weights

COSINE = cosine_schedule(1000)
SAMPLERS = (*ODE_SAMPLERS, ("ddpm", {}), ("ddim", {"eta": 1.0}))
deterministic = pytest.mark.parametrize(("name", "options"), ODE_SAMPLERS)
every = pytest.mark.parametrize(("name", "options"), SAMPLERS)
on_both = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())


def noise_source(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator)


# The probability flow


@on_both
@pytest.mark.parametrize(
    ("name", "options", "least", "most"),
    [
        ("ddim", {}, 0.9, 1.1),
        ("dpmpp_2m", {}, 1.85, 2.15),
        ("unipc", {"order": 1}, 1.85, 2.2),
        ("unipc", {"order": 2}, 2.8, 3.2),
        ("unipc", {"order": 3}, 2.7, 4.2),  # its errors are so small that moving steps to whole t is felt
        ("heun", {}, 1.9, 2.4),
    ],
)
def test_errors_shrink_at_the_order_of_the_method(name, options, least, most, make):
    assert least < convergence_order(name, options, make(20_000)) < most


@on_both
def test_multistep_solvers_are_nearer_to_the_exact_answer_than_ddim(make):
    schedule = make(1000)
    for n, times in ((5, 4), (10, 8), (25, 40), (100, 40)):
        ddim, _ = flow_error(build("ddim", {}, n, schedule), schedule)
        for name, options in (("dpmpp_2m", {}), ("unipc", {"order": 2})):
            error, evaluations = flow_error(build(name, options, n, schedule), schedule)
            assert evaluations == n
            assert error < ddim / times, (name, n)


@on_both
def test_heun_is_nearer_to_the_exact_answer_than_ddim_from_50_evaluations(make):
    schedule = make(1000)
    for n, times in ((50, 2), (100, 4)):
        error, evaluations = flow_error(build("heun", {}, n, schedule), schedule)
        assert evaluations in (n, n - 1)
        assert error < flow_error(build("ddim", {}, n, schedule), schedule)[0] / times


@deterministic
@on_both
def test_all_steps_lead_to_the_exact_answer(name, options, make):
    sampler = registry.build("samplers", name, {**options, "steps": 1000})
    assert flow_error(sampler, make(1000), last_estimate=True)[0] < (0.01 if name == "ddim" else 1e-3)


@deterministic
@pytest.mark.parametrize("n_kept", [30, 400])
def test_a_flow_that_begins_at_low_noise_is_followed_from_there(name, options, n_kept):
    lower = Schedule(COSINE.alphas_cumprod[:n_kept], COSINE.timesteps[:n_kept], 1000)
    sampler = registry.build("samplers", name, {**options, "steps": 25})
    error, _ = flow_error(sampler, lower)
    assert error < (0.15 if name in ("ddim", "heun") else 0.01)


@deterministic
@pytest.mark.parametrize("steps", [10, 300])
def test_float32_is_enough(name, options, steps):
    sampler = registry.build("samplers", name, {**options, "steps": steps})
    x_t = torch.randn((1, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sampler(Exact(COSINE, gaussian), x_t.float(), COSINE, no_noise)
    expected = sampler(Exact(COSINE, gaussian), x_t, COSINE, no_noise)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)


@deterministic
def test_with_two_steps_all_deterministic_samplers_are_ddim(name, options):
    x_t = noise_source()((1, 3, 8, 8))
    found, expected = (
        registry.build("samplers", sampler, {**chosen, "steps": 2})(Exact(COSINE, gaussian), x_t, COSINE, no_noise)
        for sampler, chosen in ((name, options), ("ddim", {}))
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@every
def test_samples_of_two_points_are_these_points(name, options):
    x_t, noise = noise_source(1)((4, 3, 16, 16)), noise_source(2)
    sampler = registry.build("samplers", name, {**options, "steps": 40})
    x_0 = sampler(Exact(COSINE, two_points), x_t, COSINE, noise)
    on_data = (x_0.abs() - 0.5).abs() < 0.01
    assert on_data.float().mean() > 0.97
    assert (x_0 > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    if (name, options) in ODE_SAMPLERS:
        assert (x_0 * x_t > 0).all()  # the exact flow never crosses 0


# The distribution of what is drawn, without drawing: with a linear denoiser, x_0 is linear in x_T and every noise


def mean_and_std(sampler, denoise, schedule):
    """Of x_0 [1] for x_T standard normal: sample i > 0 of the batch has a 1 in place of the i-th draw, all else 0."""
    n_probes = 2 + len(schedule.timesteps)
    draws = iter(torch.eye(n_probes, dtype=torch.float64)[1:])
    x_0 = sampler(denoise, next(draws).view(-1, 1, 1, 1), schedule, lambda shape: next(draws).view(shape))
    offset, gains = x_0[0], x_0[1:] - x_0[0]
    return offset.item(), gains.square().sum().sqrt().item()


def std_of_the_last_estimate(schedule):
    abar = float(schedule.alphas_cumprod[0])
    return abar**0.5 * STD**2 / (abar * STD**2 + 1 - abar) ** 0.5


@on_both
@pytest.mark.parametrize(("name", "options"), [("ddpm", {}), ("ddim", {"eta": 1.0}), ("ddim", {"eta": 0.0})])
def test_samples_come_to_have_the_datas_mean_and_spread(name, options, make):
    schedule = make(1000)
    errors = []
    for steps in (10, 100, 1000):
        sampler = registry.build("samplers", name, {**options, "steps": steps})
        mean, std = mean_and_std(sampler, Exact(schedule, gaussian), schedule)
        assert mean == pytest.approx(MEAN, abs=1e-3)
        errors.append(abs(std - STD) / STD)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


@pytest.mark.parametrize("steps", [2, 10, 100])
def test_ddim_with_eta_1_has_the_spread_of_ddpm(steps):
    ddpm, ddim = (
        mean_and_std(registry.build("samplers", name, options), Exact(COSINE, gaussian), COSINE)
        for name, options in (("ddpm", {"steps": steps}), ("ddim", {"steps": steps, "eta": 1.0}))
    )
    assert ddim == pytest.approx(ddpm, rel=1e-6)


@on_both
@pytest.mark.parametrize("steps", [2, 5, 50])
def test_the_right_learned_variance_makes_ddpm_exact_at_any_number_of_steps(steps, make):
    # x_{t-1} given x_t is Gaussian: to beta~_t comes what x_0 varies given x_t, times its squared weight in the mean.
    schedule = make(1000)
    respaced = schedule.respace(steps)
    abar = respaced.alphas_cumprod
    variance_of_x_0 = STD**2 * (1 - abar) / (abar * STD**2 + 1 - abar)
    log_low, log_high = respaced.posterior_variance.log(), respaced.betas.log()
    exact = respaced.posterior_variance + respaced.posterior_mean_weights()[0] ** 2 * variance_of_x_0
    nu = dict(zip(respaced.timesteps, ((exact.log() - log_low) / (log_high - log_low)).tolist(), strict=True))
    known = Exact(schedule, gaussian)

    def denoise(x_t, t):
        model = known(x_t, t)
        return Denoised(model.x_0, model.eps, torch.full_like(x_t, nu[t]))

    mean, std = mean_and_std(registry.build("samplers", "ddpm", {"steps": steps}), denoise, schedule)
    assert std == pytest.approx(std_of_the_last_estimate(schedule), rel=1e-4)
    assert mean == pytest.approx(MEAN, abs=1e-3)


# Steps and evaluations


@every
@pytest.mark.parametrize("n_kept", [1, 2, 7])
def test_steps_are_evaluations_as_many_as_the_schedule_has(name, options, n_kept):
    schedule = cosine_schedule(7).respace(n_kept)
    for steps in range(1, 9):
        denoise = Exact(schedule, gaussian)
        registry.build("samplers", name, {**options, "steps": steps})(
            denoise, torch.zeros(1, 3, 2, 2), schedule, noise_source()
        )
        n_levels = min(steps, n_kept)
        assert len(set(denoise.asked)) == n_levels
        assert len(denoise.asked) == (heun_evaluations(schedule, n_levels) if name == "heun" else n_levels)
        assert denoise.asked[0] == schedule.timesteps[-1]
        assert denoise.asked[-1] == schedule.timesteps[0] or steps == 1


@every
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000])
def test_the_answer_is_the_estimate_at_the_lowest_step(name, options, steps):
    def denoise(x_t, t):  # says another x_0 at each step
        x_0 = torch.full_like(x_t, 0.001 * t - 0.5)
        abar = float(COSINE.alphas_cumprod[t])
        return Denoised(x_0, (x_t - abar**0.5 * x_0) / (1 - abar) ** 0.5, None)

    noise = noise_source(1)
    sampler = registry.build("samplers", name, {**options, "steps": steps})
    x_0 = sampler(denoise, noise((1, 3, 8, 8)), COSINE, noise)
    answer = torch.full_like(x_0, 0.499 if steps == 1 else -0.5)
    torch.testing.assert_close(x_0, answer, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 10, 500, 999, 1000])
def test_spread_keeps_as_many_steps_as_asked_for_and_both_ends(n_steps):
    for schedule in (COSINE, linear_schedule(1000)):
        steps = spread(schedule, n_steps).timesteps
        assert len(set(steps)) == n_steps
        assert list(steps) == sorted(steps)
        assert steps[-1] == 999
        assert steps[0] == 0 or n_steps == 1


def test_nearest_indices_never_repeat():
    values = torch.tensor([9.0, 5.0, 4.0, 3.0, 1.0])
    assert nearest(values, [9.0, 4.4, 1.0]) == [0, 2, 4]
    assert nearest(values, [4.1, 4.0, 3.9]) == [2, 3, 4]
    assert nearest(values, [1.0, 1.0, 1.0]) == [2, 3, 4]
    assert nearest(values, [9.0, 9.0, 9.0, 9.0, 9.0]) == [0, 1, 2, 3, 4]


def test_heun_takes_edms_noise_levels():
    sigmas = noise_to_signal(edm_steps(COSINE, 19))
    lowest = float(noise_to_signal(COSINE)[0])
    wanted = torch.tensor([(80 ** (1 / 7) + i / 17 * (lowest ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)])
    assert sigmas[-1] > 20000  # the highest step itself, left by Euler's step
    torch.testing.assert_close(sigmas[:-1].flip(0).float(), wanted, rtol=0.15, atol=2e-3)


def test_few_levels_do_not_make_heun_overshoot():
    for steps in range(2, 20):
        euler, heun = (flow_error(registry.build("samplers", "heun", {"steps": n}), COSINE)[0] for n in (2, steps))
        assert heun <= euler  # 2 levels are one step of Euler's


def test_heuns_steps_are_all_heuns_but_the_first_at_edms_number_of_levels():
    assert heun_evaluations(COSINE, 18) == 2 * 18 - 2


def test_heun_copes_with_a_schedule_that_is_all_above_its_highest_noise_level():
    high = Schedule(COSINE.alphas_cumprod[-3:], COSINE.timesteps[-3:], 1000)
    assert edm_steps(high, 3).timesteps == (997, 999)


# Weights


@pytest.mark.parametrize("h", [1e-6, 1e-3, 0.5, 3.0, 12.0, 40.0])
def test_moments_are_the_integrals_they_stand_for(h):
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    for j in range(4):
        assert exponential_moment(h, j) == pytest.approx(float((h * (h * (u - 1)).exp() * u**j).mean()), rel=1e-6)


def test_weights_integrate_polynomials_exactly():
    # The integral of exp(lambda - t) lambda^2 has the antiderivative exp(lambda - t) (lambda^2 - 2 lambda + 2).
    s, t, nodes = -1.0, 0.5, [0.5, -1.0, -3.5]
    weights = interpolation_weights(s, t, nodes)
    exact = (t**2 - 2 * t + 2) - torch.tensor(s - t).exp().item() * (s**2 - 2 * s + 2)
    assert sum(w * node**2 for w, node in zip(weights, nodes, strict=True)) == pytest.approx(exact, rel=1e-6)


def test_correcting_a_huge_first_step_is_stable():
    assert all(0 < weight < 1 for weight in interpolation_weights(-20.0, 5.0, [5.0, -20.0]))


# Noise and mistakes


@deterministic
def test_deterministic_samplers_draw_no_noise(name, options):
    sampler = registry.build("samplers", name, {**options, "steps": 5})
    sampler(Exact(COSINE, gaussian), torch.zeros(1, 3, 8, 8), COSINE, no_noise)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"steps": 0}) for name in ("ddpm", "ddim", "dpmpp_2m", "unipc", "heun")),
        ("ddim", {"steps": 5, "eta": 2}),
        ("unipc", {"order": 0}),
        ("unipc", {"order": 4}),
    ],
)
def test_impossible_options_are_refused(name, options):
    with pytest.raises(DheadsError, match="must be"):
        registry.build("samplers", name, options)


@pytest.mark.parametrize("table", [distances, grids, orders])
def test_the_documents_tables_are_what_is_measured(table):
    assert table() in (Path(__file__).parents[1] / "docs" / "SAMPLERS.md").read_text()
