"""Losses by noise level: the plain mean over the samples of each level, however they were batched."""

import pytest
import torch

from dheads_cli.run.noise_levels import by_noise_level, level_means, level_names


def means_of(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: values.mean().item() for name, values in losses.items()}


def test_levels_are_named_by_their_first_and_last_step():
    assert level_names(1000) == ["t_000-249", "t_250-499", "t_500-749", "t_750-999"]
    assert level_names(10) == ["t_0-2", "t_3-4", "t_5-7", "t_8-9"]
    assert level_names(2) == ["t_0-0", "t_1-1"]
    for n_timesteps in (2, 10, 1000):
        t = torch.arange(n_timesteps)
        rows = by_noise_level({"loss": t.float()}, t, torch.ones(n_timesteps), n_timesteps)
        for level in level_names(n_timesteps):
            first, last = level[2:].split("-")
            assert rows[f"share/{level}"].nonzero().flatten().tolist() == list(range(int(first), int(last) + 1))


def test_each_level_has_the_mean_of_its_samples_over_unequal_batches():
    t = torch.tensor([0, 249, 250, 999])
    first = by_noise_level({"loss": torch.tensor([1.0, 2.0, 5.0, 7.0])}, t, torch.ones(4), 1000)
    second = by_noise_level({"loss": torch.tensor([6.0] * 4)}, torch.tensor([100, 300, 300, 300]), torch.ones(4), 1000)
    means = {name: (a + b) / 2 for (name, a), b in zip(means_of(first).items(), means_of(second).values(), strict=True)}
    assert level_means(means) == pytest.approx({
        "loss": 39 / 8, "loss/t_000-249": 9 / 3, "loss/t_250-499": 23 / 4, "loss/t_750-999": 7.0
    })  # fmt: skip


def test_a_sample_that_was_drawn_more_often_counts_less():
    weights = torch.tensor([0.5, 0.5, 2.0])
    rows = by_noise_level({"loss": torch.tensor([4.0, 4.0, 1.0])}, torch.tensor([0, 0, 1]), weights, 4)
    assert rows["loss"].tolist() == [2.0, 2.0, 2.0]
    assert level_means(means_of(rows))["loss/t_0-0"] == pytest.approx(4.0)
    whole = by_noise_level({"loss": torch.tensor([4.0, 4.0, 1.0])}, torch.tensor([0, 1, 2]), weights, 1000)
    assert level_means(means_of(whole))["loss/t_000-249"] == pytest.approx((2 + 2 + 2) / 3)


def test_only_the_terms_themselves_carry_a_gradient():
    losses = {"loss": torch.ones(2, requires_grad=True)}
    rows = by_noise_level(losses, torch.tensor([0, 999]), torch.ones(2), 1000)
    assert {name for name, values in rows.items() if values.requires_grad} == {"loss"}


def test_what_has_no_level_is_logged_as_it_is():
    assert level_means({"grad_norm": 2.0, "samples_per_s": 30.0}) == {"grad_norm": 2.0, "samples_per_s": 30.0}
