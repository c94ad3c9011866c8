"""Moments of features that come bit by bit, and the Fréchet distance of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from dheads_components.metrics.gaussian import Moments, frechet_of, frechet_of_moments


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
