"""Blinks and head motion of a video: how often, how long, from the seed alone; and files that give them."""

from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from dheads_cli.errors import DheadsError
from dheads_cli.model.control_series import blinking, control_series, turning
from dheads_cli.run.control_files import blinks_of, head_of
from dheads_components.metrics.blinks import find_blinks

FPS = 25
TEN_MINUTES = 600 * FPS


def openness(rate=0.3, n=TEN_MINUTES, fps=FPS, seed=0):
    return np.array(list(islice(blinking(rate, fps, np.random.default_rng(seed)), n)))


def spans(trace, fps):
    """First frame and duration, s, of each whole stretch in which the eyes are not fully open."""
    below = np.flatnonzero(np.diff(np.concatenate([[0], trace < 1 - 1e-9, [0]]).astype(int)))
    return [(a, (b - a) / fps) for a, b in below.reshape(-1, 2) if a > 0 and b < len(trace)]


def all_of(*given):
    return torch.stack(list(islice(control_series(*given), 1000)))


# Blinks


@pytest.mark.parametrize("seed", range(3))
def test_natural_blinks_are_as_many_and_as_long_as_real_people_s(seed):
    fine = openness(fps=200, n=600 * 200, seed=seed)
    blinks = spans(fine, 200)
    assert 0.24 <= len(blinks) / 600 <= 0.36
    assert all(0.27 <= duration <= 0.41 for _, duration in blinks)
    assert max(duration for _, duration in blinks) - min(duration for _, duration in blinks) > 0.08
    pauses = [(b - a) / 200 - duration for (a, duration), (b, _) in pairwise(blinks)]
    assert min(pauses) > 0.99
    assert np.std(pauses) > 1


def test_each_blink_is_found_by_the_metric_at_25_frames_a_second():
    trace = openness(seed=1)
    found = find_blinks(1 - trace, FPS)
    assert abs(len(found) - len(spans(trace, FPS))) <= 1
    assert 0.14 <= np.median([blink.duration_s for blink in found]) <= 0.24  # at half height; GRID's have 0.19


def test_eyes_close_faster_than_they_open():
    trace = openness(fps=200, n=20 * 200)
    begin, duration = spans(trace, 200)[0]
    blink = trace[begin : begin + round(duration * 200)]
    closed = np.flatnonzero(blink < 0.101)
    assert closed[0] < len(blink) - closed[-1]
    assert blink.min() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.8, 2.0])
def test_a_rate_is_kept_to(rate):
    assert len(spans(openness(rate, n=4 * TEN_MINUTES), FPS)) / 2400 == pytest.approx(rate, rel=0.12)


def test_the_first_blink_of_short_clips_is_as_likely_as_any():
    n_blinks = sum(len(find_blinks(1 - openness(n=3 * FPS, seed=seed), FPS)) for seed in range(300))
    assert n_blinks / 900 == pytest.approx(0.3, abs=0.07)


def test_no_blinks_are_open_eyes():
    assert (openness(0.0) == 1).all()
    assert (all_of(["eyes"], "none", "still", FPS, 0) == 1).all()


# Head


def test_a_natural_turn_begins_at_the_photo_s_and_is_small_and_smooth():
    degrees = np.array(list(islice(turning(FPS, np.random.default_rng(0)), TEN_MINUTES)))
    assert (degrees[0] == 0).all()
    np.testing.assert_allclose(degrees.std(axis=0), [3, 2, 1], rtol=0.1)
    assert np.abs(np.diff(degrees, axis=0)).max() < 0.6
    assert np.abs(degrees).max() < 9


# Series


def test_a_series_follows_from_the_seed_alone():
    first = all_of(["eyes", "head"], "natural", "natural", FPS, 7)
    assert first.shape == (1000, 5)
    assert first.dtype == torch.float32
    assert torch.equal(first, all_of(["eyes", "head"], "natural", "natural", FPS, 7))
    other = all_of(["eyes", "head"], "natural", "natural", FPS, 8)
    assert not torch.equal(first[:, 0], other[:, 0])
    assert not torch.equal(first[:, 2], other[:, 2])
    later = torch.stack(list(islice(control_series(["eyes", "head"], "natural", "natural", FPS, 7), 600, 1000)))
    assert torch.equal(first[600:], later)


def test_controls_come_in_the_model_s_order_in_the_network_s_units():
    given = ([[0.2, 0.4], [1.0, 0.9]], [[30.0, 15.0, -3.0]])
    torch.testing.assert_close(
        all_of(["head", "eyes"], *given, FPS, 0)[:3],
        torch.tensor([[1, 0.5, -0.1, 0.2, 0.4], [1, 0.5, -0.1, 1.0, 0.9], [1, 0.5, -0.1, 1.0, 0.9]]),
    )
    assert (all_of(["head"], "natural", "still", FPS, 0) == 0).all()


# Files


def test_files_have_a_line_for_each_frame(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("# eyes\n1\n0.5\n\n0\n")
    assert blinks_of(str(path)) == [[1, 1], [0.5, 0.5], [0, 0]]
    path.write_text("left,right\n1,0.5\n0.5; 1\n0 1\n")
    assert blinks_of(str(path)) == [[1, 0.5], [0.5, 1], [0, 1]]
    path.write_text("\ufeffYaw, Pitch, Roll\r\n-3,2.5,1e-1\r\n", encoding="utf-8")
    assert head_of(str(path)) == [[-3, 2.5, 0.1]]


def test_words_and_rates():
    assert [blinks_of(each) for each in ("natural", "none", "0.5", "0")] == ["natural", "none", 0.5, 0]
    assert [head_of(each) for each in ("still", "natural")] == ["still", "natural"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1\n1.7\n", 2), ("1\nx\n", 2), ("1\nnan\n", 2), ("1\n1,1\n", 2), ("0.3,0.2,0.1\n", 1),
        ("left,right\n1,\n", 2), ("closed\n1\n", 1),
    ],
)  # fmt: skip
def test_the_first_line_that_is_wrong_is_named(tmp_path, text, line):
    path = tmp_path / "eyes.csv"
    path.write_text(text)
    with pytest.raises(DheadsError, match=rf"eyes\.csv:{line}:"):
        blinks_of(str(path))


@pytest.mark.parametrize(("read", "text"), [(blinks_of, "-1"), (blinks_of, "2.5"), (blinks_of, "inf"),
                                            (blinks_of, "still"), (head_of, "none"), (head_of, "3")])  # fmt: skip
def test_other_words_and_rates_are_refused(read, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DheadsError, match=text):
        read(text)


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe1\n"])
def test_a_file_without_values_is_refused(tmp_path, content):
    (tmp_path / "eyes.csv").write_bytes(content)
    with pytest.raises(DheadsError, match=r"eyes\.csv"):
        blinks_of(str(tmp_path / "eyes.csv"))
