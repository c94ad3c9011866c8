"""Which row of the paper a recipe stands for, and which of its columns can be measured."""

from pathlib import Path

import pytest
from distributions import install

from dheads_cli import registry
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_model import Model
from dheads_cli.run.ablate_report import Row, label_of, labels_of, make_report, notes_of, paper_metrics, paper_values
from dheads_cli.run.ablate_report import table_of as table


def recipe(name: str = "a", **model: object) -> Recipe:
    return Recipe.model_validate({"name": name, "model": model})


def scored(recipe: Recipe, **values: float) -> Row:
    return Row(recipe.name, recipe, samples=Path("samples"), scores={"generated": {"n_clips": 4, **values}})


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ({}, "m_x 2, m_y 2"),
        ({"audio_context": 0, "grayscale_motion": True}, "m_x 2, m_y 0, gray"),
        ({"n_motion_frames": 0, "grayscale_motion": True}, "m_x 0, m_y 2"),  # no motion frame that could be gray
        ({"conditioning": {"use": "other", "heads": 3}}, "m_x 2, m_y 2, other"),
    ],
)
def test_a_label_says_what_the_paper_varies(model: dict[str, object], label: str) -> None:
    assert label_of(Model.model_validate(model)) == label


def test_the_paper_s_row_follows_from_the_settings() -> None:
    best = paper_values(recipe(grayscale_motion=True).model)
    assert best == {"CPBD": 0.0925, "MSE": 1025, "SSIM": 0.6225, "PSNR": 19.11, "LMD": 2.530, "WER": 0.77}
    assert paper_values(recipe(audio_context=3).model)["WER"] == 0.74
    for other in ({"n_motion_frames": 3}, {"conditioning": "other"}, {"audio_context": 4}):
        assert paper_values(recipe(**other).model) == {}


def test_two_recipes_that_stand_for_the_same_keep_their_names() -> None:
    rows = [Row("a", recipe("a")), Row("b", recipe("b")), Row("c", recipe("c", audio_context=1))]
    assert labels_of(rows) == ["m_x 2, m_y 2 (a)", "m_x 2, m_y 2 (b)", "m_x 2, m_y 1"]


def test_a_value_is_found_whatever_its_unit_and_stands_before_the_paper_s() -> None:
    values = {"PSNR [dB]": 20.5, "M-LMD [px]": 9.0, "LMD [px]": 1.5, "SSIM": None}
    report = make_report([scored(recipe(audio_context=1), **values)], [], {"WER": "why"})
    heads, rows = table(report)
    cells = dict(zip(heads, rows[0], strict=True))
    assert cells["PSNR"] == "20.50 (18.23)"
    assert cells["LMD"] == "1.500 (2.879)"
    assert cells["SSIM"] == "- (0.5782)"
    assert cells["WER"] == "- (0.80)"
    assert "WER is not measured: why" in notes_of(report)


def test_what_differs_between_rows_is_noted() -> None:
    small, large = recipe("a", size=32), recipe("b", size=64, audio_context=1)
    notes = notes_of(make_report([scored(small), scored(large)], [], {}))
    assert notes[1].startswith("m_x 2, m_y 2: 32 px, 200000 steps, 4 clips of ")
    assert notes[2].startswith("m_x 2, m_y 1: 64 px")


def test_a_metric_that_is_installed_later_fills_its_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, missing = [metric.use for metric in paper_metrics()[0]], paper_metrics()[1]
    assert {"mse", "ssim", "psnr", "lmd"} <= set(names)
    absent = [column for column, why in missing.items() if why == f"no metric called {column.lower()} is installed"]
    if not absent:
        pytest.skip("every column has its metric")
    source = "class Sharp:\n    weights = ''\n    def update(self, clip, reference): ...\n    def compute(self): ...\n"
    targets = ("sharp_module:Sharp", "no_module:Broken")
    points = {f"metrics/{column.lower()}": target for column, target in zip(absent, targets, strict=False)}
    install(tmp_path, "dheads-sharp", "1.0", points, {"sharp_module": source})
    monkeypatch.syspath_prepend(tmp_path)
    registry.entries.cache_clear()
    metrics, missing = paper_metrics()
    registry.entries.cache_clear()  # for the tests after this one
    assert {metric.use for metric in metrics} == {absent[0].lower(), *names}
    assert absent[0] not in missing
    assert all("no_module" in missing[column] for column in absent[1:2])
