"""Percentiles, outliers and histograms of made-up values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dheads_cli.run.data_stats.measures import distribution, in_words


def told(values: list[float]) -> dict[str, Any]:
    return distribution(np.array(values, np.float64), np.arange(len(values)) + 10, lambda row: f"clip{row}")


def test_numbers_of_known_values() -> None:
    numbers = told([*range(101), np.nan])
    assert (numbers["n"], numbers["missing"], numbers["mean"]) == (101, 1, 50)
    assert [numbers[mark] for mark in ("min", "p5", "p25", "median", "max")] == [0, 5, 25, 50, 100]
    assert (numbers["fences"], numbers["n_outside"]) == ([-125, 225], 0)


def test_outliers_are_named_farthest_first_and_kept_out_of_the_histogram() -> None:
    numbers = told([*np.linspace(0, 1, 99).tolist(), 50.0, -90.0])
    assert numbers["outliers"] == [
        {"id": "clip110", "line": 111, "value": -90}, {"id": "clip109", "line": 110, "value": 50}
    ]  # fmt: skip
    assert sum(numbers["histogram"]["counts"]) == 99
    assert numbers["histogram"]["edges"][0] == 0
    assert numbers["histogram"]["edges"][-1] == 1


def test_where_most_are_alike_what_lies_three_deviations_away_is_an_outlier() -> None:
    numbers = told([1.0] * 80 + [0.0, 2.0] * 9 + [20.0, -18.0])
    assert [each["value"] for each in numbers["outliers"]] == [20, -18]
    assert numbers["histogram"]["counts"] == [9, 80, 9]


def test_rounding_makes_no_outlier() -> None:
    assert told([0.1 + 0.2, 0.3, 0.3, 0.3])["n_outside"] == 0


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_nothing_known_is_no_distribution(values: list[float]) -> None:
    assert told(values) == {"n": 0, "missing": len(values)}


def test_one_value_has_a_histogram() -> None:
    assert sum(told([3.0])["histogram"]["counts"]) == 1


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        ("face_height_px", "face height [px]"),
        ("interpolated_frames", "interpolated [frames]"),
        ("sound_level_db", "sound level [dB]"),
        ("sharpness", "sharpness"),
        ("px", "px"),
    ],
)
def test_measures_are_told_in_words_with_their_unit(measure: str, words: str) -> None:
    assert in_words(measure) == words
