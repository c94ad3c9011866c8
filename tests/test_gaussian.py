"""Moments of features that come bit by bit, and the Fréchet distance of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from dheads_components.metrics.gaussian import Moments, SetDistance, frechet_of, frechet_of_moments


def moments_of(samples: np.ndarray, piece: int) -> Moments:
    moments = Moments()
    for begin in range(0, len(samples), piece):
        moments.add(samples[begin : begin + piece])
    return moments


def test_moments_in_pieces_are_those_of_the_whole() -> None:
    samples = np.random.default_rng(0).normal(3, 2, (50, 6)).astype(np.float32)
    moments = moments_of(samples, piece=7)
    assert moments.n == 50
    np.testing.assert_allclose(moments.mean, samples.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(moments.covariance, np.cov(samples.astype(np.float64), rowvar=False))


def test_the_distance_of_known_normal_distributions() -> None:
    a, b = np.diag([1.0, 4.0]), np.diag([9.0, 4.0])
    assert frechet_of(np.zeros(2), a, np.array([3.0, 4.0]), b) == pytest.approx(3**2 + 4**2 + (3 - 1) ** 2)
    assert frechet_of(np.zeros(2), a, np.zeros(2), a) == 0


def test_the_moments_of_two_sets_together_are_those_of_all_samples() -> None:
    samples = np.random.default_rng(0).normal(3, 2, (50, 6))
    both = moments_of(samples[:20], piece=20) + moments_of(samples[20:], piece=30)
    assert both.n == 50
    np.testing.assert_allclose(both.covariance, np.cov(samples, rowvar=False))
    assert (Moments() + both).n == (both + Moments()).n == 50


def test_a_set_has_the_distance_of_real_halves_as_its_floor() -> None:
    rng = np.random.default_rng(0)
    clips = [(speaker, rng.normal(1, 1, (400, 3)), rng.normal(0, 1, (400, 3))) for speaker in "abaabb"]
    distances = SetDistance()
    for clip in clips:
        distances.add(*clip)
    values = distances.values("FD", "frames")
    generated, real = (np.concatenate([clip[which] for clip in clips]) for which in (1, 2))
    assert values["FD"] == pytest.approx(frechet_of_moments(moments_of(generated, 99), moments_of(real, 99)))
    # a's clips go to the first, second, first half; b, who comes second, begins with the second
    first = [clips[place] for place in (0, 3, 4)]
    second = moments_of(np.concatenate([clips[place][2] for place in (1, 2, 5)]), 99)
    for name, which in (("FD of halves", 1), ("FD of real halves", 2)):
        one = moments_of(np.concatenate([clip[which] for clip in first]), 99)
        assert values[name] == pytest.approx(frechet_of_moments(one, second))
    assert values["FD of real halves"] < 0.02 < 2.5 < values["FD of halves"]
    assert values["FD frames"] == 2400


def test_one_clip_has_no_halves() -> None:
    distances = SetDistance()
    assert distances.values("FD", "frames") == {}
    distances.add("a", np.eye(3), np.eye(3))
    assert distances.values("FD", "frames") == {"FD": pytest.approx(0), "FD frames": 3}


def test_equal_samples_of_too_few_are_at_no_distance() -> None:
    few = moments_of(np.random.default_rng(0).random((10, 64)), piece=10)  # a covariance of rank 9
    assert frechet_of_moments(few, few) == pytest.approx(0, abs=1e-5)


class Shrunken(torch.nn.Module):
    """A picture as 12 features: the means of its quarters."""

    num_features = 12

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pictures.double(), 2).flatten(1)


def test_it_is_torchmetrics_fid_over_the_same_features() -> None:
    torch.manual_seed(0)
    real = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    other = (real[:30] // 2 + torch.randint(0, 90, (30, 3, 8, 8))).to(torch.uint8)
    theirs = FrechetInceptionDistance(feature=Shrunken(), input_img_size=(3, 8, 8))
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(other, real=False)
    ours = [moments_of(Shrunken()(each).numpy(), piece=9) for each in (other, real)]
    assert frechet_of_moments(*ours) == pytest.approx(float(theirs.compute()), rel=1e-4)
