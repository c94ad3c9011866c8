"""The page of `dheads eval`: what is on it, that it stands alone, and which clips it calls best and worst."""

from __future__ import annotations

import base64
import csv
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import dheads
from corpus import make_corpus
from sample_folder import make_samples

from dheads_cli.data.media import read_audio, read_video
from dheads_cli.run.eval_clips import chosen_ids, difference, extremes
from dheads_cli.run.eval_curves import FROM_BEFORE, FROM_IDENTITY, FROM_REAL, Curves, mean_curve, series_of
from dheads_cli.run.eval_page import clips_table
from dheads_cli.run.eval_pairs import Pair, ScoredClip
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH, OTHER_REAL, Scores

ODD = "<b>&'odd"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with page.html, clips.csv and samples of four clips of two speakers; their recipe has an odd name."""
    folder = tmp_path_factory.mktemp("eval")
    samples = make_samples(folder / "samples", make_corpus(folder / "corpus", {"test": 4}), recipe=ODD)
    ended = dheads(
        "eval", samples, "--metrics", "psnr,mse", "--html", folder / "page.html", "--csv", folder / "clips.csv", "-q"
    )
    assert (ended.code, ended.stderr) == (0, "")
    return folder


def tags(page: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, {name: value or "" for name, value in attrs}))

    Reader().feed(page)
    return found


def test_the_page_fetches_nothing(evaluated: Path) -> None:
    page = (evaluated / "page.html").read_text()
    links = [attrs[name] for _, attrs in tags(page) for name in ("src", "href") if name in attrs]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"url\((?!#)|@import|https?://", page)
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_names_are_escaped(evaluated: Path) -> None:
    page = (evaluated / "page.html").read_text()
    assert ODD not in page
    assert "recipe &lt;b&gt;&amp;&#x27;odd" in page


def test_links_lead_to_films_that_play_with_sound(evaluated: Path, tmp_path: Path) -> None:
    found = tags((evaluated / "page.html").read_text())
    ids = {attrs["id"] for _, attrs in found if "id" in attrs}
    films = [attrs["src"] for tag, attrs in found if tag == "video"]
    assert len(films) == 2  # the darkest and the least dark one, by either metric
    assert {attrs["href"][1:] for tag, attrs in found if tag == "a"} <= ids
    path = tmp_path / "film.mp4"
    path.write_bytes(base64.b64decode(films[0].removeprefix("data:video/mp4;base64,")))
    frames = read_video(path, 25).frames
    assert frames.shape == (20, 32, 96, 3)  # real, generated, difference
    assert np.abs(read_audio(path, 16000)).max() > 0.01
    real, ours, apart = (float(part.mean()) for part in np.split(frames.astype(float), 3, axis=2))
    assert apart == pytest.approx(2 * (real - ours), abs=4)


def test_the_real_rows_are_always_there_and_what_measured_is_told(evaluated: Path) -> None:
    page = (evaluated / "page.html").read_text()
    report = json.loads((evaluated / "samples" / "eval.json").read_text())
    assert list(report["rows"]) == [GENERATED, OTHER_REAL, GROUND_TRUTH]
    assert report["rows"][OTHER_REAL]["n_clips"] == 4
    assert report["rows"][OTHER_REAL]["values"]["MSE"] > report["rows"][GENERATED]["values"]["MSE"] > 0
    assert report["rows"][GROUND_TRUTH]["values"]["MSE"] == 0
    assert "checkpoint_sha256 0123abcd" in page
    assert re.search(r"face_landmarker.task sha256 [0-9a-f]{12}", page)
    assert "metric mse" in page


def test_the_csv_is_also_written_where_wanted(evaluated: Path) -> None:
    assert (evaluated / "clips.csv").read_text() == (evaluated / "samples" / "eval.csv").read_text()
    with (evaluated / "clips.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12


def test_a_place_that_can_t_be_written_is_told_before_the_work(evaluated: Path) -> None:
    ended = dheads("eval", evaluated / "samples", "--metrics", "psnr", "--html", evaluated / "no" / "page.html")
    assert (ended.code, "does not exist" in ended.stderr, "eval: " in ended.stderr) == (2, True, False)


def clip(row: str, name: str, **values: Any) -> dict[str, Any]:
    return {"row": row, "id": name, "clip_id": name, "values": values}


def test_the_worst_clip_is_the_farthest_from_its_real_one() -> None:
    clips = [clip(GENERATED, name, r=r, blinks=b, PSNR=p, same=1.0) for name, r, b, p in
             (("a", 0.9, 0.1, 30.0), ("b", 0.2, 0.9, 40.0), ("c", 0.7, 0.5, 20.0), ("d", 0.6, 0.55, 35.0))]  # fmt: skip
    clips += [clip(GROUND_TRUTH, name, r=1.0, blinks=0.5, PSNR=math.inf, same=1.0) for name in "abcd"]
    found = extremes(clips)
    assert [each.id for each in found["r"].worst] == ["b", "d"]
    assert [each.id for each in found["r"].best] == ["a", "c"]
    assert {each.id for each in found["blinks"].worst} == {"a", "b"}  # too few blinks are as wrong as too many
    assert [each.id for each in found["PSNR"].worst + found["PSNR"].best] == ["c", "a", "b", "d"]
    assert "same" not in found
    assert chosen_ids(found, 3) == {
        "b": ["worst r 0.2", "worst blinks 0.9", "best PSNR 40"],
        "a": ["best r 0.9"],
        "c": ["best blinks 0.5", "worst PSNR 20"],
    }


def test_without_real_clips_the_ends_are_the_lowest_and_the_highest() -> None:
    found = extremes([clip(GENERATED, name, r=r, note="a text") for name, r in (("a", 0.9), ("b", 0.2))])
    assert chosen_ids(found, 9) == {"b": ["lowest r 0.2"], "a": ["highest r 0.9"]}


def test_remarks_of_a_clip_stand_together_in_the_last_column() -> None:
    notes = {"sync note": "no sound", "blinks note": "no face"}
    clips = [clip(GENERATED, "a", r=0.5, **notes), clip(GENERATED, "b", r=1)]
    shown = clips_table(Scores({}, clips))
    assert re.findall(r">([^<>]*)</th>", shown) == ["clip", "r", "remarks"]
    assert ">no sound; no face</td>" in shown
    assert "remarks" not in clips_table(Scores({}, clips[1:]))


def test_a_difference_is_doubled_and_clipped() -> None:
    ours, real = np.array([[[[10, 200, 0]]]], np.uint8), np.array([[[[30, 190, 255]]]], np.uint8)
    assert difference(ours, real).tolist() == [[[[40, 20, 255]]]]


def test_a_curve_is_the_mean_of_the_clips_that_last_so_long() -> None:
    curve = mean_curve(0.5, [np.array([1.0, 2.0]), np.array([3.0])])
    assert curve.times.tolist() == [0.25, 0.75]
    assert curve.means.tolist() == [2.0, 2.0]
    assert curve.halves[0] == pytest.approx(12.706, abs=1e-3)  # Student's, 1 degree of freedom, standard error 1
    assert math.isnan(curve.halves[1])


def test_curves_follow_pictures_and_what_metrics_follow_by_the_second() -> None:
    class Steps:  # a metric over time
        weights = ""

        def update(self, clip: Any, reference: Any) -> dict[str, float]:
            return {}

        def compute(self) -> dict[str, float]:
            return {}

        def per_second(self, clip: Any) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
            return {"steps": np.array([1.0, 2.0])}

    def gray(levels: list[int]) -> ScoredClip:
        frames = np.repeat(np.array(levels, np.uint8), 48).reshape(-1, 4, 4, 3)
        return ScoredClip("a", "", 25.0, frames, frames[0], lambda frames: np.zeros((len(frames), 68, 2), np.float32))

    curves = Curves()
    pair = Pair(GENERATED, gray([10] * 5 + [14] * 5), gray([10] * 10), {})
    curves.add(pair.row, series_of(pair, {"steps": Steps()}))
    found = curves.measures()
    assert found[FROM_REAL][GENERATED].means.tolist() == [0, 4]  # two fifths of a second
    assert found[FROM_IDENTITY][GENERATED].means.tolist() == [0, 4]
    assert found[FROM_BEFORE][GENERATED].means.tolist() == [0.8]
    assert found["steps, by the second"][GENERATED].times.tolist() == [0.5, 1.5]
