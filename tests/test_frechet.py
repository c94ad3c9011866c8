"""The Fréchet distance, where its formula has a plain answer."""

from __future__ import annotations

import numpy as np
import pytest
from clips import FakeClip, built_or_skip

from dheads_cli.conformance import assert_conforms
from dheads_components.metrics.frechet import Frechet, frechet_distance, halves


def test_distance_of_two_normal_distributions_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    white = rng.standard_normal((500, 4))
    white = (white - white.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    turn, _ = np.linalg.qr(rng.standard_normal((4, 4)))  # FD does not depend on the axes
    a = white * [1, 2, 3, 4] @ turn
    b = (white * [2, 2, 1, 0.5] + [3, 0, 0, 4]) @ turn
    assert frechet_distance(a, b) == pytest.approx(3**2 + 4**2 + 1**2 + 0 + 2**2 + 3.5**2)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_halves_share_no_clip_and_divide_each_speaker() -> None:
    speakers = ["s1"] * 6 + ["s2"] * 4
    for first, second in halves(speakers):
        assert sorted([*first, *second]) == list(range(10))
        assert [sum(speakers[index] == "s2" for index in half) for half in (first, second)] == [2, 2]


def frechet() -> Frechet:
    return built_or_skip(Frechet)


def test_frechet_keeps_the_contract() -> None:
    assert_conforms("metrics", frechet())


def test_real_frames_score_the_floor() -> None:
    metric = frechet()
    for seed in range(3):
        noise = np.random.RandomState(seed).randint(0, 256, (20, 32, 32, 3)).astype(np.uint8)
        clip = FakeClip(frames=noise)
        clip.landmarks = clip.landmarks[:20]
        metric.update(clip, clip)
    values = metric.compute()
    assert values["face FD"] == values["face FD of real halves"] > 0
