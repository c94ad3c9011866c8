"""Which clips a recipe's data.keep leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from corpus import make_corpus
from test_dataset import training_set

from dheads_cli.data.clip_choice import choose_clips
from dheads_cli.data.manifest import MANIFEST, ManifestRow, read_manifest, write_rows
from dheads_cli.errors import DheadsError
from dheads_cli.recipe_io import load_recipe
from dheads_cli.run.recipe import describe_data


def clip(number: int, **quality: float) -> ManifestRow:
    return ManifestRow(f"c{number}", f"c{number}", "train", "s", f"c{number}.mp4", "ok", quality=quality)


CLIPS = [clip(k, face_height_px=40.0 + 10 * k, av_lag_frames=float(k - 2)) for k in range(5)]  # 40 ... 80, -2 ... 2


def test_limits_are_within() -> None:
    choice = choose_clips(CLIPS, {"face_height_px": (60.0, None), "av_lag_frames": (-2, 1)}, "here")
    assert [each.id for each in choice.clips] == ["c2", "c3"]
    assert choice.dropped == {"face_height_px < 60": 2, "av_lag_frames < -2": 0, "av_lag_frames > 1": 1}
    assert str(choice) == "2 of 5 clips (face_height_px < 60: 2, av_lag_frames > 1: 1)"
    assert choose_clips(CLIPS, {}, "here").clips == CLIPS


def test_a_clip_without_the_measure_is_left_out() -> None:
    choice = choose_clips([*CLIPS, clip(9, av_lag_frames=0.0)], {"face_height_px": (None, 100)}, "here")
    assert len(choice.clips) == 5
    assert choice.dropped["no face_height_px"] == 1


def test_an_unknown_measure_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(DheadsError, match=r"no measure 'face_hight_px'; did you mean 'face_height_px'\? Measures: av_"):
        choose_clips(CLIPS, {"face_hight_px": (60, None)}, "here")
    with pytest.raises(DheadsError, match="preprocess it again"):
        choose_clips([clip(0)], {"sharpness": (0.1, None)}, "here")


def test_nothing_left_says_which_rule_took_how_many() -> None:
    with pytest.raises(DheadsError, match=r"0 of 5 clips \(face_height_px < 90: 5, av_lag_frames > 0: 2\)"):
        choose_clips(CLIPS, {"face_height_px": (90, None), "av_lag_frames": (None, 0)}, "here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four training clips of 50 ... 80 px, and one for validation of 90."""
    made = make_corpus(tmp_path / "corpus", {"train": 4, "val": 1})
    rows = [
        ManifestRow(**{**vars(row), "quality": {"face_height_px": 50.0 + 10 * number}})
        for number, row in enumerate(read_manifest(made))
    ]
    write_rows(made / MANIFEST, rows)
    return made


def test_training_draws_from_the_clips_that_are_kept(folder: Path) -> None:
    assert len(training_set(folder).clips) == 4
    data = training_set(folder, keep={"face_height_px": (65, None)})
    assert sorted(each.quality["face_height_px"] for each in data.clips) == [70, 80]
    assert len(data.probabilities) == 2


def test_the_recipe_s_check_says_how_many_clips_are_kept(folder: Path, tmp_path: Path) -> None:
    text = {"base": "tiny", "name": "x", "data": {"path": str(folder), "keep": {"face_height_px": {"min": 65}}}}
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(text))
    loaded = load_recipe(str(path))
    found = describe_data(loaded.recipe, folder, "x")
    assert found == "2 of 4 clips (face_height_px < 65: 2) in train, 1 of 1 clips in val"


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ("{a: {min: 2, max: 1}}", "data.keep.a.max: is below min"),
        ("{a: {}}", "data.keep.a.max: is not given, and no min either"),
        ("{a: {mni: 1, max: 2}}", "data.keep.a.mni: unknown key; did you mean 'min'?"),
        ("{a: {min: low}}", "data.keep.a.min: must be a number, not 'low'"),
    ],
)
def test_wrong_limits_are_told(keep: str, words: str) -> None:
    with pytest.raises(DheadsError) as error:
        load_recipe("tiny", [f"data.keep={keep}"])
    assert words in str(error.value)


def test_one_limit_can_be_set_and_shown() -> None:
    loaded = load_recipe("tiny", ["data.keep.face_height_px.min=60", "data.keep.sharpness.min=0.1"])
    assert loaded.recipe.data.limits == {"face_height_px": (60, None), "sharpness": (0.1, None)}
    assert loaded.origins["data.keep.sharpness"] == "--set"
