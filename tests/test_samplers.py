"""Samplers against a model whose exact answer is known: data drawn from a Gaussian."""

import pytest
import torch

from dheads_cli import registry
from dheads_cli.model.diffusion import Denoised, cosine_schedule

SCHEDULE = cosine_schedule(1000)
MEAN, STD = 0.2, 0.15  # of the data: far enough from +-1 that clamping x_0 does not matter


def exact_denoiser(x_t, t):
    """E[x_0 | x_t] for x_0 ~ N(MEAN, STD^2)."""
    abar = SCHEDULE.alphas_cumprod[t].float()
    gain = abar.sqrt() * STD**2 / (abar * STD**2 + 1 - abar)
    x_0 = MEAN + gain * (x_t - abar.sqrt() * MEAN)
    return Denoised(x_0, (x_t - abar.sqrt() * x_0) / (1 - abar).sqrt(), None)


def noise_source(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator)


def draw(name, **options):
    noise = noise_source(0)
    sampler = registry.build("samplers", name, options)
    return sampler(exact_denoiser, noise((4, 3, 32, 32)), SCHEDULE, noise)


@pytest.mark.parametrize(("name", "options"), [("ddpm", {"steps": 250}), ("ddim", {"steps": 250}),
                                               ("ddim", {"steps": 250, "eta": 1.0})])  # fmt: skip
def test_samples_have_the_datas_mean_and_spread(name, options):
    x_0 = draw(name, **options)
    assert x_0.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert x_0.std().item() == pytest.approx(STD, rel=0.05)


def test_ddim_nears_the_exact_map_as_steps_grow():
    # The probability flow of Gaussian data is linear: x_0 = MEAN + STD * (x_T - sqrt(abar_T) MEAN) / std of x_T.
    noise = noise_source(0)
    x_t = noise((1, 3, 16, 16))
    abar = SCHEDULE.alphas_cumprod[-1].float()
    exact = MEAN + STD * (x_t - abar.sqrt() * MEAN) / (abar * STD**2 + 1 - abar).sqrt()
    errors = []
    for steps in (10, 20, 40, 80):
        x_0 = registry.build("samplers", "ddim", {"steps": steps})(exact_denoiser, x_t, SCHEDULE, noise)
        errors.append((x_0 - exact).abs().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * errors[0]


def test_deterministic_ddim_draws_no_noise():
    def no_noise(shape):
        raise AssertionError("noise was drawn")

    registry.build("samplers", "ddim", {"steps": 5})(exact_denoiser, torch.zeros(1, 3, 8, 8), SCHEDULE, no_noise)


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_few_steps_are_enough_where_the_answer_is_known(name, steps):
    answer = torch.full((1, 3, 8, 8), 0.5)

    def denoise(x_t, t):
        abar = SCHEDULE.alphas_cumprod[t].float()
        return Denoised(answer, (x_t - abar.sqrt() * answer) / (1 - abar).sqrt(), None)

    noise = noise_source(1)
    x_0 = registry.build("samplers", name, {"steps": steps})(denoise, noise((1, 3, 8, 8)), SCHEDULE, noise)
    torch.testing.assert_close(x_0, answer, atol=1e-5, rtol=0)


def test_the_learned_variance_lies_between_beta_and_its_posterior():
    def with_nu(value):
        def denoise(x_t, t):
            model = exact_denoiser(x_t, t)
            return Denoised(model.x_0, model.eps, torch.full_like(x_t, value))

        noise = noise_source(0)
        sampler = registry.build("samplers", "ddpm", {"steps": 2})
        return sampler(denoise, noise((1, 3, 8, 8)), SCHEDULE, noise)

    assert torch.equal(with_nu(0.0), draw_once("ddpm", 2))
    assert not torch.equal(with_nu(0.0), with_nu(1.0))


def draw_once(name, steps):
    noise = noise_source(0)
    return registry.build("samplers", name, {"steps": steps})(exact_denoiser, noise((1, 3, 8, 8)), SCHEDULE, noise)


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 5, "eta": 2}])
def test_impossible_options_are_refused(options):
    from dheads_cli.errors import DheadsError

    with pytest.raises(DheadsError, match="must be"):
        registry.build("samplers", "ddim", options)
