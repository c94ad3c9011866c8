"""Steps of a batch: drawn as promised, and of whatever kind, the weighed loss is the mean over uniform steps."""

import pytest
import torch

from dheads_cli.model.timesteps import (
    MEMORY,
    MIN_SEEN,
    TIMESTEPS,
    UNIFORM_SHARE,
    LossAware,
    Stratified,
    Uniform,
    spread,
)

T = 100


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_at(t: torch.Tensor) -> torch.Tensor:
    """A loss that is large at few steps, as that of diffusion is."""
    return 10.0 * torch.exp(-t / 10) + 0.1


def taught(n_timesteps: int = T) -> LossAware:
    """Loss-aware steps that have seen each step equally often."""
    timesteps = LossAware(n_timesteps)
    t = torch.arange(n_timesteps).repeat(MEMORY)
    timesteps.observe(t, loss_at(t))
    return timesteps


def test_uniform_steps_are_those_of_runs_before_there_was_a_choice():
    t, weights = Uniform(1000).draw(16, generator(5))
    assert torch.equal(t, torch.randint(1000, (16,), generator=generator(5)))
    assert torch.equal(weights, torch.ones(16))


@pytest.mark.parametrize("n", [1, 7, 16, 150])
def test_stratified_steps_lie_one_in_each_equal_stretch(n):
    t, _ = Stratified(1000).draw(n, generator(n))
    places = t.sort().values.double() / 1000 * n  # sample i of n within i ... i + 1, to the rounding of whole steps
    assert ((places - torch.arange(n)) > -n / 1000).all()
    assert ((places - torch.arange(n)) < 1).all()


def test_stratified_samples_are_uniform_one_by_one():
    draws = torch.stack([Stratified(10).draw(4, generator(seed))[0] for seed in range(3000)])  # [3000, 4]
    counts = torch.bincount(draws[:, 0], minlength=10)  # one and the same place of the batch
    assert ((counts - 300) ** 2 / 300).sum() < 27.9  # chi-square with 9 degrees of freedom, p = 0.001


def test_systematic_draws_give_each_step_its_share_to_the_nearest_whole_number():
    probabilities = torch.tensor([0.5, 0.25, 0.05, 0.2], dtype=torch.float64)
    counts = torch.bincount(spread(probabilities, 20, generator()), minlength=4)
    assert ((counts - 20 * probabilities).abs() < 1).all()


@pytest.mark.parametrize("name", TIMESTEPS)
def test_the_weighed_loss_is_the_mean_over_uniform_steps(name):
    timesteps = taught() if name == "loss_aware" else TIMESTEPS[name](T)
    means = []
    for seed in range(2000):
        t, weights = timesteps.draw(8, generator(seed))
        means.append((weights * loss_at(t)).mean())
    found, expected = torch.stack(means), loss_at(torch.arange(T)).mean()
    assert found.mean() == pytest.approx(expected.item(), abs=4 * found.std().item() / 2000**0.5)


def test_stratified_and_loss_aware_losses_vary_less():
    def deviation(timesteps) -> float:
        draws = [timesteps.draw(8, generator(seed)) for seed in range(500)]
        return torch.stack([(weights * loss_at(t)).mean() for t, weights in draws]).std().item()

    uniform = deviation(Uniform(T))
    assert deviation(Stratified(T)) < 0.6 * uniform
    assert deviation(taught()) < 0.2 * uniform


def test_loss_aware_steps_are_in_proportion_to_the_root_of_the_mean_squared_loss():
    timesteps = LossAware(50)  # a bin is a step
    t = torch.arange(50).repeat_interleave(2 * MIN_SEEN)
    losses = torch.where(t < 25, 3.0, 1.0) * torch.tensor([2**0.5, 0.0]).repeat(50 * MIN_SEEN)  # root mean square 3, 1
    timesteps.observe(t, losses)
    expected = UNIFORM_SHARE / 50 + (1 - UNIFORM_SHARE) * torch.tensor([3.0] * 25 + [1.0] * 25) / 100
    assert torch.allclose(timesteps.probabilities().float(), expected)
    _, weights = timesteps.draw(200, generator())
    assert weights.max() < 1 / UNIFORM_SHARE


def test_loss_aware_steps_are_stratified_until_every_bin_is_known():
    timesteps = LossAware(T)
    t = torch.arange(T // 2).repeat(MEMORY)
    timesteps.observe(t, loss_at(t))
    assert torch.equal(timesteps.draw(16, generator())[0], Stratified(T).draw(16, generator())[0])


def test_old_losses_are_forgotten():
    timesteps = LossAware(50)
    for loss in (9.0, 1.0):
        for _ in range(10 * MEMORY):
            timesteps.observe(torch.arange(50), torch.full((50,), loss))
    assert torch.allclose(timesteps.state["mean_square"], torch.ones(50, dtype=torch.float64), rtol=0.01)


def test_what_was_learned_is_in_the_state():
    timesteps, again = taught(), LossAware(T)
    for name, tensor in timesteps.state.items():
        again.state[name].copy_(tensor)
    assert torch.equal(timesteps.draw(16, generator())[0], again.draw(16, generator())[0])


def test_losses_that_are_not_finite_teach_nothing():
    timesteps = taught()
    before = {name: tensor.clone() for name, tensor in timesteps.state.items()}
    timesteps.observe(torch.tensor([1, 2]), torch.tensor([torch.nan, torch.inf]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in timesteps.state.items())
